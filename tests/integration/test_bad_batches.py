"""Batches that cannot be taken: one clear error each, the others go on, and a correction is taken up."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.factories import DAY, DEVICE, NONE, ORIGIN, readings
from tests.world import Outcome, World, a_world
from tidepool_ingest.errors import Disposition
from tidepool_ingest.ledger import BatchRow, BatchState
from tidepool_ingest.ledger.schema import batches
from tidepool_ingest.privacy import short_hash
from tidepool_ingest.staging import compression, local
from tidepool_ingest.staging.errors import BatchError

LINES = b"".join(json.dumps(record).encode() + b"\n" for record in readings(40))


@dataclass(frozen=True)
class Bad:
    """One way to stage a batch that cannot be taken."""

    name: str
    code: str
    spoil: Callable[[Path], Any]

    def __str__(self) -> str:
        return self.name


def manifest(**changes: Any) -> Callable[[Path], Any]:
    """Change top-level keys of the manifest; ``None`` takes one out."""

    def change(folder: Path) -> None:
        path = folder / "manifest.json"
        said = json.loads(path.read_bytes()) | changes
        path.write_text(json.dumps({key: value for key, value in said.items() if value is not None}))

    return change


def file(name: str = "data.ndjson", content: bytes | None = None, **said: Any) -> Callable[[Path], Any]:
    """Let the batch have one file, of this content unless it is to be missing."""

    def change(folder: Path) -> None:
        if content is not None:
            (folder / name).write_bytes(content)
        manifest(files=[{"name": name, "format": "ndjson"} | said])(folder)

    return change


def data_set(**body: Any) -> Callable[[Path], Any]:
    return manifest(dataSet={"deviceId": DEVICE} | body)


def text(content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / "manifest.json").write_bytes(content)


BAD = [
    Bad("malformed manifest", "manifest-malformed", text(b'{"userId": ')),
    Bad("manifest not UTF-8", "manifest-malformed", text(b'{"userId": "\xff"}')),
    Bad("manifest naming a key twice", "manifest-malformed", text(b'{"userId": "a", "userId": "b"}')),
    Bad("manifest of an array", "manifest-malformed", text(b"[]")),
    Bad("unknown key", "manifest-malformed", manifest(userid="0123456789")),
    Bad("unknown key of a file", "manifest-malformed", file(content=LINES, sha=1)),
    Bad("unknown edit", "manifest-malformed", manifest(edits={"rename": {"a": "b"}})),
    Bad("no files", "manifest-malformed", manifest(files=[])),
    Bad("another user", "manifest-user", manifest(userId="0123456789")),
    Bad("file above the folder", "file-name", file("../../data.ndjson")),
    Bad("two dots", "file-name", file("..")),
    Bad("absolute path", "file-name", file("/etc/passwd")),
    Bad("backslashes", "file-name", file("..\\data.ndjson")),
    Bad("chained storage", "file-name", file("zip::data.ndjson")),
    Bad("the manifest as data", "file-name", file("manifest.json")),
    Bad("a file twice", "file-name", manifest(files=[{"name": "data.ndjson", "format": "ndjson"}] * 2)),
    Bad("missing file", "file-missing", file("missing.ndjson")),
    Bad("missing file with digest", "file-missing", file("missing.ndjson", sha256="1" * 64)),
    Bad("wrong sha256", "file-sha256", file(sha256="0" * 64)),
    Bad("wrong count", "file-records", file(records=7)),
    Bad("empty file", "file-empty", file(content=b"")),
    Bad("blank file", "file-empty", file(content=b"\n \n")),
    Bad("empty gzip", "file-empty", file("data.ndjson.gz", gzip.compress(b"", mtime=0))),
    Bad("empty array", "file-empty", file("data.json", b"[]", format="json")),
    Bad("truncated gzip", "file-truncated", file("data.ndjson.gz", gzip.compress(LINES, mtime=0)[:-20])),
    Bad("gzip in name only", "file-compression", file("data.ndjson.gz", LINES)),
    Bad("gzip not in name", "file-compression", file("data.ndjson", gzip.compress(LINES, mtime=0))),
    Bad("UTF-16", "file-encoding", file(content=LINES.decode().encode("utf-16"))),
    Bad("no array", "file-not-array", file("data.json", LINES, format="json")),
    Bad("array cut short", "file-truncated", file("data.json", b'[{"a": 1}, {"b"', format="json")),
    Bad("refused body", "data-set-body", data_set(version="1")),
    Bad("unknown body field", "data-set-body", data_set(state="open")),
    Bad("U+0000 in its deviceId", "manifest-malformed", data_set(deviceId="a\0b")),
    Bad("U+0000 in its client's name", "manifest-malformed", data_set(client={"name": "a\0b"})),
    Bad("half a pair in its deviceId", "manifest-malformed", data_set(deviceId="\ud800")),
    Bad("a device id too long", "manifest-malformed", data_set(deviceId="a" * 501)),
    Bad("a client's name too long", "manifest-malformed", data_set(client={"name": "a" * 501})),
    Bad("U+0000 in a name", "manifest-malformed", data_set(client={"name": "a", "private": {"a\0b": 1}})),
    Bad("unknown deduplicator", "deduplicator", data_set(deduplicator={"name": "org.example.unknown"})),
    Bad(
        "deduplicator in capitals",
        "deduplicator",
        data_set(deduplicator={"name": "org.tidepool.deduplicator.device.deactivate.Hash"}),
    ),
    Bad(
        "deduplicator for continuous sets",
        "deduplicator",
        data_set(deduplicator={"name": "org.tidepool.deduplicator.dataset.drop.hash"}),
    ),
    Bad("no device id", "device-id-required", manifest(dataSet={"deviceModel": "Model 5"})),
]


@dataclass(frozen=True)
class Runs:
    """All bad batches and a good one in one run, and the run after all were corrected."""

    world: World
    first: Outcome
    states: dict[str, BatchRow]
    opened: int
    visible: int
    second: Outcome

    def number(self, bad: Bad) -> int:
        return self.states[batch_of(bad)].id


def batch_of(bad: Bad) -> str:
    return f"bad-{BAD.index(bad)}"


def corrected(world: World, bad: Bad) -> Path:
    return world.stage(readings(40, first=100 * BAD.index(bad)), batch_of(bad))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, empty_ledger: Path) -> Iterator[Runs]:
    with a_world(tmp_path_factory.mktemp("bad"), empty_ledger, World) as world:
        for bad in BAD:
            bad.spoil(corrected(world, bad))
        world.stage(readings(3, first=9_000), "good")
        first = world.run()
        rows = [world.row(number) for number in first.plan.batches]
        opened = len(world.ledger.data_sets.of_batches(first.plan.batches))
        visible = len(world.visible())
        for bad in BAD:
            corrected(world, bad)
        yield Runs(world, first, {row.batch_id: row for row in rows}, opened, visible, world.run())


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_it_fails_with_one_clear_error(runs: Runs, bad: Bad) -> None:
    error = runs.first.errors[runs.number(bad)]
    row = runs.states[batch_of(bad)]

    assert error.code == bad.code
    assert f"batch {DAY}/{short_hash(f'{DAY}/{row.user_id}/{row.batch_id}')}" in str(error)
    assert f"[{bad.code}]" in str(error)
    assert error.remedy in str(error)
    assert error.remedy
    assert error.disposition is Disposition.DATA
    assert (row.state, row.reason) == (BatchState.FAILED, bad.code)


HERE = {
    "malformed manifest": "it is not JSON (line 1, column 12)",
    "manifest not UTF-8": "it is not UTF-8 text (byte 13)",
    "manifest naming a key twice": "an object in it names a key twice",
    "unknown key": "key 4 of the manifest is not known (did you mean userId?)",
    "no files": "the manifest: names no file",
    "U+0000 in its deviceId": "/dataSet holds U+0000, which not every database can keep",
    "file above the folder": "/files/0/name: is not a plain file name",
    "missing file": "file 1",
    "wrong sha256": "file 1",
    "wrong count": "file 1: 40 instead of 7",
    "empty file": "file 1",
    "truncated gzip": f"file 1: after {len(gzip.compress(LINES, mtime=0)) - 20} bytes",
    "UTF-16": "file 1: it seems to be UTF-16 or UTF-32",
    "no array": "file 1: behind its first object there is more",
    "array cut short": "file 1, record 1 (counting from 0): the array does not end; a quote or bracket may "
    "be missing in this record",
    "refused body": "length-out-of-range at /version",
}
"""What the ledger keeps of where it is, by the name of the bad batch."""


@pytest.mark.parametrize("name", HERE)
def test_the_ledger_knows_where_it_is(runs: Runs, name: str) -> None:
    (bad,) = (bad for bad in BAD if bad.name == name)

    assert runs.states[batch_of(bad)].reason_detail == HERE[name]


def test_a_manifest_that_cannot_be_read_tells_of_no_device(runs: Runs) -> None:
    for bad in BAD:
        row = runs.states[batch_of(bad)]
        folder = short_hash(f"{DAY}/{row.user_id}/{row.batch_id}")
        if bad.code in ("manifest-malformed", "manifest-user", "file-name"):
            assert row.label == f"{DAY} folder {folder}"
        else:
            assert row.label in (
                f"{DAY} device {folder}",
                f"{DAY} Model 5 {folder}",
                f"{DAY} folder {folder}",
            )


def test_what_was_a_device_before_is_a_folder_from_the_next_plan_on(world: World) -> None:
    text(b"{")(world.stage(readings(2)))
    (number,) = world.plan().batches
    with world.ledger.database.writing() as connection:
        connection.execute(batches.update().values(label=f"{DAY} device 0123456789"))

    world.plan()

    assert world.row(number).label.startswith(f"{DAY} folder ")


def test_the_others_go_on(runs: Runs) -> None:
    assert len(runs.first.errors) == len(BAD)
    assert runs.states["good"].id in runs.first.uploaded
    assert runs.opened == 1
    assert runs.visible == 3


def test_corrected_batches_upload_on_the_next_run(runs: Runs) -> None:
    assert runs.second.codes == []
    assert runs.second.plan.done == 1
    assert len(runs.second.uploaded) == len(BAD)
    assert len(runs.world.visible()) == 3 + 40 * len(BAD)
    assert runs.world.all_right()


def test_the_error_holds_nothing_out_of_the_batch(world: World) -> None:
    folder = world.stage(readings(2), "canary-batch")
    body = {"deviceId": "canary-device", "canaryField": "canary-value", "version": "canary" * 50}
    manifest(dataSet=body, files=[{"name": "canary-file.ndjson", "format": "ndjson"}])(folder)
    (folder / "data.ndjson").rename(folder / "canary-file.ndjson")

    (error,) = world.run().errors.values()

    assert error.code == "data-set-body"
    assert "canary-value" not in repr(vars(error)) + str(error)
    assert "canary-device" not in repr(vars(error)) + str(error)
    assert "canary-file" not in repr(vars(error)) + str(error)
    assert world.user not in repr(vars(error)) + str(error)


def test_a_gzip_bomb(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "RATIO_FROM_BYTES", 1024 * 1024)
    bomb = gzip.compress(b" " * (64 * 1024 * 1024))
    world.stage(content=bomb, name="data.ndjson.gz", batch="bomb")
    world.stage(readings(2), "good")

    outcome = world.run()

    assert outcome.codes == ["file-bomb"]
    assert len(outcome.uploaded) == 1


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_damaged_gzip(world: World, share: float) -> None:
    packed = bytearray(gzip.compress(LINES, mtime=0))
    packed[int(len(packed) * share)] ^= 0xFF
    world.stage(content=bytes(packed), name="data.ndjson.gz")

    outcome = world.run()

    assert outcome.codes == ["file-damaged"]
    assert outcome.uploaded == {}


def test_the_second_of_two_files_is_named_by_its_number(world: World) -> None:
    folder = world.stage(readings(2))
    (folder / "more.ndjson").write_bytes(b"")
    names = ("data.ndjson", "more.ndjson")
    manifest(files=[{"name": name, "format": "ndjson"} for name in names])(folder)

    (error,) = world.run().errors.values()

    assert "file 2" in str(error)
    assert world.visible() == []


def test_a_file_that_disappears_is_found_missing_when_it_is_read(world: World) -> None:
    folder = world.stage(readings(2))
    (number,) = world.plan().batches
    (folder / "data.ndjson").unlink()

    with pytest.raises(BatchError, match=r"\[file-missing\]"):
        world.prepare(number)

    assert world.row(number).reason == "file-missing"


def test_storage_that_fails_is_tried_again_and_fails_no_batch(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.stage(readings(2))
    (number,) = world.plan().batches

    def refuse(*_args: Any, **_more: Any) -> Any:
        raise PermissionError("canary-path")

    with monkeypatch.context() as patch:
        patch.setattr(local, "open_file", refuse)
        with pytest.raises(BatchError, match=r"\[staging-unreadable\]") as caught:
            world.prepare(number)

    assert caught.value.disposition is Disposition.RETRIABLE
    assert "canary" not in str(caught.value)
    assert world.row(number).state is BatchState.PLANNED


@pytest.mark.parametrize("name", [NONE, ORIGIN, "org.tidepool.truncate", "org.tidepool.hash-deactivate-old"])
def test_deduplicators_that_work_for_normal_sets(world: World, name: str) -> None:
    world.stage(readings(4), data_set={"deduplicator": {"name": name}})

    outcome = world.run(allow_truncate=True)

    assert outcome.codes == []
    (number,) = outcome.plan.batches
    assert world.sets(number)[0].visible_rows == 4
    assert world.all_right()
