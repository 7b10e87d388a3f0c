"""``python -m tidepool_simulator.sample.checker STAGING STORE``: print the comparison as a table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tidepool_simulator.sample.checker.check import check
from tidepool_simulator.sample.checker.expected import Place
from tidepool_simulator.sample.checker.result import CheckResult, SetCheck

_COLUMNS = ("user", "device", "data set", "state", "visible", "superseded", "lost", "double", "foreign")
_MOST_PLACES = 10
"""Positions named for one data set; the counts tell how many there are in all."""


def table(result: CheckResult) -> str:
    """Return the comparison as lines of text: counts and positions, no values."""
    rows = [_COLUMNS, *(_cells(entry) for entry in result.sets)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    for entry in result.sets:
        lines += _named("lost", entry, entry.lost_places)
        lines += _named("double", entry, entry.double_places)
    lines += [
        f"not what its manifest says, nothing of it may be visible: {name}" for name in result.unreadable
    ]
    return "\n".join([*lines, summary(result)])


def summary(result: CheckResult) -> str:
    """Return the totals in one line."""
    counts = (
        f"{result.staged} records staged",
        f"{result.quarantined} quarantined",
        f"{result.identical} identical",
        f"{result.visible} rows visible",
        f"{result.superseded} superseded",
        f"lost {result.lost}",
        f"double {result.double}",
        f"foreign {result.foreign}",
        f"left open {result.left_open}",
        f"unreachable {result.unreachable}",
    )
    return f"checker: {', '.join(counts)}"


def _named(what: str, entry: SetCheck, places: Sequence[Place]) -> list[str]:
    """Return a line that names the first of the places where something is wrong."""
    if not places:
        return []
    named = ", ".join(f"file {number} record {position}" for number, position in places[:_MOST_PLACES])
    ellipsis = ", …" if len(places) > _MOST_PLACES else ""
    return [f"{what} of {entry.batches[0] if entry.batches else entry.data_set_id}: {named}{ellipsis}"]


def _cells(entry: SetCheck) -> tuple[str, ...]:
    state = f"{entry.state}, {entry.hidden} unseen" if entry.left_open else entry.state
    counts = (entry.visible, entry.superseded, entry.lost, entry.double, entry.foreign)
    return (entry.user_id, entry.device_id or "-", entry.data_set_id or "-", state, *map(str, counts))


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare and print; return 0 if all is as it should be, 1 if not or not known, 2 without a store."""
    parser = argparse.ArgumentParser(
        prog="python -m tidepool_simulator.sample.checker",
        description="Compare staged batches with what a simulator's store shows.",
    )
    parser.add_argument("staging", type=Path, help="staging root")
    parser.add_argument("store", type=Path, help="the simulator's SQLite file")
    parser.add_argument(
        "--user", action="append", dest="users", help="look at this user only; may be repeated"
    )
    options = parser.parse_args(arguments)
    try:
        result = check(options.staging, options.store, users=options.users)
    except FileNotFoundError as error:
        print(f"checker: {error}", file=sys.stderr)
        return 2
    print(table(result))
    return 0 if result.ok else 1


if __name__ == "__main__":
    sys.exit(main())
