"""A work area in which something is not as it was written is rebuilt, and the upload goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from upath import UPath

from tests import damage
from tests.factories import NONE, cbg, minute_of
from tests.happenings import reconcile
from tests.world import World, a_world
from tidepool_ingest.errors import Disposition
from tidepool_ingest.ledger import BatchState, DataSetState
from tidepool_ingest.prepare import writer
from tidepool_ingest.prepare.classify import JudgedBlock
from tidepool_ingest.prepare.step import TooManyRejectedError
from tidepool_ingest.staging.encryption import KEYS_VARIABLE, decrypted
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.storage import read_blocks
from tidepool_ingest.staging.work_area import WorkArea
from tidepool_ingest.upload import reverify
from tidepool_simulator.rules import Rule

TOO_HIGH = Rule(type="cbg", pointer="/value", above=20)
KEY = Fernet.generate_key().decode()

FILES = ("accepted.ndjson", "prepared.json", "quarantine.ndjson")
WAYS = tuple(damage.WAYS)
MOMENTS = {
    "before opening": "open_data_set",
    "between chunks": "upload_data",
    "before the close": "close_data_set",
    "at read-back": "read_data",
}
CUT = {"part_records": 10}


@pytest.fixture(scope="module")
def shared_world(tmp_path_factory: pytest.TempPathFactory, empty_ledger: Path) -> Iterator[World]:
    with a_world(tmp_path_factory.mktemp("damaged"), empty_ledger, World) as world:
        world.simulator.rules.add(TOO_HIGH)
        yield world


def records() -> list[dict[str, Any]]:
    """Return 24 readings: one is rejected here (0), two only by Tidepool (4 and 21)."""
    values = {0: 9_999.5, 4: 22.5, 21: 23.5}
    return [cbg(number, values.get(number, 6.5)) for number in range(24)]


def ready(world: World, **options: Any) -> int:
    return world.ready(
        records(), user=world.add_user(), chunk_records=5, max_quarantined_percent=100, **options
    )


def area(world: World, number: int) -> WorkArea:
    return WorkArea(world.root, world.row(number).content_key)


def upload(world: World, number: int, **more: Any) -> None:
    world.upload(number, max_rejected_percent=100, **more)


def upload_in_tries(world: World, number: int) -> int:
    """Upload as Airflow does: try again what may succeed; return how often it was tried."""
    for tries in range(1, 9):
        try:
            upload(world, number)
        except BatchError as error:
            if error.disposition is not Disposition.RETRIABLE:
                raise
        else:
            return tries
    raise AssertionError("it is never done")


def is_done(world: World, number: int) -> bool:
    row = world.row(number)
    assert row.state is BatchState.VERIFIED
    assert (row.staged, row.accepted, row.quarantined) == (24, 21, 3)
    assert sorted(position for position, _ in world.refused(number)) == [0, 4, 21]
    assert len(world.visible(row.user_id)) == 21
    assert world.row(number).reason is None
    return True


def at(world: World, patch: pytest.MonkeyPatch, call: str, skip: int, harm: Any) -> list[str]:
    """Do harm right before a call of the client; return a list that then holds the call."""
    real, done, calls = getattr(world.client, call), [], []

    def struck(*given: Any, **more: Any) -> Any:
        calls.append(call)
        if len(calls) == skip + 1:
            done.append(call)
            harm()
        return real(*given, **more)

    patch.setattr(world.client, call, struck)
    return done


@pytest.mark.parametrize(
    ("name", "moment", "way"),
    # Each file at each moment, and in each way at several.
    [
        (name, moment, WAYS[(at + place) % 3])
        for at, name in enumerate(FILES)
        for place, moment in enumerate(MOMENTS)
    ],
)
def test_it_is_made_again_and_the_same_data_set_is_completed(
    shared_world: World, monkeypatch: pytest.MonkeyPatch, name: str, moment: str, way: str
) -> None:
    world = shared_world
    number = ready(world)
    path = area(world, number).path / name
    skip = 2 if moment == "between chunks" else 0
    done = at(world, monkeypatch, MOMENTS[moment], skip, lambda: damage.WAYS[way](path))

    upload(world, number)

    assert done
    world.prepare(
        number, max_quarantined_percent=100
    )  # what the upload did not need is found by the next run
    assert is_done(world, number)
    assert world.set_states(number) == [DataSetState.VERIFIED]
    found = reverify(world.context(), world.row(number))
    assert found is not None
    assert found.comparison.is_exact


@pytest.mark.parametrize(
    ("name", "way", "sealed"),
    [(name, way, (at + place) % 2 == 0) for at, name in enumerate(FILES) for place, way in enumerate(WAYS)],
)
def test_a_later_try_and_a_reverification_make_it_again(
    shared_world: World, monkeypatch: pytest.MonkeyPatch, name: str, way: str, sealed: bool
) -> None:
    if sealed:
        monkeypatch.setenv(KEYS_VARIABLE, KEY)
    world = shared_world
    number = ready(world)
    path = area(world, number).path / name
    damage.WAYS[way](path)

    upload(world, number)

    damage.WAYS[way](path)
    found = reverify(world.context(), world.row(number))
    assert found is not None
    assert found.comparison.is_exact
    world.prepare(number, max_quarantined_percent=100)
    if not sealed:
        assert is_done(world, number)
    assert (path.read_bytes()[:1] == b"g") == sealed


class Wear:
    """Damages the next file of a work area at each call of the client, until all have been."""

    def __init__(self, world: World, patch: pytest.MonkeyPatch, files: list[UPath], way: str) -> None:
        self._left = list(files)
        self._way = damage.WAYS[way]
        for call in MOMENTS.values():
            patch.setattr(world.client, call, self._wearing(getattr(world.client, call)))

    def _wearing(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def struck(*given: Any, **more: Any) -> Any:
            path = self._left.pop(0) if self._left else None
            if path is not None and path.exists():
                self._way(path)
            return real(*given, **more)

        return struck

    @property
    def is_over(self) -> bool:
        return not self._left


@pytest.mark.parametrize(("way", "sealed"), [("removed", False), ("flipped", True)])
def test_each_file_of_a_giant_batch_is_made_again(
    shared_world: World, monkeypatch: pytest.MonkeyPatch, way: str, sealed: bool
) -> None:
    if sealed:
        monkeypatch.setenv(KEYS_VARIABLE, KEY)
    world = shared_world
    number = ready(world, **CUT)
    files = damage.files_of(area(world, number))
    keys = [part.content_key for part in world.ledger.parts.of_batch(number)]
    assert len(files) == 4 + 3 * 2

    with monkeypatch.context() as patch:
        wear = Wear(world, patch, files, way)
        tried = upload_in_tries(world, number)

    assert tried < 5
    assert wear.is_over
    assert [part.content_key for part in world.ledger.parts.of_batch(number)] == keys
    for part in world.ledger.parts.of_batch(number):
        assert world.set_states(part.id) == [DataSetState.VERIFIED]
    world.prepare(number, max_quarantined_percent=100, **CUT)
    assert sealed or is_done(world, number)
    assert reverify(world.context(), world.row(number)) is not None


@pytest.mark.parametrize("chunk_records", [3, 24])
def test_it_comes_out_in_the_chunks_that_were_sent(
    shared_world: World, monkeypatch: pytest.MonkeyPatch, chunk_records: int
) -> None:
    """Under a deduplicator that cannot remove rows of an open set, another cut would need another set."""
    world = shared_world
    number = world.ready(
        records(),
        user=world.add_user(),
        chunk_records=chunk_records,
        max_quarantined_percent=100,
        data_set={"deduplicator": {"name": NONE}},
    )
    harmed = at(world, monkeypatch, "close_data_set", 0, lambda: shutil.rmtree(area(world, number).path.path))

    upload(world, number)

    assert harmed
    assert world.set_states(number) == [DataSetState.VERIFIED]
    assert is_done(world, number)


def test_what_tidepool_rejected_is_not_sent_to_it_again(
    shared_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = shared_world
    number = ready(world)
    at(world, monkeypatch, "upload_data", 3, lambda: damage.flip(area(world, number).accepted_path))
    world.recorder.sent.clear()

    upload(world, number)

    sent = [json.loads(request.body) for request in world.recorder.chunks]
    times = [record["time"] for body in sent for record in body]
    assert times.count(minute_of(4)) == 1
    assert is_done(world, number)


@pytest.mark.parametrize("way", ["truncated", "flipped"])
def test_it_is_made_again_on_an_object_store(world: World, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    world.simulator.rules.add(TOO_HIGH)
    world.stage(records())
    store = UPath(f"memory://{world.user}/staging")
    store.fs.put(world.root.path, store.path, recursive=True)
    world.root = store
    monkeypatch.setenv(KEYS_VARIABLE, KEY)
    (number,) = world.plan().batches
    world.prepare(number, chunk_records=5, max_quarantined_percent=100)
    files = damage.files_of(area(world, number))
    assert len(files) == 4

    with monkeypatch.context() as patch:
        wear = Wear(world, patch, files, way)
        assert upload_in_tries(world, number) == 1

    assert wear.is_over
    world.prepare(number, max_quarantined_percent=100)
    assert world.set_states(number) == [DataSetState.VERIFIED]
    assert len(world.visible()) == 21
    text = b"".join(decrypted(read_blocks(area(world, number).quarantine_path)))
    assert sorted(json.loads(line)["position"] for line in text.splitlines()) == [0, 4, 21]


# ---------------------------------------------------------------- what cannot go on


def _without_first(classifier: Any) -> Any:
    """Reject one record more than before, as the rules of another version might."""
    classify = classifier.classify

    def stricter(lines: list[bytes]) -> JudgedBlock:
        return classify([b'{"type": "nothing"}', *lines[1:]])  # type: ignore[no-any-return]

    classifier.classify = stricter
    return classifier


def test_where_the_parts_come_out_otherwise_it_stops(
    shared_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = shared_world
    staged = [cbg(number) for number in range(24)]
    number = world.ready(staged, user=world.add_user(), chunk_records=5, **CUT)
    (key, *_rest) = [part.content_key for part in world.ledger.parts.of_batch(number)]
    made = writer._classifier

    def harm() -> None:
        shutil.rmtree(area(world, number).beside(key).path.path)
        monkeypatch.setattr(writer, "_classifier", lambda *given: _without_first(made(*given)))

    at(world, monkeypatch, "upload_data", 0, harm)

    with pytest.raises(BatchError) as caught:
        upload(world, number)

    assert caught.value.code == "parts-differ"
    assert world.row(number).reason == "parts-differ"


def test_without_its_staged_files_it_says_so(shared_world: World) -> None:
    world = shared_world
    number = ready(world)
    damage.flip(area(world, number).accepted_path)
    (Path(world.row(number).folder) / "data.ndjson").unlink()

    with pytest.raises(BatchError) as caught:
        upload(world, number)

    assert caught.value.code == "file-missing"
    assert world.row(number).reason == "file-missing"
    reconcile(world)
    row = world.row(number)
    assert (row.state, row.reason) == (BatchState.FAILED, "file-missing")
    assert world.set_states(number) == [DataSetState.DELETED]
    shutil.rmtree(row.folder)


def test_more_rejected_than_before_stops_what_was_not_sent(
    shared_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = shared_world
    number = world.ready([cbg(number) for number in range(4)], user=world.add_user())
    damage.flip(area(world, number).plan_path)
    made = writer._classifier
    monkeypatch.setattr(writer, "_classifier", lambda *given: _without_first(made(*given)))

    with pytest.raises(TooManyRejectedError):
        world.upload(number, rejected_from=1)

    assert world.row(number).state is BatchState.HELD
    assert world.sets(number) == []


def test_what_is_damaged_each_time_is_left_to_the_next_try(
    shared_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = shared_world
    number = ready(world)
    load = world.context().work_area(world.row(number)).accepted_path
    with monkeypatch.context() as patch:
        patch.setattr(WorkArea, "read_chunk", _damaged)
        patch.setattr(WorkArea, "add_to_quarantine", lambda *given: None)
        with pytest.raises(BatchError) as caught:
            upload(world, number)
    assert caught.value.code == "work-area-damaged"
    assert load.exists()

    upload(world, number)

    assert is_done(world, number)


def _damaged(*_given: Any) -> list[bytes]:
    raise BatchError("work-area-damaged")
