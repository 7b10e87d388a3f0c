from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest
from upath import UPath

from tests import damage
from tests.staging.work_areas import KEY, fill
from tidepool_ingest.staging import local
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.quarantine import Place
from tidepool_ingest.staging.storage import write_whole
from tidepool_ingest.staging.work_area import Chunk, PreparedBatch, WorkArea


def names(area: WorkArea) -> list[str]:
    return sorted(name.rpartition("/")[2] for name in area.path.fs.find(area.path.path))


def test_what_is_prepared_is_read_again(root: UPath) -> None:
    area = WorkArea(root, KEY)
    prepared = fill(area)
    again = WorkArea(root, KEY)
    assert again.load() == prepared
    assert names(area) == ["accepted.ndjson", "prepared.json", "quarantine.ndjson", "quarantine.sha256"]
    assert area.path.path.endswith(f"/_work/{KEY}")
    first, second = prepared.chunks
    assert again.read_chunk(first) == [b'{"v":6.10}', b'{"v":"\xc3\xa9"}']
    assert again.read_chunk(second) == [b'{"v":3}']
    content = b'{"v":6.10}\n{"v":"\xc3\xa9"}\n'
    digest = hashlib.sha256(content).hexdigest()
    assert first == Chunk(
        index=0, first_record=0, offset=0, length=len(content), records=2, digest=digest, plain=True
    )
    assert (second.index, second.offset, second.first_record, second.plain) == (1, len(content), 2, False)


def test_a_chunk_is_read_by_its_range_only(bucket: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    area = WorkArea(bucket, KEY)
    area.begin()
    with area.accepted_writer() as accepted:
        chunks = [accepted.write([b"%06d" % number for number in range(9)]) for _ in range(5)]
    area.finish(
        PreparedBatch(content_key=KEY, chunk_records=1000, data_set={}, records=45, chunks=tuple(chunks))
    )
    wanted: list[tuple[str, int, int]] = []

    def read_range(path: UPath, offset: int, length: int, *, missing: str) -> bytes:
        wanted.append((path.name, offset, length))
        return b"".join(b"%06d\n" % number for number in range(9))

    monkeypatch.setattr("tidepool_ingest.staging.work_area.read_range", read_range)
    assert len(area.read_chunk(chunks[3])) == 9
    assert wanted == [("accepted.ndjson", 3 * 63, 63)]


def test_nothing_is_prepared_before_the_plan_is_written(root: UPath) -> None:
    area = WorkArea(root, KEY)
    assert area.load() is None
    area.begin()
    with area.accepted_writer() as accepted:
        accepted.write([b"{}"])
    assert area.load() is None
    with area.quarantine_writer():
        pass
    assert area.load() is None


def test_preparing_again_takes_the_older_plan_away_first(root: UPath) -> None:
    area = WorkArea(root, KEY)
    fill(area)
    area.begin()
    assert area.load() is None
    prepared = fill(area)
    assert area.load() == prepared


def test_a_writer_that_fails_leaves_no_file(root: UPath) -> None:
    area = WorkArea(root, KEY)
    area.begin()

    def write_and_stop() -> None:
        with area.accepted_writer() as accepted, area.quarantine_writer() as bad:
            accepted.write([b"{}"])
            bad.add(Place(1, 0), [("x", "")], b"{}")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_and_stop()
    assert names(area) == []
    assert area.load() is None


def test_an_accepted_record_is_one_line(tmp_path: Path) -> None:
    area = WorkArea(UPath(tmp_path), KEY)
    area.begin()
    with pytest.raises(ValueError, match="line break"), area.accepted_writer() as accepted:
        accepted.write([b"a", b"b\nc"])


@pytest.mark.parametrize("change", ["altered", "shorter", "gone"])
def test_a_chunk_that_is_not_what_was_written_is_told(root: UPath, change: str) -> None:
    area = WorkArea(root, KEY)
    prepared = fill(area)
    content = area.accepted_path.fs.cat_file(area.accepted_path.path)
    area.accepted_path.fs.rm_file(area.accepted_path.path)
    if change != "gone":
        write_whole(area.accepted_path, content[:-4] if change == "shorter" else content.replace(b"3", b"4"))
    with pytest.raises(BatchError) as caught:
        area.read_chunk(prepared.chunks[1])
    assert caught.value.code == "work-area-damaged"
    assert "the next try rebuilds it" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version":3}', b'{"version":3,"contentKey":"x"}'])
def test_a_plan_that_is_no_plan_counts_as_missing(tmp_path: Path, content: bytes) -> None:
    area = WorkArea(UPath(tmp_path), KEY)
    area.begin()
    write_whole(area.path / "prepared.json", content)
    assert area.load() is None


def test_each_bit_of_a_plan_counts(tmp_path: Path) -> None:
    area = WorkArea(UPath(tmp_path), KEY)
    fill(area)
    plan = area.plan_path.read_bytes()
    for at in range(len(plan)):
        area.plan_path.write_bytes(plan[:at] + bytes([plan[at] ^ 1 << at % 8]) + plan[at + 1 :])
        assert area.load() is None, at
    for length in range(0, len(plan), 7):
        area.plan_path.write_bytes(plan[:length])
        assert area.load() is None
    area.plan_path.write_bytes(plan)
    assert area.load() is not None


def test_a_plan_without_a_digest_is_read(tmp_path: Path) -> None:
    area = WorkArea(UPath(tmp_path), KEY)
    prepared = fill(area)
    area.plan_path.write_text(prepared.model_dump_json(by_alias=True))
    assert area.load() == prepared


@pytest.mark.parametrize("name", ["accepted.ndjson", "quarantine.ndjson", "prepared.json"])
@pytest.mark.parametrize("way", damage.WAYS)
def test_what_is_visibly_not_whole_counts_as_missing(root: UPath, name: str, way: str) -> None:
    area = WorkArea(root, KEY)
    prepared = fill(area)
    assert area.whole_plan() == prepared
    assert area.holds(prepared)

    damage.WAYS[way](area.path / name)

    assert area.is_quarantine_intact() is (name != "quarantine.ndjson")
    if (name, way) == ("accepted.ndjson", "flipped"):  # only reading it would show that
        assert not area.holds(prepared)
    else:
        assert area.whole_plan() is None


def test_a_quarantine_without_a_digest_is_taken_as_it_is(root: UPath) -> None:
    area = WorkArea(root, KEY)
    prepared = fill(area)
    damage.remove(area.path / "quarantine.sha256")
    assert area.whole_plan() == prepared


@pytest.mark.parametrize("content", [b"", b"nothing", b"[3]", b'["cd"]'])
def test_parts_are_found_by_what_is_left_of_their_list(tmp_path: Path, content: bytes) -> None:
    area, part = WorkArea(UPath(tmp_path), KEY), WorkArea(UPath(tmp_path), "cd" * 32)
    area.begin()
    part.begin()
    area.record_part_areas([part.content_key])
    recorded = (area.path / "parts.json").read_bytes()
    (area.path / "parts.json").write_bytes(content)
    area.drop_parts()
    (area.path / "parts.json").write_bytes(recorded[:-1])

    area.discard()

    assert not part.path.exists()


def test_a_plan_of_another_version_or_batch(tmp_path: Path) -> None:
    area = WorkArea(UPath(tmp_path), KEY)
    area.begin()
    area.finish(PreparedBatch(version=99, content_key=KEY, chunk_records=9, data_set={}, records=0))
    assert area.load() is None
    area.finish(PreparedBatch(content_key="cd" * 32, chunk_records=9, data_set={}, records=0))
    assert area.load() is None


def test_storage_failing_is_not_taken_for_an_unfinished_area(
    root: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    area = WorkArea(root, KEY)
    fill(area)

    def fail(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(type(area.path.fs), "open", fail)
    monkeypatch.setattr(local, "open_file", fail)
    with pytest.raises(BatchError) as caught:
        area.load()
    assert caught.value.code == "staging-unreadable"


def test_a_large_quarantine_is_written_as_it_grows(tmp_path: Path) -> None:
    area = WorkArea(UPath(tmp_path), KEY)
    area.begin()
    with area.quarantine_writer() as quarantine:
        for position in range(300):
            quarantine.add(Place(1, position), [("x", "")], b"y" * 10_000)
        parts = list(area.path.fs.find(area.path.path))
        assert len(parts) == 1
        assert Path(parts[0]).stat().st_size > 1_000_000
    assert len(area.quarantine_path.read_bytes().splitlines()) == 300


def test_local_files_and_folders_are_private(tmp_path: Path) -> None:
    fill(WorkArea(UPath(tmp_path / "staging"), KEY))
    work = tmp_path / "staging" / "_work"
    assert {stat.S_IMODE(path.stat().st_mode) for path in (work, work / KEY)} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (work / KEY).iterdir()} == {0o600}


def test_discard_removes_all_of_it(root: UPath) -> None:
    area = WorkArea(root, KEY)
    other = WorkArea(root, "cd" * 32)
    other.begin()
    other.finish(PreparedBatch(content_key="cd" * 32, chunk_records=9, data_set={}, records=0))
    fill(area)
    area.discard()
    assert names(area) == []
    assert area.load() is None
    area.discard()
    assert names(other) == ["prepared.json"]


@pytest.mark.parametrize("key", ["", "x", "../" + KEY[3:], KEY.upper(), KEY + "0"])
def test_a_content_key_is_a_digest(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="64 lower-case hex digits"):
        WorkArea(UPath(tmp_path), key)


def test_accepted_records_go_and_refused_ones_stay(root: UPath) -> None:
    area = WorkArea(root, KEY)
    area.drop_accepted()
    assert not area.has_rejected_records()
    fill(area)
    assert area.has_rejected_records()

    area.drop_accepted()

    assert names(area) == ["quarantine.ndjson", "quarantine.sha256"]
    assert area.load() is None
    area.discard()
    assert not area.has_rejected_records()
