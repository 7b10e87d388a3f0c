"""The sample's exports: a ready batch of each format, which both jobs can take, the same each time."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from upath import UPath

from tidepool_ingest.formats import FORMATS, read_manifest
from tidepool_ingest.staging.batches import find_batches
from tidepool_simulator.sample import exports, write_sample_exports
from tidepool_simulator.sample.checker.staged import read_staging

DAY = date(2026, 11, 20)

RECORDS = {"ndjson", "json"}
"""Formats that the rest of the sample has."""


def test_each_format_that_a_manifest_may_name_is_there(tmp_path: Path) -> None:
    written = write_sample_exports(tmp_path, DAY)
    manifests = [
        read_manifest(folder.path, folder.user_id) for folder in find_batches(UPath(tmp_path), DAY, DAY)
    ]

    assert len(manifests) == len(written.batches)
    named = {file.format for manifest in manifests for file in manifest.files}
    assert named == {name for name, reader in FORMATS.items() if reader.in_manifests} - RECORDS
    assert {manifest.data_set_type for manifest in manifests} == {"normal", "continuous"}


def test_the_checker_reads_all_of_them(tmp_path: Path) -> None:
    written = write_sample_exports(tmp_path, DAY)
    batches = list(read_staging(tmp_path))

    assert all(batch.records is not None for batch in batches)
    assert sum(len(batch.records or ()) for batch in batches) > written.rows  # some rows make several
    kinds = {name for batch in batches for name in batch.formats}
    assert {"table (csv)", "table (parquet)", "table (xlsx)"} <= kinds


def test_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_sample_exports(tmp_path / name, DAY)

    def content(root: Path) -> dict[str, bytes]:
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    assert content(tmp_path / "one") == content(tmp_path / "other")


def test_what_no_library_reads_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "_NEEDED", {"study": ("no_such_library",), "diary": ("no_such_library",)})

    written = write_sample_exports(tmp_path, DAY)
    assert written.left_out == ("diary",)
    assert not [path for path in tmp_path.rglob("export.*") if path.suffix in (".parquet", ".xlsx")]
