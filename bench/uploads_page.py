"""How long the uploads page waits for the ledger when it holds 100,000 uploads, or days of 2,000 devices.

A ledger of its own is filled on each database: batches of 500 devices over 200 days, a data set and four
chunks for most of them. Then the page's queries run as one visit makes them, each kind of visit 40 times.
For the overview, another ledger holds 2,000 devices by 90 days, some of their batches in parts, and their
troubles; it is looked up and drawn, all but the template. PostgreSQL is the embedded one of `make up`;
without its wheel only SQLite is measured.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from dev.home import LocalRunError
from dev.postgresql import postgresql
from fastapi import Request
from sqlalchemy import Table, create_engine, insert, make_url, text

from tidepool_airflow.uploads_page.html import Links
from tidepool_airflow.uploads_page.overview import OverviewQuery, looked_over
from tidepool_ingest.ledger import BatchState, ChunkState, DataSetState, Ledger, UploadFilter
from tidepool_ingest.ledger.database import ledger_url
from tidepool_ingest.ledger.schema import batch_days, batches, chunks, data_sets, device_spans
from tidepool_ingest.model.verdict import collector_paused
from tidepool_ingest.privacy import short_hash
from tidepool_ingest.reports.overview import CellState, Sorting

UPLOADS = 100_000
DEVICES = 500
CHUNKS = 4
DAYS_EACH = 2
VISITS = 40
PAGE = 50
FIRST_DAY = date(2025, 1, 1)
ROWS_AT_ONCE = 5_000

HEADINGS = ("visit", "database", "median ms", "p95 ms", "rows shown")

STATES = (
    [(BatchState.VERIFIED, None)] * 94
    + [(BatchState.UPLOADING, None), (BatchState.PREPARED, None), (BatchState.OVERWRITTEN, "file-missing")]
    + [
        (BatchState.HELD, "too-many-refused"),
        (BatchState.FAILED, "file-sha256"),
        (BatchState.WITHDRAWN, None),
    ]
)
"""Of 100 uploads, in which state they are and for which reason."""

DAY_80 = FIRST_DAY + timedelta(days=80)
VISITED: Mapping[str, tuple[UploadFilter, int | None]] = {
    "newest": (UploadFilter(), None),
    "in the middle": (UploadFilter(), UPLOADS // 2),
    "the oldest": (UploadFilter(), PAGE),
    "needs a person": (UploadFilter(waiting=True), None),
    "one state": (UploadFilter(state=BatchState.HELD), None),
    "one day": (UploadFilter(first_day=DAY_80, last_day=DAY_80), None),
    "100 days": (UploadFilter(first_day=DAY_80, last_day=DAY_80 + timedelta(days=99)), None),
    "one label": (UploadFilter(label=short_hash(f"batch {UPLOADS // 3}")), None),
    "no such label": (UploadFilter(label="no such label"), None),
    "one DAG": (UploadFilter(dag_id="tidepool_normal_upload"), None),
    "no such DAG": (UploadFilter(dag_id="no_such_dag"), None),
    "continuous": (UploadFilter(data_set_type="continuous"), None),
    "all filters": (
        UploadFilter(
            state=BatchState.VERIFIED,
            first_day=DAY_80,
            last_day=DAY_80 + timedelta(days=9),
            label="G6",
            dag_id="tidepool_normal_upload",
            data_set_type="normal",
        ),
        None,
    ),
}
"""Kinds of visits: what is looked for, and the number before which a page begins."""


def measure_uploads_page() -> list[tuple[object, ...]]:
    """Fill a ledger on each database and visit the page; return the rows of a table."""
    rows: list[tuple[object, ...]] = []
    with tempfile.TemporaryDirectory(prefix="tidepool-bench-") as name, ExitStack() as stack:
        addresses = {"SQLite": f"sqlite:///{name}/ledger.db"}
        try:
            addresses["PostgreSQL"] = stack.enter_context(postgresql(Path(name) / "pg")).ledger
        except LocalRunError as error:
            print(f"PostgreSQL is left out: {error}", file=sys.stderr)
        for database, address in addresses.items():
            ledger = Ledger(address)
            stack.callback(ledger.close)
            ledger.migrate()
            fill(ledger)
            rows += _visits(ledger, database)
        for database, address in addresses.items():
            ledger = Ledger(_beside(address))
            stack.callback(ledger.close)
            ledger.migrate()
            fill_fleet(ledger)
            for what, query in OVERVIEWS.items():
                milliseconds, rows_shown = _timed(lambda w=ledger, q=query: look_over(w, q))  # type: ignore[misc]
                p95 = statistics.quantiles(milliseconds, n=20)[-1]
                median = statistics.median(milliseconds)
                rows.append((what, database, round(median, 1), round(p95, 1), rows_shown))
    return rows


def _beside(address: str) -> str:
    """Return the address of another, new database on the same server, or of another file."""
    url = make_url(address)
    if url.get_backend_name() == "sqlite":
        return f"{address}-fleet"
    engine = create_engine(ledger_url(address), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE DATABASE fleet"))
    engine.dispose()
    return url.set(database="fleet").render_as_string(hide_password=False)


FLEET_DEVICES, FLEET_DAYS, FLEET_TODAY = 2_000, 90, date(2026, 3, 31)
SPLIT_EVERY, PARTS_EACH = 200, 3

OVERVIEWS: Mapping[str, OverviewQuery] = {
    "overview, 4 weeks": OverviewQuery(),
    "overview, 13 weeks": OverviewQuery(weeks=13),
    "overview by records": OverviewQuery(weeks=4, sort=Sorting.RECORDS),
    "overview, one model": OverviewQuery(weeks=13, model="DASH"),
    "overview, one person": OverviewQuery(weeks=13, hash=short_hash(f"{7:010x}")),
    "overview, failed": OverviewQuery(weeks=13, state=CellState.FAILED),
}
"""Kinds of looks at the fleet."""


def look_over(ledger: Ledger, query: OverviewQuery) -> int:
    """Make all queries of the overview, and draw it; return how many devices it shows."""
    with collector_paused():
        return len(looked_over(ledger, query, LINKS, today=FLEET_TODAY)["rows"])


LINKS = Links(Request({"type": "http", "root_path": "/tidepool/uploads"}))


def fill_fleet(
    ledger: Ledger, devices: int = FLEET_DEVICES, days: int = FLEET_DAYS, today: date = FLEET_TODAY
) -> None:
    """Write days of many devices, with a realistic share of troubles and of devices that have stopped.

    :param ledger: an empty one.
    :param devices: how many, two of each person.
    :param days: how many.
    :param today: the newest of them.
    """
    chance = Random(20)
    rows: list[dict[str, Any]] = []
    spans: dict[int, dict[str, Any]] = {}
    for ago in range(days - 1, -1, -1):
        day = today - timedelta(days=ago)
        for device in range(devices):
            stopped = device % 29 == 0 and ago < 5 + device % 37
            new = device % 41 == 40 and ago > device % 83
            if stopped or new or chance.random() < 0.02:
                continue
            row = _batch(len(rows) + 1) | _in_fleet(device, day, chance.random(), ago)
            rows.append({"id": len(rows) + 1, "part_of": None, "part_records": None, **row})
            key = {name: row[name] for name in ("api_host", "user_id", "device_id", "data_set_type")}
            span = spans.setdefault(device, {**key, "first_day": day})
            span |= {"last_day": day, "newest": len(rows)}
    for whole in [row for row in rows if row["id"] % SPLIT_EVERY == 0]:
        whole["part_records"] = 100
        for part in range(PARTS_EACH):
            content = f"{len(rows) + 1:064x}"
            rows.append({**whole, "id": len(rows) + 1, "part_of": whole["id"], "content_key": content})
            rows[-1] |= {"part": part + 1, "part_records": None}
    for row in rows:
        row.setdefault("part", None)
    _write(ledger, batches, iter(rows))
    _write(ledger, device_spans, iter(spans.values()))
    sent = [row for row in rows if row["state"] is BatchState.VERIFIED and row["part_records"] is None]
    _write(ledger, data_sets, (_data_set(row["id"]) | {"state": DataSetState.VERIFIED} for row in sent))
    kinds = ("cbg", "bolus")
    _write(
        ledger,
        batch_days,
        (
            {"batch": row["id"], "day": row["day"], "type": kind, "records": 96}
            for row in rows
            if row["part_of"] is None
            for kind in kinds
        ),
    )
    _analyze(ledger)


def _in_fleet(device: int, day: date, chance: float, ago: int) -> dict[str, Any]:
    user, model = f"{device // 2:010x}", FLEET_MODELS[device % len(FLEET_MODELS)]
    if not ago and chance < 0.3:
        state, reason, rejected = BatchState.PREPARED, None, 0
    else:
        limits = [0.004, 0.012, 0.06, 0.065]
        state, reason, rejected = IN_FLEET[sum(chance >= limit for limit in limits)]
        if device % 53 == 0 and ago < 2 + device % 23:  # troubled for a while
            state, reason, rejected = IN_FLEET[device // 53 % 2]
    at = datetime(day.year, day.month, day.day, 3, tzinfo=UTC)
    return {
        "user_id": user,
        "batch_id": f"{day}-{device}",
        "day": day,
        "folder": f"/staging/{day}/{user}/{device}",
        "label": f"{day} {model} {short_hash(f'{day} {device}')}",
        "device_id": f"device-{device}",
        "data_set_type": "continuous" if device % 50 == 0 else "normal",
        "state": state,
        "reason": reason,
        "accepted": 288 - rejected,
        "quarantined": rejected,
        "created_at": at,
        "updated_at": at,
    }


FLEET_MODELS = ("Dexcom G6", "Omnipod DASH", "Contour Next", "FreeStyle Libre 3", "Tandem t:slim X2")
IN_FLEET = [
    (BatchState.FAILED, "file-sha256", 0),
    (BatchState.HELD, "too-many-refused", 40),
    (BatchState.VERIFIED, None, 7),
    (BatchState.WITHDRAWN, None, 0),
    (BatchState.VERIFIED, None, 0),
]
"""How batches of a fleet stand, the rare ones first: state, reason, rejected records."""


def fill(ledger: Ledger, uploads: int = UPLOADS, *, details: bool = True) -> None:
    """Write a ledger's worth of uploads.

    :param ledger: an empty one.
    :param uploads: how many.
    :param details: whether to write their chunks and days too.
    """
    numbers = range(1, uploads + 1)
    started = [
        number for number in numbers if _state(number)[0] in (BatchState.VERIFIED, BatchState.UPLOADING)
    ]
    _write(ledger, batches, (_batch(number) for number in numbers))
    _write(ledger, data_sets, (_data_set(number) for number in started))
    if details:
        _write(ledger, chunks, (_chunk(number, index) for number in started for index in range(CHUNKS)))
        _write(ledger, batch_days, (_day(number, ago) for number in numbers for ago in range(DAYS_EACH)))
    _write(ledger, device_spans, iter(_spans(uploads).values()))
    _analyze(ledger)


def _spans(uploads: int) -> dict[tuple[str, ...], dict[str, Any]]:
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for number in range(1, uploads + 1):
        row = _batch(number)
        key = {name: row[name] for name in ("api_host", "user_id", "device_id", "data_set_type")}
        span = found.setdefault(tuple(key.values()), {**key, "first_day": row["day"]})
        span |= {"last_day": row["day"], "newest": number}
    return found


def _analyze(ledger: Ledger) -> None:
    with ledger.database.engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            # Autovacuum would do it within a minute. It cannot be done in a transaction.
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))


def _visits(ledger: Ledger, database: str) -> Iterator[tuple[object, ...]]:
    for what, (wanted, before) in VISITED.items():
        milliseconds, rows_shown = _timed(lambda w=wanted, b=before: visit(ledger, w, b))  # type: ignore[misc]
        p95 = statistics.quantiles(milliseconds, n=20)[-1]
        yield what, database, round(statistics.median(milliseconds), 1), round(p95, 1), rows_shown
    middle = UPLOADS // 2
    milliseconds, rows_shown = _timed(lambda: visit_one(ledger, middle))
    p95 = statistics.quantiles(milliseconds, n=20)[-1]
    yield "one upload", database, round(statistics.median(milliseconds), 1), round(p95, 1), rows_shown


def _timed(work: Callable[[], int]) -> tuple[list[float], int]:
    rows_shown = work()
    times = []
    for _ in range(VISITS):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1_000)
    return times, rows_shown


def visit(ledger: Ledger, wanted: UploadFilter, before: int | None) -> int:
    """Make all queries of the list."""
    page = ledger.uploads.page(wanted, before=before, limit=PAGE + 1)
    ledger.uploads.by_state()
    ledger.uploads.waiting()
    ledger.uploads.dags()
    return len(page)


def visit_one(ledger: Ledger, batch: int) -> int:
    """Make all queries of the page of one upload."""
    row = ledger.batches.get(batch)
    started = ledger.data_sets.of_batch(batch)
    for data_set in started:
        ledger.data_sets.chunks_of(data_set.id)
    ledger.batch_days.of_batch(batch)
    ledger.devices.days_of_others(row)
    ledger.quarantine_reasons.of_batch(batch)
    ledger.rejections.of_batch(batch)
    ledger.actions.of_batch(batch)
    return len(started)


def _write(ledger: Ledger, table: Table, rows: Iterator[dict[str, Any]]) -> None:
    waiting: list[dict[str, Any]] = []
    with ledger.database.writing() as connection:
        for row in rows:
            waiting.append(row)
            if len(waiting) == ROWS_AT_ONCE:
                connection.execute(insert(table), waiting)
                waiting = []
        if waiting:
            connection.execute(insert(table), waiting)


def _state(number: int) -> tuple[BatchState, str | None]:
    return STATES[number % len(STATES)]


def _staged_day(number: int) -> date:
    return FIRST_DAY + timedelta(days=number * 200 // UPLOADS)


def _batch(number: int) -> dict[str, Any]:
    day, user = _staged_day(number), f"{number % DEVICES:010x}"
    model = ("G6", "Omnipod DASH", "Contour Next")[number % 3]
    state, reason = _state(number)
    at = datetime(day.year, day.month, day.day, 3, tzinfo=UTC)
    return {
        "api_host": "api.example.org",
        "content_key": f"{number:064x}",
        "user_id": user,
        "batch_id": f"batch-{number}",
        "day": day,
        "folder": f"/staging/{day}/{user}/batch-{number}",
        "label": f"{day} {model} {short_hash(f'batch {number}')}",
        "device_id": f"device-{number % DEVICES}",
        "data_set_type": "continuous" if number % 50 == 0 else "normal",
        "state": state,
        "reason": reason,
        "staged": 3_500,
        "accepted": 3_490,
        "quarantined": 10,
        "identical": 0,
        "expected_rows": 3_490,
        "chunks": CHUNKS,
        "created_at": at,
        "updated_at": at,
    }


def _data_set(number: int) -> dict[str, Any]:
    at = _batch(number)["created_at"]
    done = _state(number)[0] is BatchState.VERIFIED
    return {
        "id": number,
        "batch": number,
        "ordinal": 1,
        "data_set_id": f"{number:032x}",
        "data_set_type": "normal",
        "deduplicator": "org.tidepool.deduplicator.device.deactivate.hash",
        "state": DataSetState.VERIFIED if done else DataSetState.OPEN,
        "expected_rows": 3_490,
        "visible_rows": 3_490 if done else None,
        "dag_id": "tidepool_reconcile" if number % 97 == 0 else "tidepool_normal_upload",
        "run_id": f"scheduled__{at.isoformat()}",
        "map_index": number % DEVICES,
        "try_number": 1,
        "created_at": at,
        "updated_at": at,
    }


def _chunk(number: int, index: int) -> dict[str, Any]:
    at = _batch(number)["created_at"]
    common = {"data_set": number, "chunk_index": index, "digest": f"{number:064x}", "records": 900}
    return {**common, "state": ChunkState.STORED, "attempts": 1, "updated_at": at}


def _day(number: int, ago: int) -> dict[str, Any]:
    day = _staged_day(number) - timedelta(days=ago)
    return {"batch": number, "day": day, "type": "cbg", "records": 1_745}
