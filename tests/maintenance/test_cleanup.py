"""What is over is tidied away; what somebody may still need stays, or is made anew."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update
from upath import UPath

from tests.factories import DAY, cbg, readings, set_batch_state, set_data_set_state
from tests.happenings import age, recheck, reconcile, tidy
from tests.world import World
from tidepool_ingest.errors import IngestError
from tidepool_ingest.guards import PreparedOtherwiseError
from tidepool_ingest.ledger import (
    BatchState,
    DataSetState,
    Purged,
    Rejection,
    TaskOrigin,
    lease_of_batch,
)
from tidepool_ingest.ledger.schema import (
    batches,
    chunks,
    data_sets,
    file_digests,
    manifests,
    rejections,
)
from tidepool_ingest.maintenance.cleanup import Cleanup, RetentionPolicy
from tidepool_ingest.prepare.step import ensure_prepared
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.work_area import WorkArea

REFUSED = cbg(50, 99)
BOTH = {"max_quarantined_percent": 100}


def area(world: World, number: int) -> list[str]:
    folder = Path(WorkArea(world.root, world.row(number).content_key).path.path)
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def uploaded(world: World, *records: Any, batch: str = "one") -> int:
    world.stage([*readings(5), *records], batch)
    (number,) = world.run(**BOTH).uploaded
    return number


# ---------------------------------------------------------------- what goes, and what stays


def test_accepted_records_go_after_some_days_and_refused_ones_wait_for_a_person(world: World) -> None:
    clean = uploaded(world)
    number = uploaded(world, REFUSED, batch="two")
    age(world, 29)
    assert tidy(world) == {}
    age(world, 31)
    staged = sorted(path for path in (world.staging / str(DAY)).rglob("*"))

    assert tidy(world) == {"areas": 1, "accepted": 1}

    assert area(world, clean) == []
    assert area(world, number) == ["quarantine.ndjson", "quarantine.sha256"]
    assert world.all_right()
    assert [world.row(one).purged for one in (clean, number)] == [Purged.ALL, Purged.ACCEPTED]
    assert tidy(world) == {}
    age(world, 366)
    assert tidy(world) == {"areas": 1}
    assert area(world, number) == []
    assert world.row(number).purged is Purged.ALL
    assert sorted(path for path in (world.staging / str(DAY)).rglob("*")) == staged


def test_nothing_goes_where_it_is_kept_for_ever(world: World) -> None:
    number = uploaded(world, REFUSED)
    age(world, 4_000)

    assert tidy(world, work=0) == {}
    assert "accepted.ndjson" in area(world, number)
    assert tidy(world, quarantine=0) == {"accepted": 1}
    assert area(world, number) == ["quarantine.ndjson", "quarantine.sha256"]


def test_a_look_at_what_would_go_changes_nothing(world: World) -> None:
    number = uploaded(world)
    age(world, 31)
    before, files = world.row(number), area(world, number)

    assert tidy(world, dry_run=True) == {"areas": 1}
    assert (world.row(number), area(world, number)) == (before, files)


@pytest.mark.parametrize(
    "state",
    [BatchState.PLANNED, BatchState.PREPARED, BatchState.UPLOADING, BatchState.HELD, BatchState.FAILED],
)
def test_what_is_not_over_stays_whole(world: World, state: BatchState) -> None:
    number = world.ready(readings(3))
    set_batch_state(world.ledger, number, state)
    age(world, 400)

    assert tidy(world) == {}
    assert "prepared.json" in area(world, number)


def test_an_area_that_another_tidepools_batch_still_needs_stays(world: World) -> None:
    number = uploaded(world)
    age(world, 31)
    (other,) = world.plan(host_of=lambda _connection: "api.tidepool.org").batches
    assert world.row(other).content_key == world.row(number).content_key

    assert tidy(world) == {}
    set_batch_state(world.ledger, other, BatchState.WITHDRAWN)
    age(world, 31)
    assert tidy(world) == {"areas": 1}
    assert [world.row(one).purged for one in (number, other)] == [Purged.ALL] * 2


def test_an_area_that_another_deployment_has_prepared_lately_stays(world: World) -> None:
    number = uploaded(world)
    age(world, 31)
    os.utime(WorkArea(world.root, world.row(number).content_key).plan_path.path)

    assert tidy(world) == {}
    assert "accepted.ndjson" in area(world, number)


def test_an_area_that_no_batch_belongs_to_stays(world: World) -> None:
    number = uploaded(world)
    with world.ledger.database.writing() as connection:
        connection.execute(update(batches).values(content_key="a" * 64))
    age(world, 400)
    unknown = world.staging / "_work"
    before = sorted(unknown.rglob("*"))

    tidy(world)

    assert sorted(unknown.rglob("*")) == before
    assert world.row(number).purged is Purged.ALL


def test_batches_of_another_root_are_not_noted_as_tidied(world: World) -> None:
    number = uploaded(world)
    age(world, 31)
    for root in (world.root / "elsewhere", UPath(world.root.path[:-1])):
        Path(root.path).mkdir()
        assert Cleanup(root, world.ledger, RetentionPolicy()).run().summary() == {}
    assert world.row(number).purged is None


def test_nothing_is_noted_or_done_while_the_share_is_not_mounted(world: World) -> None:
    number = uploaded(world)
    age(world, 31)
    root, away = world.staging, world.folder / "away"
    root.rename(away)
    for maintenance in (lambda: tidy(world), lambda: reconcile(world)):
        with pytest.raises(BatchError, match=r"\[staging-root-missing\]"):
            maintenance()
    away.rename(root)

    assert world.row(number).purged is None
    assert tidy(world) == {"areas": 1}


# ---------------------------------------------------------------- beside tasks


def test_a_batch_at_work_is_left_alone(world: World) -> None:
    number = uploaded(world)
    age(world, 31)
    with world.ledger.leases.held(lease_of_batch(number), seconds=60):
        assert tidy(world) == {"busy": 1}
    assert "accepted.ndjson" in area(world, number)


def test_what_was_noted_between_the_look_and_the_claim_counts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by `prepare` of a run with `force`, which notes something before it looks at the work area."""
    number = uploaded(world)
    age(world, 31)
    holding = world.ledger.leases.held

    @contextmanager
    def held(name: str, **more: Any) -> Iterator[Any]:
        with holding(name, **more) as lease:
            world.ledger.batches.set_replaces(number, None)
            yield lease

    monkeypatch.setattr(world.ledger.leases, "held", held)
    assert tidy(world) == {"busy": 1}
    assert "accepted.ndjson" in area(world, number)


def test_prepare_does_not_trust_an_area_that_is_being_tidied(world: World) -> None:
    number = uploaded(world)
    with world.ledger.database.writing() as connection:
        connection.execute(update(batches).values(purged=Purged.ACCEPTED))

    with world.ledger.leases.held(lease_of_batch(number), seconds=0.5):
        summary = world.prepare(number, force=True, allow_older=True)

    assert summary.accepted == 5
    assert world.row(number).purged is None
    assert "prepared.json" in area(world, number)


def test_storage_that_does_not_answer_is_left_for_the_next_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded(world)
    age(world, 31)

    def fail(_area: WorkArea) -> None:
        raise BatchError("staging-unwritable", detail="ConnectionError")

    with monkeypatch.context() as patch:
        patch.setattr(WorkArea, "drop_accepted", fail)
        assert tidy(world) == {"later": 1}
    # It is noted as begun: what is left of it goes with the refused records.
    age(world, 366)
    assert tidy(world) == {"areas": 1}


# ---------------------------------------------------------------- after it is gone


def test_force_prepares_a_tidied_batch_from_staging(world: World) -> None:
    number = uploaded(world, REFUSED)
    age(world, 31)
    tidy(world)

    outcome = world.run(run="run-2", force=True, **BOTH)

    assert outcome.codes == []
    assert world.row(number).purged is None
    assert len(world.visible()) == 5
    assert world.all_right()


def test_force_says_plainly_what_is_missing(world: World) -> None:
    uploaded(world)
    age(world, 31)
    tidy(world)
    (world.staging / str(DAY) / world.user / "one" / "data.ndjson").unlink()

    assert world.run(run="run-2", force=True).codes == ["file-missing"]
    assert len(world.visible()) == 5


def test_a_tidied_batch_that_is_verified_again_is_prepared_from_staging(world: World) -> None:
    number = uploaded(world)
    age(world, 31)
    tidy(world)
    assert recheck(world, number).comparison.is_exact
    assert world.row(number).state is BatchState.VERIFIED


def again(world: World, number: int) -> None:
    ensure_prepared(world.root, world.row(number), ledger=world.ledger, api_host_of=world.host_of)


def test_what_tidepool_refused_is_still_known_when_a_tidied_batch_is_prepared_as_it_was(world: World) -> None:
    number = uploaded(world)
    refused = Rejection(ordinal=1, type="cbg", rows=1, problems=(("value-out-of-range", "/value"),))
    world.ledger.rejections.add(number, [refused])
    age(world, 31)
    tidy(world)

    again(world, number)

    assert world.ledger.rejections.of_batch(number) == {1: refused}


def test_a_tidied_batch_that_would_be_prepared_otherwise_is_not_compared(world: World) -> None:
    number = uploaded(world)
    with world.ledger.database.writing() as connection:
        connection.execute(update(chunks).values(digest="0" * 64))
    age(world, 31)
    tidy(world)
    again(world, number)

    with pytest.raises(PreparedOtherwiseError) as caught:
        recheck(world, number)

    assert isinstance(caught.value, IngestError)
    assert world.row(number).state is BatchState.VERIFIED
    age(world, 8)
    counts = reconcile(world, check_batches=1)
    assert (counts.uncheckable, counts.checked, dict(counts.failed)) == (1, 1, {})
    assert len(world.visible()) == 5


def test_tidied_batches_do_not_keep_others_from_being_checked(world: World) -> None:
    number = uploaded(world)
    other = uploaded(world, cbg(60), batch="two")
    age(world, 31)
    with world.ledger.database.writing() as connection:
        connection.execute(update(batches).where(batches.c.id == number).values(purged=Purged.ALL))

    assert world.ledger.data_sets.due_for_reverification(datetime.now(UTC), 10) == [other]


# ---------------------------------------------------------------- half-written files, rows


def test_half_written_files_of_killed_writers_go_and_those_of_living_ones_stay(world: World) -> None:
    number = world.ready(readings(3))
    folder = Path(WorkArea(world.root, world.row(number).content_key).path.path)
    dead, alive = folder / ".accepted.ndjson.0123abcd.part", folder / ".accepted.ndjson.4567cdef.part"
    for part in (dead, alive):
        part.write_bytes(b"half a rec")
    old = (datetime.now(UTC) - timedelta(days=3)).timestamp()
    os.utime(dead, (old, old))

    assert tidy(world, dry_run=True) == {"parts": 1}
    assert tidy(world) == {"parts": 1}

    assert (dead.exists(), alive.exists()) == (False, True)
    assert "prepared.json" in area(world, number)


def test_the_ledger_forgets_what_can_be_made_anew_and_no_batch(world: World) -> None:
    number = uploaded(world)
    planned = world.plan().done
    long_ago = datetime.now(UTC) - timedelta(days=401)
    given_up = world.ledger.data_sets.begin_opening(
        number, data_set_type="normal", deduplicator="d", expected_rows=1, origin=TaskOrigin()
    )
    world.ledger.data_sets.begin_chunk(given_up.id, 0, digest="0" * 64, records=1)
    set_data_set_state(world.ledger, given_up.id, DataSetState.DELETED)
    counted = {table: rows_in(world, table) for table in (batches, data_sets)}
    assert tidy(world) == {}
    with world.ledger.database.writing() as connection:
        connection.execute(update(file_digests).values(updated_at=long_ago))
        connection.execute(update(manifests).values(met_on=long_ago.date()))
        connection.execute(update(data_sets).values(updated_at=long_ago))
        row = {"type": "cbg", "rows": 1, "problems": "[]", "created_at": long_ago}
        withdrawn = dict(connection.execute(select(batches)).mappings().one(), id=99, content_key="f" * 64)
        withdrawn |= {"state": BatchState.WITHDRAWN, "updated_at": long_ago}
        connection.execute(insert(batches).values(withdrawn))
        connection.execute(insert(rejections), [row | {"batch": one, "ordinal": 0} for one in (number, 99)])

    gone = {"file_digests": 1, "manifests": 1, "chunks": 1, "rejections": 1}
    assert tidy(world, 0, 0, dry_run=True) == gone
    assert tidy(world, 0, 0) == gone

    assert rows_in(world, batches) == counted[batches] + 1
    assert rows_in(world, data_sets) == counted[data_sets]
    assert rows_in(world, chunks) == 1
    assert set(world.ledger.rejections.of_batch(number)) == {0}
    assert world.plan().done == planned


def rows_in(world: World, table: Any) -> int:
    with world.ledger.database.reading() as connection:
        return len(connection.execute(select(table)).all())


def test_the_maintenance_run_tidies_and_tells(world: World) -> None:
    uploaded(world)
    age(world, 31)

    counts = reconcile(world, keeping=RetentionPolicy())

    assert counts.tidied == {"areas": 1}
    assert counts.summary()["tidied"] == {"areas": 1}
