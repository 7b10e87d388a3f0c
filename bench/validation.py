"""What validation costs beside parsing.

CPU seconds of one process, batches of 1,000 lines, the best of several rounds. The measure is ``json.loads``
of the same batches, each as one JSON array.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator

from bench.records import BATCH, ONE_BAD_IN, as_lines, batches_of, of_all_types, spoilt
from bench.result import Result

from tidepool_ingest.model import validate_lines

ROUNDS = 5


def measure_validation(lines: list[bytes]) -> Iterator[Result]:
    """Measure records as from an uploader, the same with some spoilt, and all types alike.

    :param lines: records as from an uploader.
    """
    clean = _measured("validation, as from an uploader", lines)
    yield clean
    yield _measured(f"validation, 1 bad in {ONE_BAD_IN}", spoilt(lines), clean.json_microseconds)
    mixed = as_lines(of_all_types(31 * BATCH, random.Random(0)))
    yield _measured("validation, all types alike", mixed)


def json_microseconds(lines: list[bytes], *, rounds: int = ROUNDS) -> float:
    """Measure ``json.loads`` of lines, as arrays: microseconds a record."""
    arrays = [b"[" + b",".join(batch) + b"]" for batch in batches_of(lines)]
    return _microseconds(lambda: [len(json.loads(array)) for array in arrays], len(lines), rounds)


def _measured(what: str, lines: list[bytes], parsing: float | None = None) -> Result:
    batches = batches_of(lines)
    return Result(
        what=what,
        records=len(lines),
        rejected=sum(bool(judged.problems) for batch in batches for judged in validate_lines(batch)),
        # Spoilt lines cannot all be parsed: they are compared with the same lines as they were.
        json_microseconds=json_microseconds(lines) if parsing is None else parsing,
        microseconds=_microseconds(lambda: [len(validate_lines(batch)) for batch in batches], len(lines)),
    )


def _microseconds(work: Callable[[], object], records: int, rounds: int = ROUNDS) -> float:
    """Return the CPU time of the best round, a record."""
    best = float("inf")
    for _ in range(rounds):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return best * 1e6 / records
