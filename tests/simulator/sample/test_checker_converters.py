"""The checker and the converters, which know nothing of each other, make the same of each row."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from tests.formats.web_page import exported, stored
from tests.model.examples import EXAMPLES
from tests.simulator.sample.vendor_twins import REJECTED, TWINS, Twin
from tidepool_ingest.errors import IngestError
from tidepool_ingest.formats import SourceReader
from tidepool_ingest.formats.reader import ReadingContext
from tidepool_ingest.staging.manifest import FileOptions
from tidepool_ingest.staging.source_file import SourceFile
from tidepool_ingest.staging.storage import GIVEN
from tidepool_simulator.sample import clarity_weeks, tidepool_exports, typed_tables, vendor_files
from tidepool_simulator.sample.checker import staged
from tidepool_simulator.sample.checker.content import Row, rows_of
from tidepool_simulator.sample.checker.files import UnreadableError, exported_values

DEVICE_ID = "Device-1"

HELD = "held"

Read = dict[int, list[list[Row] | str]]
"""By position of the row: what each of its records says."""


def by_the_checker(file: Mapping[str, Any], content: bytes, meant_as: tuple[str, ...]) -> Read | str:
    manifest = {"dataSet": {"deviceId": DEVICE_ID}, "meantAs": list(meant_as)}
    try:
        rows = list(staged._rows(dict(file), content, manifest))
    except UnreadableError:
        return HELD
    read: Read = {}
    for position, values in enumerate(rows):
        for value in values:
            said = REJECTED if value is None else _said(_object(value))
            read.setdefault(position, []).append(said)
    return read


def by_the_converter(
    path: Path, file: Mapping[str, Any], content: bytes, meant_as: tuple[str, ...]
) -> Read | str:
    path.write_bytes(content)
    options = FileOptions.model_validate_json(
        json.dumps({name: value for name, value in file.items() if name not in ("name", "format")})
    )
    source = SourceFile(UPath(path), file["format"], 1, below_root=GIVEN, options=options)
    read: Read = {}
    names: list[str] = []
    try:
        with SourceReader([source], ReadingContext(device_id=DEVICE_ID, meant_as=meant_as)) as reader:
            for block in reader:
                for position, line in zip(block.row_positions, block.lines, strict=True):
                    record = json.loads(line)
                    names += [record["origin"]["id"]] if "origin" in record else []
                    read.setdefault(position, []).append(_said(record))
                for row in block.rejected:
                    read.setdefault(row.position, []).append(REJECTED)
    except IngestError:
        return HELD
    # Of two records of one name, a feed would show one.
    assert len(names) == len(set(names))
    return dict(sorted(read.items()))


def _said(record: Mapping[str, Any]) -> list[Row]:
    """Return what a record says, but for its name, which each side makes in its own way."""
    return list(rows_of({name: value for name, value in record.items() if name != "origin"}))


def _object(value: object) -> Mapping[str, Any]:
    assert isinstance(value, Mapping)
    return value


def agree(path: Path, file: Mapping[str, Any], content: bytes, meant_as: tuple[str, ...] = ()) -> bool:
    mine, theirs = by_the_checker(file, content, meant_as), by_the_converter(path, file, content, meant_as)
    if isinstance(mine, str) or isinstance(theirs, str):
        assert mine == theirs
        return True
    assert {
        at: (mine.get(at), theirs.get(at)) for at in mine | theirs if mine.get(at) != theirs.get(at)
    } == {}
    return True


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("make", "options"),
    [
        (vendor_files.clarity_export, {}),
        (vendor_files.german_clarity_export, {}),
        (vendor_files.libreview_export, {"serial": vendor_files.OLD_READER}),
        (vendor_files.libreview_export, {"serial": vendor_files.NEW_READER}),
        (vendor_files.meter_table, {}),
        (typed_tables.study_table, {}),
        (typed_tables.diary_workbook, {}),
    ],
)
def test_they_agree_about_the_made_up_files(tmp_path: Path, make: Any, options: Any, seed: int) -> None:
    file = make(seed)

    assert agree(tmp_path / file.name, file.manifest_entry() | options, file.content)


def test_they_agree_about_three_weeks(tmp_path: Path) -> None:
    file = clarity_weeks.clarity_weeks()

    assert agree(tmp_path / file.name, file.manifest_entry(), file.content)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("make", [tidepool_exports.api_export, tidepool_exports.web_export])
def test_they_agree_about_what_came_out_of_tidepool(tmp_path: Path, make: Any, seed: int) -> None:
    file: vendor_files.VendorFile = make(seed)
    made = agree_in_all(tmp_path / file.name, file.format, file.content)

    assert (len(made), sum(not values for values in made)) == (file.rows, file.skipped)


@pytest.mark.parametrize("name", EXAMPLES)
def test_they_agree_about_each_type_that_came_out_of_tidepool(tmp_path: Path, name: str) -> None:
    record = stored(name) | {"id": "1" * 32, "uploadId": "upid_1"}
    owned = [record | {"_active": True, "createdTime": "2026-01-01T00:00:00Z"}]

    assert agree_in_all(tmp_path / "api.json", "tidepool-export", json.dumps(owned).encode())
    for units in ("mmol/L", "mg/dL"):
        rows = json.dumps(exported([record], units)).encode()
        assert agree_in_all(tmp_path / "web.json", "tidepool-web-export", rows)


def agree_in_all(path: Path, file_format: str, content: bytes) -> list[list[Any]]:
    """Compare what all rows say together: the checker leaves out links that the converter follows.

    What the converter rejects is of no interest to it: that is in quarantine.
    """
    (made,) = staged._EXPORTS[file_format]([list(exported_values(content))])
    read = [said for values in made for value in values if value is not None for said in _said(value)]
    found = by_the_converter(path, {"name": path.name, "format": file_format}, content, ())
    assert not isinstance(found, str)
    theirs = Counter(said for values in found.values() for value in values for said in _each(value))
    assert Counter(read).total() + sum(None in values for values in made) == theirs.total()
    del theirs[REJECTED]
    assert theirs <= Counter(read)
    return made


def _each(value: list[Row] | str) -> list[Row | str]:
    return [value] if isinstance(value, str) else [*value]


@pytest.mark.parametrize("twin", [twin for _, twin in TWINS], ids=[name for name, _ in TWINS])
def test_they_agree_about_each_trap(tmp_path: Path, twin: Twin) -> None:
    entry = {"name": "file.csv", "format": twin.format} | twin.entry

    assert agree(tmp_path / "file.csv", entry, twin.data, twin.meant_as)
