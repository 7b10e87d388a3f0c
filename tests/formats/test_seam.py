"""A format whose rows are not records goes the way of any other, from ``stage`` to the upload."""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from tests import PROJECT
from tests.factories import DAY, DEVICE, minute_of
from tests.formats.readers import (
    BROKEN,
    READERS,
    UNKNOWN,
    FooterReader,
    JoinedReader,
    TableReader,
    record,
    with_footer,
)
from tests.world import World
from tidepool_ingest.cli import main
from tidepool_ingest.formats import FORMATS, SourceReader, guess_format, read_manifest
from tidepool_ingest.formats.reader import Block, Reader
from tidepool_ingest.prepare.summary import described
from tidepool_ingest.stage import stage
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.quarantine import Place
from tidepool_ingest.staging.source_file import SourceFile
from tidepool_ingest.staging.work_area import PreparedBatch, WorkArea

TABLE = b"""#table
1;6.5;
2;5.5;7.5
3;;
broken
4;99;98.5
#note
5;99;4.5
6;4.5;99
7;3.5;8.5
"""
"""Its rows give no record, one or two, and of two records one, both or none is refused."""

VALUES = [("cbg", 1, 6.5), ("cbg", 2, 5.5), ("smbg", 2, 7.5), ("smbg", 5, 4.5), ("cbg", 6, 4.5)]
VALUES += [("cbg", 7, 3.5), ("smbg", 7, 8.5)]
PLACES = [Place(1, 1), Place(1, 2), Place(1, 2, 1), Place(1, 7, 1), Place(1, 8), Place(1, 9), Place(1, 9, 1)]


@pytest.fixture(autouse=True)
def _test_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    for reader in READERS:
        monkeypatch.setitem(FORMATS, reader.name, reader)


def ready(world: World, content: bytes, reader: type[Reader] = TableReader, **more: Any) -> int:
    options = {"name": "table.txt", "max_quarantined_percent": 100} | more
    return world.ready([], content=content, file={"format": reader.name}, **options)


def area_of(world: World, number: int) -> WorkArea:
    return WorkArea(world.root, world.row(number).content_key)


def values_of(lines: list[bytes]) -> list[tuple[str, int, float]]:
    minutes = {minute_of(minute): minute for minute in range(100)}
    return [(one["type"], minutes[one["time"]], one["value"]) for one in map(json.loads, lines)]


def places_of(area: WorkArea, prepared: PreparedBatch) -> list[Place]:
    return [
        chunk.place_of(ordinal)
        for _, plan in area.areas_with_records(prepared)
        for chunk in plan.chunks
        for ordinal in range(chunk.first_record, chunk.first_record + chunk.records)
    ]


# ---------------------------------------------------------------- one row, several records or none


@pytest.mark.parametrize("chunk_records", [1, 2, 3, 100])
def test_each_record_of_a_row_is_accepted_or_refused_by_itself(world: World, chunk_records: int) -> None:
    number = ready(world, TABLE, chunk_records=chunk_records)

    prepared = world.prepared(number)
    assert values_of(world.accepted(number)) == VALUES
    assert places_of(area_of(world, number), prepared) == PLACES
    assert (prepared.records, prepared.quarantined) == (12, 5)
    assert prepared.skipped == {"note": 2, "empty": 1}
    assert prepared.reasons == {
        "cbg": {"value-out-of-range": 2},
        "smbg": {"value-out-of-range": 2},
        "unreadable": {BROKEN: 1},
    }


def test_quarantine_holds_the_row_as_staged_and_what_a_person_calls_its_place(world: World) -> None:
    number = ready(world, TABLE, edits={"set": {"timezoneOffset": 60}})

    range_of = [{"code": "value-out-of-range", "pointer": "/value"}]
    assert sorted(world.quarantine(number), key=lambda one: (one["position"], one.get("recordOfRow", 0))) == [
        {
            "file": 1,
            "position": 4,
            "where": "line 5",
            "problems": [{"code": BROKEN, "pointer": ""}],
            "recordText": "broken",
        },
        {"file": 1, "position": 5, "where": "line 6", "problems": range_of, "recordText": "4;99;98.5"},
        {
            "file": 1,
            "position": 5,
            "recordOfRow": 1,
            "where": "line 6",
            "problems": range_of,
            "recordText": "4;99;98.5",
        },
        {"file": 1, "position": 7, "where": "line 8", "problems": range_of, "recordText": "5;99;4.5"},
        {
            "file": 1,
            "position": 8,
            "recordOfRow": 1,
            "where": "line 9",
            "problems": range_of,
            "recordText": "6;4.5;99",
        },
    ]
    assert all(json.loads(line)["timezoneOffset"] == 60 for line in world.accepted(number))


def test_what_tidepool_refuses_later_joins_quarantine_and_takes_no_other_records_place(world: World) -> None:
    number = ready(world, TABLE, chunk_records=2)
    area, prepared = area_of(world, number), world.prepared(number)
    before = world.quarantine(number)
    late = {at: [("late", "")] for at, place in enumerate(PLACES) if place.position in (2, 7)}

    for _ in range(2):
        area.add_to_quarantine(prepared, late)
        after = world.quarantine(number)
        assert after[: len(before)] == before
        added = [(one["position"], one.get("recordOfRow", 0)) for one in after[len(before) :]]
        assert added == [(2, 0), (2, 1), (7, 1)]


def test_parts_keep_the_places_of_their_records(world: World) -> None:
    day = 24 * 60
    rows = b"".join(b"%d;5.5;6.5\n" % (day * at) for at in range(6))
    number = ready(world, b"#table\n" + rows, part_records=4, chunk_records=3)

    prepared = world.prepared(number)
    assert len(prepared.parts) == 3
    expected = [Place(1, row, record) for row in range(1, 7) for record in (0, 1)]
    assert places_of(area_of(world, number), prepared) == expected


def test_the_same_file_gives_the_same_work_area(world: World) -> None:
    number = ready(world, TABLE)
    area = area_of(world, number)
    first = area.plan_path.read_bytes(), area.accepted_path.read_bytes(), area.quarantine_path.read_bytes()
    area.discard()

    summary = world.prepare(number, max_quarantined_percent=100)

    assert summary.skipped == {"note": 2, "empty": 1}
    assert "rows that are not readings: note 2, empty 1" in described(summary)
    again = area.plan_path.read_bytes(), area.accepted_path.read_bytes(), area.quarantine_path.read_bytes()
    assert again == first


def test_a_feed_reads_rows_twice_and_keeps_the_last_version_of_each_record(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "data_set_type", "continuous")
    feed = {"dataSetType": "continuous", "client": {"name": "org.example.test"}}
    number = ready(world, b"#table\n1;6.5;7.5\n1;5.5;7.5\n2;4.5;\n", data_set=feed)

    assert values_of(world.accepted(number)) == [("cbg", 1, 5.5), ("smbg", 1, 7.5), ("cbg", 2, 4.5)]
    assert places_of(area_of(world, number), world.prepared(number)) == [
        Place(1, 2),
        Place(1, 2, 1),
        Place(1, 3),
    ]


def test_records_of_rows_become_visible(world: World) -> None:
    number = ready(world, TABLE)

    world.upload(number)

    shown = sorted((row["type"], row["time"], row["value"]) for row in world.visible())
    assert shown == sorted((kind, minute_of(minute), value) for kind, minute, value in VALUES)


def test_a_file_of_nothing_but_notes_is_not_empty(world: World) -> None:
    number = ready(world, b"#table\n#note\n")

    assert world.prepared(number).skipped == {"note": 2}
    assert world.prepared(number).records == 0


def test_the_manifest_counts_rows_not_records(world: World) -> None:
    file = {"format": TableReader.name, "records": 10}
    world.ready([], content=TABLE, name="a.txt", file=file, max_quarantined_percent=100)

    world.stage([], "two", content=TABLE + b"#note\n", name="a.txt", file=file | {"records": 12})
    assert world.run(max_quarantined_percent=100).codes == ["file-records"]


# ---------------------------------------------------------------- a seekable copy, several files


RECORDS = [record(4 + at / 2, at) for at in range(9)]


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_reader_may_ask_for_a_seekable_copy(world: World, ending: str) -> None:
    content = with_footer(RECORDS)
    content = gzip.compress(content) if ending else content
    file = {"format": FooterReader.name, "sha256": hashlib.sha256(content).hexdigest(), "records": 9}

    number = world.ready([], content=content, name=f"a.bin{ending}", file=file)

    assert world.accepted(number) == RECORDS
    world.stage([], "two", content=content, name=f"a.bin{ending}", file=file | {"sha256": "0" * 64})
    assert world.run().codes == ["file-sha256"]


def joined(world: World, *contents: bytes, **more: Any) -> int:
    """Stage and prepare files as one source, a file of another format between the first and the others."""
    folder = world.stage([json.loads(record(9, 90))], name="other.ndjson")
    manifest = json.loads((folder / "manifest.json").read_text())
    (other,) = manifest["files"]
    files = [{"name": f"{at}.txt", "format": JoinedReader.name} for at in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        (folder / file["name"]).write_bytes(content)
    manifest["files"] = [files[0] | more, other, *files[1:]]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (number,) = world.plan().batches
    world.prepare(number, max_quarantined_percent=100)
    return number


def test_several_files_may_be_one_source(world: World) -> None:
    number = joined(world, b"low=4.5\nhigh=12\nunused=1\n", b"low@1\nnone@2\n", b"high@3\n")

    prepared = world.prepared(number)
    assert values_of(world.accepted(number)) == [("cbg", 90, 9), ("cbg", 1, 4.5), ("cbg", 3, 12)]
    assert places_of(area_of(world, number), prepared) == [Place(2, 0), Place(3, 0), Place(4, 0)]
    assert [(one["file"], one["position"], one["recordText"]) for one in world.quarantine(number)] == [
        (3, 1, "none@2"),
        (1, 2, "unused=1"),
    ]
    assert (prepared.records, prepared.skipped) == (4 + 1, {"value": 2})
    assert prepared.reasons == {"unreadable": {UNKNOWN: 2}}


@pytest.mark.parametrize(
    ("contents", "more", "code"),
    [
        ((b"low=4.5\n", b"\n"), {}, None),
        ((b"low=4.5\n", b""), {}, "file-empty"),
        ((b"low=4.5\n", b"low@1\n"), {"sha256": "0" * 64}, "file-sha256"),
        ((b"low=4.5\nhigh=5\n", b"low@1\n"), {"records": 2}, None),
        ((b"low=4.5\nhigh=5\n", b"low@1\n"), {"records": 1}, "file-records"),
    ],
)
def test_each_file_of_a_source_is_checked(
    world: World, contents: tuple[bytes, ...], more: dict[str, Any], code: str | None
) -> None:
    if code is None:
        assert joined(world, *contents, **more)
        return
    with pytest.raises(BatchError) as caught:
        joined(world, *contents, **more)
    assert caught.value.code == code


# ---------------------------------------------------------------- stage and validate


def test_rows_are_staged_as_they_stand_and_read_again(world: World, tmp_path: Path) -> None:
    file = UPath(tmp_path / "table.txt")
    file.write_bytes(TABLE)
    assert guess_format(file) == TableReader.name

    (folder,) = stage(file, world.root, world.user, data_set={"deviceId": DEVICE}, day=DAY)

    (staged,) = read_manifest(folder.path, world.user).files
    assert (staged.format, staged.records) == (TableReader.name, 10)
    assert gzip.decompress((folder.path / staged.name).read_bytes()) == TABLE
    (number,) = world.plan().batches
    world.prepare(number, max_quarantined_percent=100)
    assert values_of(world.accepted(number)) == VALUES


def test_records_are_staged_where_rows_cannot_be(world: World, tmp_path: Path) -> None:
    file = UPath(tmp_path / "a.bin")
    file.write_bytes(with_footer(RECORDS))

    (folder,) = stage(file, world.root, world.user, file_format=FooterReader.name)

    (staged,) = read_manifest(folder.path, world.user).files
    assert (staged.format, staged.records) == ("ndjson", len(RECORDS))
    assert gzip.decompress((folder.path / staged.name).read_bytes()).splitlines() == RECORDS


def test_validate_judges_the_records_and_counts_the_rows_that_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "table.txt").write_bytes(TABLE)

    assert main(["validate", str(tmp_path / "table.txt")]) == 1

    *_, records, rows = capsys.readouterr().out.splitlines()
    assert records == "12 records: 7 accepted, 5 rejected"
    assert rows == "3 rows are no reading: 1 empty, 2 note"


def test_verdicts_are_of_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").write_bytes(b"#table\n1;6.5;99\nbroken\n")

    assert main(["validate", "--verdicts", str(tmp_path / "a")]) == 1

    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["index"], one["accepted"], len(one["errors"])) for one in found] == [
        (0, True, 0),
        (1, False, 1),
        (2, False, 1),
    ]


# ---------------------------------------------------------------- the seam itself


def test_a_manifest_may_name_what_the_registry_knows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = UPath(world.stage([], content=TABLE, file={"format": TableReader.name}))
    assert read_manifest(folder, world.user)
    monkeypatch.delitem(FORMATS, TableReader.name)

    with pytest.raises(BatchError) as caught:
        read_manifest(folder, world.user)

    assert caught.value.code == "manifest-malformed"
    *names, last = (repr(name) for name, reader in FORMATS.items() if reader.in_manifests)
    assert f"{', '.join(names)} or {last}" in str(caught.value)


def test_lists_beside_the_records_of_a_block_are_as_long_as_they() -> None:
    with pytest.raises(ValueError, match="not as long"):
        Block(0, [b"{}"], positions=[0, 1])


def test_a_reader_is_closed_when_another_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    monkeypatch.setattr(TableReader, "close", lambda reader: closed.append(reader.name))
    (tmp_path / "a").write_bytes(TABLE)
    files = [
        SourceFile(UPath(tmp_path / "a"), TableReader.name, 1),
        SourceFile(UPath(tmp_path / "missing"), JoinedReader.name, 2),
    ]

    with pytest.raises(BatchError), SourceReader(files):
        pass

    assert closed == [TableReader.name]


def test_no_other_part_of_the_library_asks_which_format_it_is() -> None:
    library = PROJECT / "include" / "tidepool_ingest"
    names = {reader.name for reader in FORMATS.values()}
    asking = [
        f"{path.relative_to(library)}:{node.lineno}"
        for path in library.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Compare)
        for side in (node.left, *node.comparators)
        if isinstance(side, ast.Constant) and side.value in names
    ]

    assert asking == []
