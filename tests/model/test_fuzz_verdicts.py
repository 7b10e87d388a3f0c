"""Recorded verdicts hold for every other spelling of their cases; see `fuzz_verdicts`."""

from __future__ import annotations

import pytest

from tests import PROJECT
from tests.model.fuzz_verdicts import MUTATIONS, RECORDED, cases_in, compare


def test_mutants_of_the_sample_get_their_verdicts() -> None:
    compared = compare(cases_in(PROJECT / "tests" / "data" / "datum-verdicts.ndjson"), records=1_000, seed=3)

    assert compared.differing == []
    assert set(compared.records) == set(MUTATIONS)
    assert compared.records.total() == 1_000


@pytest.mark.slow
@pytest.mark.skipif(not RECORDED.is_file(), reason="needs the folder `shared` beside the checkout")
def test_mutants_of_all_recorded_cases_get_their_verdicts() -> None:
    compared = compare(cases_in(RECORDED), records=50_000, seed=1)

    assert compared.differing == []
    assert compared.records.total() == 50_000
