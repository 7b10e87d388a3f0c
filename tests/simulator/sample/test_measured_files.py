"""The files that `make bench` converts are what it says that they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.converting import KINDS, Kind, write_file

from tests.simulator.sample.vendor_rows import records, rows_of
from tidepool_simulator.sample.vendor_files import VendorFile, meter_mapping

OF_ONE_RECORD = [kind for kind in KINDS if kind.name != "nightscout"]


@pytest.mark.parametrize("kind", OF_ONE_RECORD, ids=[kind.name for kind in OF_ONE_RECORD])
def test_each_row_of_the_files_that_are_measured_is_a_record(tmp_path: Path, kind: Kind) -> None:
    path = write_file(kind.name, tmp_path, 400)
    mapping = meter_mapping() | {"csv": {"delimiter": ";", "decimal": ","}}
    options = {"table": mapping} if kind.name == "table" else {}
    file = VendorFile(path.name, kind.name, path.read_bytes(), 400, 0, 0, options=options)

    assert len(records(rows_of(file))) == 400
