"""What a schedule has come to: the checker's findings, the ledger against the server, leaked canaries."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.feeds import FeedBatchSpec
from tests.faults.place import USER, Place, folder_of, replaced_ledgers
from tests.faults.records import CANARY, CANARY_RATE, records_of
from tests.faults.schedule import BatchSpec, Schedule
from tidepool_simulator.accounts import CLIENT_SECRET
from tidepool_simulator.sample.checker import check

SECRETS = {
    "a planted value, key, device id or file name": re.compile(CANARY),
    "a planted number": re.compile(str(CANARY_RATE)[2:]),
    "a token": re.compile(r"eyJ[\w-]{8,}|" + CLIENT_SECRET),
    "a server's own words": re.compile("nternal server failure|authentication token is|too many requests"),
}
"""What may stand nowhere but in staging, the work area and Tidepool."""

IDS = {"a user id": re.compile(USER)}
"""What may stand in the ledger besides."""

LEDGER_KEEPS = {"device_id"}
"""Columns of the ledger that are there to hold a device id."""


@dataclass
class Verdict:
    """What was found.

    :param lost: rows that are missing.
    :param double: rows that are visible too often.
    :param foreign: rows that were never staged, or rejected.
    :param left_open: data sets that hold data which nobody sees.
    :param unreachable: empty data sets that no route can find.
    :param refused_late: records that local validation accepted and Tidepool rejected.
    :param isolated: those of them for which it answered 500.
    :param sent_again: chunks removed and sent again.
    :param given_up: data sets deleted and started anew.
    :param wrong: whatever else is wrong.
    """

    lost: int = 0
    double: int = 0
    foreign: int = 0
    left_open: int = 0
    unreachable: int = 0
    superseded: int = 0
    refused_late: int = 0
    isolated: int = 0
    sent_again: int = 0
    given_up: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether all is as it should be."""
        return not (self.lost or self.double or self.foreign or self.left_open or self.wrong)


def judge(
    place: Place,
    schedule: Schedule,
    *,
    ours: bool,
    second: Place | None = None,
    out_of_reach: frozenset[str] = frozenset(),
) -> Verdict:
    """Check a schedule that has been played to its end.

    :param ours: whether our uploader was at work: then the ledger is checked too.
    :param second: another deployment: its ledger and quarantine have to be right too.
    :param out_of_reach: open data sets of which no ledger knows any more.
    """
    overwriting = list(_backlog_differs(place, schedule)) if schedule.kind == "backlog" else []
    result = check(place.staging, place.store)
    verdict = Verdict(
        result.lost, result.double, result.foreign, result.left_open, result.unreachable, result.superseded
    )
    if not ours:
        return verdict
    # An open data set of which only a ledger knew that is gone: no route finds it, and nobody sees it.
    out_of_reach |= _known_to_replaced(place) & _open_with_data(place)
    verdict.left_open -= len(out_of_reach)
    verdict.unreachable += len(out_of_reach)
    if second is not None:
        elsewhere = judge(second, schedule, ours=ours, out_of_reach=out_of_reach)
        verdict.wrong += (f"elsewhere: {wrong}" for wrong in elsewhere.wrong)
    staged = [batch for batch in schedule.batches if folder_of(place, batch).exists()]
    spoiled = sum(batch.spoiled + batch.poisoned for batch in staged)
    if result.quarantined != spoiled:
        verdict.wrong.append(f"{result.quarantined} records in quarantine, of {spoiled} spoiled ones")
    if result.unreadable:
        verdict.wrong.append("a batch is not what it was staged as")
    retracted = {batch.retracts for batch in schedule.batches if isinstance(batch, FeedBatchSpec)} - {""}
    verdict.wrong += _ledger_differs(place, verdict, schedule.kind, out_of_reach, retracted)
    verdict.wrong += overwriting
    verdict.wrong += _leaks(place)
    return verdict


def _known_to_replaced(place: Place) -> set[str]:
    """Return the data sets of which only ledgers know that others took the place of."""
    known: list[set[str]] = []
    for path in (place.ledger, *replaced_ledgers(place)):
        with closing(sqlite3.connect(path)) as ledger:
            known.append({one for (one,) in ledger.execute("SELECT data_set_id FROM data_sets")})
    return set().union(*known[1:]) - known[0]


def _open_with_data(place: Place) -> set[str]:
    with closing(sqlite3.connect(place.store)) as store:
        return {
            one
            for (one,) in store.execute(
                "SELECT upload_id FROM data_sets WHERE state = 'open' AND deleted_time IS NULL"
                " AND upload_id IN (SELECT upload_id FROM data)"
            )
        }


def _ledger_differs(
    place: Place,
    verdict: Verdict,
    kind: str,
    out_of_reach: AbstractSet[str],
    retracted: AbstractSet[str],
) -> Iterator[str]:
    """Compare the ledger with the store, both read by plain SQL."""
    with closing(sqlite3.connect(place.ledger)) as ledger, closing(sqlite3.connect(place.store)) as store:
        yield from _states_differ(ledger, kind, retracted)
        sets = ledger.execute(
            "SELECT data_set_id, state, expected_rows, visible_rows + coalesce(superseded_rows, 0), batch"
            " FROM data_sets"
        ).fetchall()
        ended = ledger.execute(f"SELECT id FROM batches WHERE state IN ('held', 'withdrawn') OR {OF_NOTHING}")
        held = {batch for (batch,) in ended}
        # A creation in doubt that was left behind by a batch that is held now is empty.
        sets = [row for row in sets if not (row[1] == "opening" and row[-1] in held)]
        verdict.refused_late = ledger.execute("SELECT count(*) FROM rejections").fetchone()[0]
        verdict.isolated = ledger.execute(
            "SELECT count(*) FROM rejections WHERE problems LIKE '%tidepool-500%'"
        ).fetchone()[0]
        verdict.sent_again = ledger.execute("SELECT coalesce(sum(attempts - 1), 0) FROM chunks").fetchone()[0]
        verdict.given_up = sum(state == "deleted" for _, state, *_ in sets)
        verified = {data_set_id for data_set_id, state, *_ in sets if state == "verified"}
        if sorted(batch for *_, state, _, _, batch in sets if state == "verified") != sorted(
            {batch for *_, batch in sets} - held
        ):
            yield "a batch has not exactly one verified data set"
        for _data_set_id, state, expected, visible, _ in sets:
            if state not in ("verified", "deleted", "not-created", "unreachable", "abandoned"):
                yield f"the ledger leaves a data set {state}"
            if state == "verified" and expected != visible:
                yield f"a verified batch has {visible} rows visible of {expected}"
        if kind == "continuous":
            yield from _feeds_differ(ledger, store)
        else:
            yield from _sets_differ(sets, store)
        for data_set_id, deleted in store.execute(
            "SELECT upload_id, deleted_time IS NOT NULL FROM data_sets WHERE upload_id IN"
            " (SELECT DISTINCT upload_id FROM data)"
        ):
            if deleted:
                yield "a deleted data set holds data"
            elif data_set_id not in verified | out_of_reach:
                yield "Tidepool holds data in a data set that the ledger has not verified"


OF_NOTHING = "part_of IS NOT NULL AND state = 'nothing-accepted'"
"""A part of which Tidepool itself has rejected every record, each of which is counted in quarantine."""


def _states_differ(ledger: sqlite3.Connection, kind: str, retracted: AbstractSet[str]) -> Iterator[str]:
    """Every batch is verified, but those that others retract are withdrawn, and a backlog may hold some."""
    states = dict(ledger.execute(f"SELECT batch_id, state FROM batches WHERE NOT ({OF_NOTHING})").fetchall())
    withdrawn = {name for name, state in states.items() if state == "withdrawn"}
    if withdrawn != retracted:
        yield f"{len(withdrawn)} batches are withdrawn, of {len(retracted)} retracted ones"
    others = set(states.values()) - {"withdrawn"}
    if others - ({"held"} if kind == "backlog" else set()) != {"verified"}:
        yield f"batches are {', '.join(sorted(others))}"


def _feeds_differ(ledger: sqlite3.Connection, store: sqlite3.Connection) -> Iterator[str]:
    """Each feed has one data set at Tidepool, open and visible, and it is the one that the ledger knows.

    One that gave way to another deployment's was deleted before it held anything; it is not counted.
    """
    pinned = dict(ledger.execute("SELECT client_name, data_set_id FROM feeds").fetchall())
    there = [
        (client_name, data_set_id, state, stands)
        for client_name, data_set_id, state, stands in store.execute(
            "SELECT client_name, upload_id, state, deleted_time IS NULL FROM data_sets WHERE active = 1"
        )
        if stands or data_set_id in pinned.values()
    ]
    if len(there) != len(pinned):
        yield f"{len(pinned)} feeds have {len(there)} data sets"
    for client_name, data_set_id, state, stands in there:
        if pinned.get(client_name) != data_set_id:
            yield "a feed's data set is not the one that the ledger knows"
        if state == "closed" or not stands:
            yield "a feed's data set is closed or deleted"


def _sets_differ(sets: Sequence[tuple[Any, ...]], store: sqlite3.Connection) -> Iterator[str]:
    for data_set_id, state, expected, visible, _ in sets:
        if state == "verified":
            yield from _set_differs(store, data_set_id, expected, visible)


def _set_differs(store: sqlite3.Connection, data_set_id: str, expected: int, visible: int) -> Iterator[str]:
    found = store.execute(
        "SELECT state, active, deleted_time IS NULL FROM data_sets WHERE upload_id = ?", (data_set_id,)
    ).fetchall()
    if found != [("closed", 1, 1)]:
        yield f"a verified data set is {found} at Tidepool"
    rows, seen, hidden = store.execute(
        "SELECT count(*), sum(active), sum(archived_by IS NOT NULL) FROM data WHERE upload_id = ?",
        (data_set_id,),
    ).fetchone()
    if not expected == visible == rows == (seen or 0) + (hidden or 0):
        shown = f"{rows}, of them {seen} shown and {hidden} superseded"
        yield f"a verified data set of {expected} rows, {visible} seen then, has {shown}"


def _backlog_differs(place: Place, schedule: Schedule) -> Iterator[str]:
    """Compare the doses that are shown with those of the newest batches; take what is held out of staging.

    An older batch that failed goes up after newer ones, and only where it tells other doses than they do it
    is held.
    """
    with closing(sqlite3.connect(place.ledger)) as ledger:
        held = dict(ledger.execute("SELECT batch_id, reason FROM batches WHERE state = 'held'").fetchall())
    newest: dict[tuple[int, int], float] = {}
    specs = [spec for spec in schedule.batches if isinstance(spec, BatchSpec)]
    for spec in sorted(specs, key=lambda spec: spec.age or 0, reverse=True):
        seed = f"{schedule.seed} {schedule.number}"
        records = records_of(spec.device, spec.first, spec.count, dose=spec.dose, seed=seed)
        minutes = [
            (spec.device, spec.first + at)
            for at, record in enumerate(records)
            if record["type"] in ("bolus", "wizard")
        ]
        if spec.name in held:
            if held[spec.name] != "older-than-uploaded":
                yield f"a batch is held for {held[spec.name]}"
            if all(newest.get(minute, spec.dose) == spec.dose for minute in minutes):
                yield "a batch is held that overwrites nothing"
            shutil.rmtree(folder_of(place, spec))
            continue
        for minute in minutes:
            newest.setdefault(minute, spec.dose)
    with closing(sqlite3.connect(place.store)) as store:
        shown = [json.loads(text) for (text,) in store.execute("SELECT document FROM data WHERE active = 1")]
    doses = sorted(row["normal"] for row in shown if row["type"] == "bolus")
    if doses != sorted(newest.values()):
        yield "the doses that are shown are not those of the newest batches"


def _leaks(place: Place) -> Iterator[str]:
    for path in (*place.logs.iterdir(), *place.results.iterdir()):
        yield from _in_text(path.read_text(errors="replace"), path, SECRETS | IDS)
    with closing(sqlite3.connect(place.ledger)) as ledger:
        for (table,) in ledger.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            rows = ledger.execute(f"SELECT * FROM {table}")
            names = [column[0] for column in rows.description]
            for row in rows:
                for name, value in zip(names, row, strict=True):
                    if name not in LEDGER_KEEPS:
                        yield from _in_text(str(value), Path(f"ledger:{table}.{name}"), SECRETS)


def _in_text(text: str, path: Path, secrets: dict[str, re.Pattern[str]]) -> Iterator[str]:
    for what, pattern in secrets.items():
        if found := pattern.search(text):
            yield f"{what} stands in {path.name}: …{text[max(0, found.start() - 80) : found.end() + 20]!r}…"
