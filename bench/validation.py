"""What judging costs beside parsing: ``python -m bench.validation [FILE]``, from the top of the checkout.

One process, CPU seconds, batches of 1,000 lines, the best of several rounds. The measure is ``json.loads``
of the same batches, each as one JSON array. Prints a table, then the same as JSON lines.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from tests.model.examples import EXAMPLES

from tidepool_ingest.model import judge_lines

RECORDS = 200_000
BATCH = 1_000
ROUNDS = 5
ONE_BAD_IN = 100
START = datetime(2021, 1, 1, tzinfo=timezone.utc)  # noqa: UP017


@dataclass
class Result:
    """What one kind of file costs.

    :param file: what is in it.
    :param records: how many records.
    :param refused: how many are refused.
    :param json_microseconds: for ``json.loads``, a record.
    :param judge_microseconds: for ``judge_lines``, a record.
    :param ratio: how fast judging is, beside parsing.
    """

    file: str
    records: int
    refused: int
    json_microseconds: float
    judge_microseconds: float
    ratio: float


def uploader_like(count: int, chance: random.Random) -> Iterator[dict[str, Any]]:
    """Make records as an uploader sends them: mostly glucose, some basal, few boluses and wizards."""
    kinds = (
        ["cbg"] * 78
        + ["smbg"] * 4
        + ["basal scheduled", "basal automated"] * 5
        + ["bolus normal"] * 5
        + ["wizard"] * 3
    )
    for index in range(count):
        moment = START + timedelta(minutes=5 * index, seconds=chance.randrange(300))
        yield {
            **EXAMPLES[chance.choice(kinds)],
            "time": f"{moment:%Y-%m-%dT%H:%M:%S}.000Z",
            "deviceTime": f"{moment - timedelta(hours=8):%Y-%m-%dT%H:%M:%S}",
            "timezoneOffset": -480,
            "conversionOffset": 0,
            "clockDriftOffset": 0,
            "payload": {"logIndices": [index]},
        }


def of_all_types(count: int, chance: random.Random) -> Iterator[dict[str, Any]]:
    """Make records of all types and sub-kinds, as many of each, with several fields each."""
    names = sorted(EXAMPLES)
    for index in range(count):
        moment = START + timedelta(seconds=chance.randrange(10**7))
        yield {**EXAMPLES[names[index % len(names)]], "time": f"{moment:%Y-%m-%dT%H:%M:%S}Z"}


def spoilt(lines: list[bytes]) -> list[bytes]:
    """Make one line in a hundred wrong, in one of five ways."""
    ways: list[Callable[[bytes], bytes]] = [
        lambda line: line[:-2],
        lambda line: line.replace(b'"time"', b'"tome"'),
        lambda line: line[:-1] + b',"deviceId":7}',
        lambda line: line[:-1] + b',"timezoneOffset":99999}',
        lambda line: line[:-1] + b',"type":"unknown"}',
    ]
    return [
        ways[index // ONE_BAD_IN % len(ways)](line) if index % ONE_BAD_IN == 0 else line
        for index, line in enumerate(lines)
    ]


def seconds(work: Callable[[], object]) -> float:
    """Measure the CPU time of the best round."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return best


def measure(file: str, lines: list[bytes], parse_seconds: float | None = None) -> tuple[Result, float]:
    """Measure one kind of file.

    :param file: what is in it.
    :param lines: its lines.
    :param parse_seconds: what parsing costs, when the lines cannot all be parsed.
    """
    batches = [lines[start : start + BATCH] for start in range(0, len(lines), BATCH)]
    if parse_seconds is None:
        arrays = [b"[" + b",".join(batch) + b"]" for batch in batches]
        parse_seconds = seconds(lambda: [len(json.loads(array)) for array in arrays])
    judge_seconds = seconds(lambda: [len(judge_lines(batch)) for batch in batches])
    refused = sum(bool(judged.problems) for batch in batches for judged in judge_lines(batch))
    each = 1e6 / len(lines)
    result = Result(
        file=file,
        records=len(lines),
        refused=refused,
        json_microseconds=round(parse_seconds * each, 2),
        judge_microseconds=round(judge_seconds * each, 2),
        ratio=round(parse_seconds / judge_seconds, 2),
    )
    return result, parse_seconds


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.validation", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="gzipped NDJSON; made up when missing")
    file: Path | None = parser.parse_args().file
    chance = random.Random(0)
    if file is not None and file.exists():
        clean = gzip.decompress(file.read_bytes()).splitlines()
    else:
        clean = [
            json.dumps(record, separators=(",", ":")).encode() for record in uploader_like(RECORDS, chance)
        ]
    mixed = [
        json.dumps(record, separators=(",", ":")).encode() for record in of_all_types(31 * BATCH, chance)
    ]
    first, parse_seconds = measure("as from an uploader", clean)
    results = [
        first,
        measure(f"1 bad in {ONE_BAD_IN}", spoilt(clean), parse_seconds)[0],
        measure("all types alike", mixed)[0],
    ]
    print(f"{'file':24}{'records':>9}{'refused':>9}{'json µs':>9}{'judge µs':>10}{'ratio':>7}")
    for result in results:
        print(
            f"{result.file:24}{result.records:>9}{result.refused:>9}{result.json_microseconds:>9.2f}"
            f"{result.judge_microseconds:>10.2f}{result.ratio:>7.2f}"
        )
    for result in results:
        print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
