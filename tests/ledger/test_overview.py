"""The overview beside a plain model of its cells, on both databases; and what it reads of a large ledger."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from bench.uploads_page import FLEET_TODAY, fill_fleet
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, select, text, update

from tests.factories import found, set_batch_state
from tidepool_ingest.ledger import DECLINED, BatchState, Dismissal, FoundPart, Ledger, UploadFilter
from tidepool_ingest.ledger.leases import lease_of_batch
from tidepool_ingest.ledger.retention import Person
from tidepool_ingest.ledger.schema import batches, device_spans
from tidepool_ingest.privacy import short_hash
from tidepool_ingest.reports.inactive_devices import inactive_devices
from tidepool_ingest.reports.overview import CellState, Overview, OverviewFilter, Sorting

TODAY = date(2026, 3, 31)
FIRST, LAST = TODAY - timedelta(days=6), TODAY
HOSTS = (f"api-{number}.example.org" for number in count())
KEYS = count(1)


class Staged(NamedTuple):
    """One batch of the model."""

    device: int
    ago: int
    state: BatchState
    reason: str | None
    dismissed: Dismissal | None
    rejected: int | None


VERIFIED_YESTERDAY = Staged(0, 1, BatchState.VERIFIED, None, None, None)


def staged() -> st.SearchStrategy[Staged]:
    return st.builds(
        Staged,
        device=st.integers(0, 2),
        ago=st.integers(0, 9),
        state=st.sampled_from(BatchState),
        reason=st.sampled_from([None, "file-sha256", DECLINED]),
        dismissed=st.sampled_from([None, None, Dismissal.TEST]),
        rejected=st.sampled_from([None, 0, 3]),
    )


def expected(of_day: list[Staged]) -> CellState | None:
    """Say once more, in plain words, how a day stands; nothing if none of its batches counts."""
    kinds = set()
    for batch in of_day:
        stopped = batch.reason not in (None, DECLINED)
        if batch.state in (BatchState.GONE, BatchState.OVERWRITTEN):
            continue
        if batch.dismissed or batch.reason == DECLINED or batch.state in ("withdrawn", "replaced"):
            kinds.add(CellState.DISMISSED)
        elif batch.state == "failed" or (stopped and batch.state in ("uploading", "verified")):
            kinds.add(CellState.FAILED)
        elif batch.state == "held":
            kinds.add(CellState.HELD)
        elif batch.state == "nothing-accepted" or (batch.state == "verified" and batch.rejected):
            kinds.add(CellState.PARTLY)
        elif batch.state == "verified":
            kinds.add(CellState.VERIFIED)
        else:
            kinds.add(CellState.IN_PROGRESS)
    if kinds >= {CellState.IN_PROGRESS, CellState.VERIFIED}:
        kinds.add(CellState.PARTLY)
    return next((state for state in CellState if state in kinds), None)


def write(ledger: Ledger, host: str, rows: list[Staged]) -> None:
    for row in rows:
        key = next(KEYS)
        day = TODAY - timedelta(days=row.ago)
        batch = ledger.batches.register(
            found(
                api_host=host,
                content_key=f"{key:064}",
                batch_id=f"b-{key}",
                folder=f"/{key}",
                day=day,
                label=f"{day} Model {row.device} {key:010x}",
                device_id=f"device-{row.device}" if row.device else None,
            )
        ).id
        with ledger.database.writing() as connection:
            values = {"state": row.state, "reason": row.reason, "dismissed": row.dismissed}
            values |= {"accepted": 10, "quarantined": row.rejected}
            connection.execute(update(batches).where(batches.c.id == batch).values(**values))


def look(ledger: Ledger, sorting: Sorting = Sorting.WORST, **wanted: Any) -> Overview:
    return Overview(ledger, FIRST, LAST, TODAY, OverviewFilter(**wanted), sorting)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(staged(), max_size=14))
@example(rows=[Staged(0, 1, BatchState.PLANNED, None, Dismissal.TEST, None), VERIFIED_YESTERDAY])
@example(
    rows=[
        Staged(0, 1, BatchState.PLANNED, None, None, None),
        VERIFIED_YESTERDAY._replace(reason=DECLINED),
    ]
)
def test_each_cell_is_what_a_plain_model_says(ledger: Ledger, rows: list[Staged]) -> None:
    host = next(HOSTS)
    write(ledger, host, rows)
    shown = list(look(ledger, api_host=host).rows())

    model: dict[int, dict[date, list[Staged]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        model[row.device][TODAY - timedelta(days=row.ago)].append(row)
    in_picture = {device for device, days in model.items() if max(days) >= FIRST}
    assert {row.model for row in shown} == {f"Model {device}" for device in in_picture}
    for row in shown:
        days = model[int(row.model[-1])]
        for cell in row.cells:
            came = [one for one in days[cell.day] if one.state not in ("gone", "overwritten")]
            before = cell.day < min(day for day in days if days[day])
            nothing = CellState.NONE if before or cell.day == TODAY else CellState.NOTHING
            assert cell.state == (expected(came) or nothing)
            assert (cell.batches, cell.accepted) == (len(came), 10 * len(came))
            assert cell.rejected == sum(one.rejected or 0 for one in came)
    # A filter by state takes those that show it, and no others; the worst is on top.
    for state in CellState:
        if state is not CellState.SILENT:
            with_it = {(row.device, row.person) for row in shown if row.days(state)}
            taken = look(ledger, api_host=host, state=state).rows()
            assert {(row.device, row.person) for row in taken} == with_it
    troubles = [(len(row.days(CellState.FAILED)), len(row.days(CellState.HELD))) for row in shown]
    assert troubles == sorted(troubles, reverse=True)


def test_counts_of_days_are_those_of_their_batches(ledger: Ledger) -> None:
    clean = Staged(1, 0, BatchState.VERIFIED, None, None, 0)
    rows = [clean, clean, clean._replace(rejected=2), clean._replace(state=BatchState.HELD, reason="x")]
    rows += [clean._replace(ago=8), clean._replace(state=BatchState.GONE), clean._replace(ago=20)]
    write(ledger, next(HOSTS), rows)
    whole = ledger.batches.register(found(api_host="h", day=TODAY))
    ledger.parts.register(whole, [FoundPart(content_key="d" * 64, records=1, expected_rows=1, chunks=1)])

    trends = {trend.state: trend for trend in look(ledger).trends()}

    assert {state: (one.now, one.before) for state, one in trends.items()} == {
        CellState.FAILED: (0, 0),
        CellState.HELD: (1, 0),
        CellState.PARTLY: (1, 0),
        CellState.IN_PROGRESS: (1, 0),
        CellState.VERIFIED: (2, 1),
        CellState.DISMISSED: (0, 0),
    }


def test_a_device_that_has_stopped_is_silent_from_its_last_record_on(ledger: Ledger) -> None:
    for ago in range(20, 5, -1):
        day = TODAY - timedelta(days=ago)
        row = ledger.batches.register(
            found(content_key=f"{ago:064}", batch_id=f"b-{ago}", folder=f"/{ago}", day=day)
        )
        ledger.batch_days.replace_for_batch(row.id, {day: {"cbg": 1}})

    (device,) = inactive_devices(ledger, TODAY)
    overview = look(ledger)
    (row,) = overview.rows()
    assert (len(overview), overview.silent, overview.newly_silent) == (1, 1, 1)
    assert row.silent_since == device.last_day == TODAY - timedelta(days=6)
    assert [cell.state for cell in row.cells] == [CellState.IN_PROGRESS, *[CellState.SILENT] * 6]
    assert len(look(ledger, state=CellState.SILENT)) == len(look(ledger, attention=True)) == 1
    # It has sent again: what was judged before does not stay.
    row = ledger.batches.register(found(content_key="e" * 64, batch_id="again", folder="/e", day=TODAY))
    ledger.batch_days.replace_for_batch(row.id, {TODAY: {"cbg": 1}})
    assert look(ledger).silent == 0


def test_filters_and_orders(ledger: Ledger) -> None:
    for number, (model, ago) in enumerate((("Zeta G6", 3), ("Alpha", 1))):
        day = TODAY - timedelta(days=ago)
        label = f"{day} {model} {number:010x}"
        given_ = {"content_key": f"{number:064}", "folder": f"/{number}", "batch_id": f"b{number}"}
        row = ledger.batches.register(found(**given_, day=day, label=label, device_id=model))
        ledger.batches.set_counts(row.id, accepted=10 * (2 - number), quarantined=0)
    set_batch_state(ledger, row.id, BatchState.HELD, reason="too-many-refused")

    def models(sorting: Sorting = Sorting.NAME, **wanted: Any) -> list[str]:
        return [row.model for row in look(ledger, sorting, **wanted).rows()]

    assert models() == models(Sorting.WORST) == ["Alpha", "Zeta G6"]
    assert models(Sorting.LAST) == models(Sorting.RECORDS) == ["Zeta G6", "Alpha"]
    assert models(model="g6") == models(hash=short_hash("Zeta G6")[:6]) == ["Zeta G6"]
    assert models(hash=short_hash("0123456789")) == ["Alpha", "Zeta G6"]
    assert models(attention=True) == models(state=CellState.HELD) == ["Alpha"]
    assert models(data_set_type="continuous") == models(api_host="elsewhere") == models(hash="0000000") == []
    by_hash = UploadFilter(person=short_hash("0123456789"), device=short_hash("Alpha"))
    assert [upload.batch for upload in ledger.uploads.page(by_hash)] == [row.id]
    assert ledger.uploads.page(UploadFilter(device="0" * 10)) == []


def test_spans_follow_what_is_staged_and_go_with_their_person(ledger: Ledger) -> None:
    def span() -> tuple[date, date, int]:
        (one,) = ledger.device_days.spans()
        return one.first_day, one.last_day, one.newest

    days = [TODAY - timedelta(days=ago) for ago in (3, 5, 1)]
    several = [
        found(content_key=f"{n:064}", folder=f"/{n}", batch_id=f"{n}", day=day) for n, day in enumerate(days)
    ]
    first, *_ = ledger.batches.register_all(several[:1])
    assert span() == (days[0], days[0], first.id)
    *_, newest = ledger.batches.register_all(several)
    assert span() == (days[1], days[2], newest.id)
    moved = ledger.batches.register(found(content_key=f"{0:064}", folder="/moved", batch_id="0", day=TODAY))
    assert span() == (days[1], TODAY, moved.id)
    person = Person(ledger.database, "0123456789")
    for row in person.batches():
        with ledger.leases.held(lease_of_batch(row.id), seconds=60) as lease:
            person.erase_batch(row.id, lease)
    with ledger.database.reading() as connection:
        assert connection.execute(select(device_spans)).all() == []


def test_what_is_silent_is_what_the_whole_report_says(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.migrate()
    fill_fleet(ledger, devices=60, days=50)
    overview = Overview(ledger, FLEET_TODAY - timedelta(days=27), FLEET_TODAY, FLEET_TODAY, OverviewFilter())

    assert overview.silent == len(inactive_devices(ledger, FLEET_TODAY)) > 0
    shown = Counter(cell.state for row in overview.rows() for cell in row.cells)
    assert min(shown[state] for state in CellState) > 0
    ledger.close()


def test_no_look_reads_what_it_does_not_show(tmp_path: Path) -> None:
    """SQLite, which has no statistics, is asked how it carries out each query of an overview."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.migrate()
    fill_fleet(ledger, devices=4, days=10)
    asked: list[tuple[str, Any]] = []
    engine = ledger.database.engine
    event.listen(
        engine, "before_cursor_execute", lambda _c, _d, query, values, *_: asked.append((query, values))
    )
    look_at = Overview(ledger, FLEET_TODAY - timedelta(days=9), FLEET_TODAY, FLEET_TODAY, OverviewFilter())
    list(look_at.rows())
    look_at.trends()
    ledger.device_days.accepted(FLEET_TODAY - timedelta(days=9), FLEET_TODAY)
    ledger.uploads.waiting()
    ledger.uploads.page(UploadFilter(person="0" * 10, device="0" * 10, first_day=FLEET_TODAY))
    queries = [(query, values) for query, values in asked if query.startswith("SELECT")]

    def plan(query: str, values: Any) -> list[str]:
        with engine.connect() as connection:
            return list(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", values).scalars(3))

    steps = [step for query, values in queries for step in plan(query, values)]

    tables = ("batches", "batch_days", "data_sets")
    assert not [step for step in steps if step.startswith(tuple(f"SCAN {table}" for table in tables))]
    by_index = "USING COVERING INDEX ix_batches_day_"
    assert any(f"{by_index}not_clean (day>? AND day<?)" in step for step in steps)
    assert any(f"{by_index}whole (day>? AND day<?)" in step for step in steps)  # of all of them
    of_people = "INDEX ix_batches_day_whole (day=? AND part_of=? AND user_id=?)"
    assert sum(of_people in step for step in steps) >= 2  # mixed days, and cells
    assert not [step for step in steps if "ix_batches_state_id (state=?)" in step]
    # What needs attention is found by its reason, and not among all that is no part.
    (waiting,) = [step for query, values in queries if "reason >" in query for step in plan(query, values)]
    assert "ix_batches_reason" in waiting
    ledger.close()


@pytest.mark.parametrize("device_id", [None, "device-1"])
def test_the_migration_finds_the_spans_of_what_is_there(ledger: Ledger, device_id: str | None) -> None:
    from tidepool_ingest.ledger.database import alembic_config, migrate

    rows = [
        found(content_key=f"{n:064}", folder=f"/{n}", batch_id=f"{n}", day=TODAY - timedelta(days=n % 3))
        for n in range(5)
    ]
    ledger.batches.register_all(
        [*rows, found(content_key="f" * 64, device_id=device_id, user_id="9876543210")]
    )
    kept = sorted(ledger.device_days.spans(), key=lambda span: span.key)
    from alembic import command

    config = alembic_config()
    with ledger.database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0008")
    migrate(ledger.database.engine)

    assert sorted(ledger.device_days.spans(), key=lambda span: span.key) == kept
    with ledger.database.reading() as connection:
        assert connection.scalar(text("SELECT count(*) FROM device_spans")) == 2
