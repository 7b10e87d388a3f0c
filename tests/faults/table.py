"""The numbers of a run of schedules, as a person reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tests.faults.catalogue import LOCAL_OF, REMOTE_OF, Proxied
from tests.faults.supervise import Outcome


def kinds_of(kind: str) -> tuple[str, ...]:
    """Return the names of all faults that a kind of data set can meet."""
    return (*(fault.name for fault in REMOTE_OF[kind]), *map(str, LOCAL_OF[kind]), *map(str, Proxied))


def struck_in(outcomes: Sequence[Outcome]) -> Counter[str]:
    """Return how often each kind of fault struck."""
    total: Counter[str] = Counter()
    for outcome in outcomes:
        total.update(outcome.struck)
    return total


def missing_kinds(outcomes: Sequence[Outcome], kind: str = "normal") -> list[str]:
    """Return the kinds of fault that never struck."""
    struck = struck_in(outcomes)
    return [name for name in kinds_of(kind) if not struck[name]]


def table(columns: Mapping[str, Sequence[Outcome]], kind: str = "normal") -> str:
    """Return one row for each kind of fault, then the totals.

    :param columns: what came of the same schedules, by uploader.
    :param kind: ``normal`` or ``continuous`` data sets.
    """
    counted = [struck_in(outcomes) for outcomes in columns.values()]
    rows = [("", *columns)]
    rows += [(name, *(str(struck[name]) for struck in counted)) for name in kinds_of(kind)]
    totals = [_totals(outcomes) for outcomes in columns.values()]
    rows += [("", *("" for _ in columns))]
    rows += [(name, *(str(total[name]) for total in totals)) for name in totals[0]]
    width = max(len(row[0]) for row in rows)
    return "\n".join(
        "  ".join((name.ljust(width), *(count.rjust(7) for count in counts))).rstrip()
        for name, *counts in rows
    )


def _totals(outcomes: Sequence[Outcome]) -> dict[str, int]:
    verdicts = [outcome.verdict for outcome in outcomes]
    return {
        "schedules": len(outcomes),
        "runs of the job": sum(outcome.runs for outcome in outcomes),
        "faults injected": sum(struck_in(outcomes).values()),
        "kills": sum(outcome.kills for outcome in outcomes),
        "repairs": sum(outcome.repairs for outcome in outcomes),
        "  chunks removed and sent again": sum(verdict.sent_again for verdict in verdicts),
        "  data sets given up and redone": sum(verdict.given_up for verdict in verdicts),
        "  closes asked again": sum(outcome.closed_again for outcome in outcomes),
        "records that only Tidepool refused": sum(verdict.refused_late for verdict in verdicts),
        "  of them answered with 500": sum(verdict.isolated for verdict in verdicts),
        "rows superseded by newer ones": sum(verdict.superseded for verdict in verdicts),
        "unreachable empty data sets": sum(verdict.unreachable for verdict in verdicts),
        "lost": sum(verdict.lost for verdict in verdicts),
        "double": sum(verdict.double for verdict in verdicts),
        "foreign": sum(verdict.foreign for verdict in verdicts),
        "left open": sum(verdict.left_open for verdict in verdicts),
        "schedules with anything wrong": sum(not outcome.ok for outcome in outcomes),
    }


def last_line(outcomes: Sequence[Outcome]) -> str:
    """Return the totals in one line."""
    verdicts = [outcome.verdict for outcome in outcomes]
    return (
        f"faults: {len(outcomes)} schedules, {sum(struck_in(outcomes).values())} faults,"
        f" {sum(outcome.kills for outcome in outcomes)} kills,"
        f" {sum(outcome.repairs for outcome in outcomes)} repairs,"
        f" lost {sum(verdict.lost for verdict in verdicts)},"
        f" double {sum(verdict.double for verdict in verdicts)},"
        f" left open {sum(verdict.left_open for verdict in verdicts)}"
    )
