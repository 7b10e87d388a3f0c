"""Our verdicts beside those recorded from the Platform, where the folder with them is at hand."""

from __future__ import annotations

import pytest

from tests import SHARED
from tidepool_ingest.model.conformance import conformance_in, main

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the folder `shared` beside the checkout")


@pytest.mark.parametrize(("folder", "cases", "stored"), [("conformance", 6588, 2371), ("real", 8994, 0)])
def test_every_verdict_is_the_platforms(folder: str, cases: int, stored: int) -> None:
    conformance = conformance_in(SHARED / folder)
    rows = conformance.rows.values()
    assert conformance.differing == []
    assert sum(row.cases for row in rows) == sum(row.exact for row in rows) >= cases
    assert sum(row.stored for row in rows) == sum(row.stored_exact for row in rows) >= stored


def test_the_table_tells_how_many(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(SHARED / "real")]) == 0
    assert "8994  100.00%  100.00%" in capsys.readouterr().out
