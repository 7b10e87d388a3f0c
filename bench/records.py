"""The records that the benchmarks work on, as lines of JSON."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from tests.model.examples import EXAMPLES

RECORDS = 200_000
BATCH = 1_000
ONE_BAD_IN = 100
START = datetime(2021, 1, 1, tzinfo=timezone.utc)  # noqa: UP017
UPLOADER_LIKE = Path(__file__).parents[2] / "shared" / "bench" / "uploader-like-200k.ndjson.gz"


def uploader_lines(file: Path | None = None) -> list[bytes]:
    """Return records as from an uploader, one device's.

    :param file: gzipped NDJSON; without it, or the file beside the checkout, they are made up.
    """
    source = file or UPLOADER_LIKE
    if file or source.exists():
        return gzip.decompress(source.read_bytes()).splitlines()
    return as_lines(uploader_like(RECORDS, random.Random(0)))


def as_lines(records: Iterator[dict[str, Any]]) -> list[bytes]:
    """Write records as compact JSON."""
    return [json.dumps(record, separators=(",", ":")).encode() for record in records]


def batches_of(lines: list[bytes]) -> list[list[bytes]]:
    """Cut lines into batches as large as a request."""
    return [lines[start : start + BATCH] for start in range(0, len(lines), BATCH)]


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
