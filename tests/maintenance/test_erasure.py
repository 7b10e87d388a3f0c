"""A person is taken out of ledger, staging and work area; what Tidepool still has is told."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

import tidepool_ingest.maintenance.erasure as erasing_module
from tests.factories import DAY, cbg, readings, set_data_set_state
from tests.world import World
from tidepool_ingest.ledger import ActionKind, ActionStatus, DataSetState
from tidepool_ingest.ledger.schema import batches, file_digests, metadata
from tidepool_ingest.maintenance.erasure import PersonErasure, UploadInProgressError
from tidepool_ingest.privacy import short_hash
from tidepool_ingest.staging import work_area
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.upload.closing import device_lease_name
from tidepool_ingest.window import Window

NEXT = DAY + timedelta(days=1)
BOTH = Window(DAY, NEXT)
WHO = "ada (command line)"


@pytest.fixture
def other(world: World) -> str:
    """Somebody else, of whom everything has to stay."""
    return world.add_user()


@pytest.fixture
def filled(world: World, other: str) -> World:
    """Two days of a person and one of somebody else, uploaded, and a folder that no run has met."""
    world.stage([*readings(20), cbg(50, 99)], "one")
    world.stage(readings(5, first=2000), "two", day=NEXT)
    world.stage(readings(3), "others", user=other)
    assert world.run(BOTH).codes == []
    world.stage([], "unfinished", day=NEXT + timedelta(days=1))
    return world


def erasing(world: World, user: str = "") -> PersonErasure:
    return PersonErasure(world.ledger, world.root, user or world.user)


def mentions(world: World, text: str) -> list[str]:
    """Return where a text still stands, in the ledger's rows and in names and contents of files."""
    found = []
    with world.ledger.database.reading() as connection:
        for table in metadata.sorted_tables:
            found += [table.name for row in connection.execute(select(table)) if text in str(row)]
    root = world.staging
    found += [str(path) for path in root.rglob("*") if text in path.relative_to(root).as_posix()]
    return found + [str(path) for path in root.rglob("*") if path.is_file() and text in path.read_text()]


def keys_of(world: World, user: str) -> set[str]:
    query = select(batches.c.content_key).where(batches.c.user_id == user)
    with world.ledger.database.reading() as connection:
        return set(connection.scalars(query))


def areas(world: World) -> set[str]:
    return {path.name for path in (world.staging / "_work").iterdir()}


def test_looking_changes_nothing(filled: World) -> None:
    before = keys_of(filled, filled.user)
    found = erasing(filled).find()

    assert (len(found.folders), len(found.batches), len(found.remaining)) == (3, 2, 2)
    assert keys_of(filled, filled.user) == before
    assert filled.ledger.actions.newest() == []


def test_nothing_of_the_person_stays_and_all_of_others_does(filled: World, other: str) -> None:
    sets = {
        str(data_set.data_set_id)
        for row in erasing(filled).find().batches
        for data_set in filled.sets(row.id)
    }
    others_key = keys_of(filled, other)

    found = erasing(filled).run(WHO)

    assert {one.data_set_id for one in found.remaining} == sets
    assert {(one.api_host, one.state) for one in found.remaining} == {(filled.api_host, "verified")}
    assert mentions(filled, filled.user) == []
    assert (keys_of(filled, filled.user), areas(filled)) == (set(), others_key)
    assert len(filled.visible()) == 25
    assert erasing(filled).find().is_empty
    assert len(erasing(filled, other).find().batches) == 1
    assert filled.run(BOTH).plan.done == 1


def test_digests_of_the_files_go_too(filled: World) -> None:
    address = f"{filled.staging / str(DAY) / filled.user / 'one' / 'data.ndjson'}"
    key = hashlib.sha256(address.encode()).hexdigest()

    def known() -> list[str]:
        with filled.ledger.database.reading() as connection:
            return list(connection.scalars(select(file_digests.c.path_key)))

    assert key in known()
    erasing(filled).run(WHO)
    assert len(known()) == 1
    assert key not in known()


def test_who_asked_is_noted_without_the_person(filled: World) -> None:
    erasing(filled).run(WHO)
    (note,) = filled.ledger.actions.newest()

    assert (note.actor, note.kind, note.status, note.batch) == (
        WHO,
        ActionKind.ERASE,
        ActionStatus.DONE,
        None,
    )
    detail = json.loads(str(note.detail))
    assert (detail["user"], detail["batches"], len(detail["left"])) == (short_hash(filled.user), 2, 2)
    assert filled.user not in str(note)


def test_what_people_asked_for_stays_without_the_batch(filled: World) -> None:
    batch = erasing(filled).find().batches[0].id
    asked = filled.ledger.actions.record("ada", ActionKind.CHECK, batch=batch)

    erasing(filled).run(WHO)

    assert filled.ledger.actions.get(asked).batch is None


@pytest.mark.parametrize("claim", ["batch", "device"])
def test_nothing_is_removed_while_something_is_uploaded(filled: World, claim: str) -> None:
    (batch, _) = erasing(filled).find().batches
    name = f"batch:{batch.id}" if claim == "batch" else device_lease_name(batch)
    with filled.ledger.leases.held(name, seconds=60), pytest.raises(UploadInProgressError, match="1 leases"):
        erasing(filled).run(WHO)

    assert len(erasing(filled).find().batches) == 2
    assert len(erasing(filled).find().folders) == 3
    assert filled.ledger.actions.newest() == []


@pytest.mark.parametrize("at", range(4))
def test_what_ends_in_the_middle_is_finished_by_the_next_attempt(
    filled: World, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Each folder and each work area is one step; the storage goes away at one of them."""
    removed: list[Any] = []
    really = erasing_module.remove_folder

    def remove(path: Any, **more: Any) -> None:
        if len(removed) == at:
            raise BatchError("staging-unwritable")
        removed.append(path)
        really(path, **more)

    whole = {one.data_set_id for one in erasing(filled).find().remaining}
    with monkeypatch.context() as patch:
        patch.setattr(erasing_module, "remove_folder", remove)
        patch.setattr(work_area, "remove_folder", remove)
        with pytest.raises(BatchError):
            erasing(filled).run(WHO)

    found = erasing(filled).run(WHO)

    assert {one.data_set_id for one in found.remaining} == whole
    assert mentions(filled, filled.user) == []
    assert erasing(filled).find().is_empty
    assert {note.status for note in filled.ledger.actions.newest()} == {ActionStatus.DONE}


def test_a_root_that_is_not_there_is_no_empty_one(filled: World) -> None:
    nowhere = PersonErasure(filled.ledger, filled.root / "nowhere", filled.user)

    with pytest.raises(BatchError, match=re.compile("staging", re.IGNORECASE)):
        nowhere.run(WHO)

    assert len(erasing(filled).find().batches) == 2


def test_a_data_set_that_was_given_up_is_not_told(filled: World) -> None:
    filled.run(BOTH, force=True, run="run-2")
    (first, *_) = erasing(filled).find().batches
    old = filled.sets(first.id)[0]
    filled.client.delete_data_set(str(old.data_set_id))
    set_data_set_state(filled.ledger, old.id, DataSetState.DELETED)

    assert old.data_set_id not in {one.data_set_id for one in erasing(filled).find().remaining}
    assert len(erasing(filled).find().remaining) == 3
