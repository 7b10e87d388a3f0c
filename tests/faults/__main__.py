"""``make faults``: play seeded schedules, and show that nothing is lost, double or left open."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from tests.faults.schedule import schedule_of
from tests.faults.supervise import Outcome, play
from tests.faults.table import last_line, missing_kinds, table
from tidepool_ingest.ledger import Ledger

AT_ONCE = 6
"""Schedules played side by side: they wait for most of their time."""

ALL_KINDS_FROM = 200
"""From this many schedules on, a kind of fault that never struck fails the run."""


def play_all(
    seed: int,
    numbers: Sequence[int],
    folder: Path,
    *,
    kind: str = "normal",
    uploader: str = "ours",
    verbose: bool = False,
) -> list[Outcome]:
    """Play schedules side by side and return their outcomes, by number.

    :param folder: gets a folder for each; those of good schedules are removed again.
    :param kind: ``normal`` or ``continuous`` data sets, or a ``backlog``.
    :param uploader: ``ours`` or ``plain``.
    :param verbose: whether a line is printed for each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    empty = folder / "empty.db"
    ledger = Ledger(f"sqlite:///{empty}")
    ledger.migrate()
    ledger.close()
    outcomes = []
    with ProcessPoolExecutor(AT_ONCE, mp_context=get_context("fork")) as pool:
        playing = {
            pool.submit(play, schedule_of(seed, number, kind), folder / str(number), empty, uploader): number
            for number in numbers
        }
        for played in as_completed(playing):
            outcome = played.result()
            outcomes.append(outcome)
            if verbose:
                _tell(outcome, seed)
            if outcome.ok:
                shutil.rmtree(folder / str(outcome.number))
    return sorted(outcomes, key=lambda outcome: outcome.number)


def _tell(outcome: Outcome, seed: int) -> None:
    verdict = outcome.verdict
    counts = f"{sum(outcome.struck.values())} faults, {outcome.kills} kills, {outcome.repairs} repairs"
    found = f"lost {verdict.lost}, double {verdict.double}, left open {verdict.left_open}"
    print(
        f"SEED={seed} ONLY={outcome.number:<4} {counts}, {outcome.runs} runs, {outcome.seconds:.1f} s:"
        f" {found}{'' if outcome.ok else '  <-- wrong'}",
        flush=True,
    )
    for wrong in (*outcome.wrong, *verdict.wrong):
        print(f"    {wrong}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Play schedules and print the table; return 0 if all is as it should be."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--schedules", "-n", type=int, default=ALL_KINDS_FROM)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, action="append", help="play this schedule only, and show it")
    parser.add_argument("--kind", choices=["normal", "continuous", "backlog"], default="normal")
    parser.add_argument("--beside", choices=["plain"], help="play them with this uploader too")
    parser.add_argument("--keep", type=Path, help="folder for what wrong schedules leave behind")
    options = parser.parse_args(arguments)
    if options.beside and options.kind != "normal":
        parser.error("the plain uploader knows normal data sets only")
    numbers = options.only or list(range(options.schedules))
    for number in options.only or ():
        print("\n".join(schedule_of(options.seed, number, options.kind).lines()))
    folder = options.keep or Path(tempfile.mkdtemp(prefix="tidepool-faults-"))
    columns = {"ours": play_all(options.seed, numbers, folder / "ours", kind=options.kind, verbose=True)}
    ours = columns["ours"]
    if options.beside:
        beside = folder / options.beside
        columns[options.beside] = play_all(options.seed, numbers, beside, uploader=options.beside)
        shutil.rmtree(beside)
    ok = all(outcome.ok for outcome in ours)
    print(table(columns, options.kind))
    if len(numbers) >= ALL_KINDS_FROM and (missing := missing_kinds(ours, options.kind)):
        print(f"never struck: {', '.join(missing)}")
        ok = False
    if all(outcome.ok for outcome in ours):
        shutil.rmtree(folder)
    else:
        print(f"what the wrong schedules left behind is in {folder}")
    print(last_line(ours))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
