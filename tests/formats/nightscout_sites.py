"""Documents of Nightscout sites, made up, and what the reader makes of files that hold them."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from upath import UPath

from tidepool_ingest.formats import SourceReader
from tidepool_ingest.formats.reader import Device, ReadingContext
from tidepool_ingest.model import validate_lines
from tidepool_ingest.staging.manifest import FileOptions
from tidepool_ingest.staging.source_file import SourceFile

Document = dict[str, Any]

START = datetime(2026, 3, 5, 12, tzinfo=UTC)


def at(minutes: float) -> str:
    """Return an instant as Nightscout writes it, so many minutes after noon of a Thursday."""
    return (START + timedelta(minutes=minutes)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ms(minutes: float) -> int:
    """Return the same in milliseconds since 1970."""
    return round((START + timedelta(minutes=minutes)).timestamp() * 1000)


def time_of(minutes: float) -> str:
    """Return the same as records have it."""
    return at(minutes).replace(".000Z", "Z")


def sgv(minutes: float, value: object = 120, **more: Any) -> Document:
    return {
        "_id": f"e{minutes}",
        "type": "sgv",
        "sgv": value,
        "date": ms(minutes),
        "direction": "Flat",
    } | more


def treatment(minutes: float, event_type: str, **more: Any) -> Document:
    return {"_id": f"t{minutes}", "eventType": event_type, "created_at": at(minutes)} | more


def temp(minutes: float, rate: object, duration: object = 30, **more: Any) -> Document:
    return treatment(minutes, "Temp Basal", absolute=rate, rate=rate, duration=duration, **more)


def profile(
    minutes: float = -10_000, rates: Mapping[str, object] | None = None, zone: str = "UTC", **more: Any
) -> Document:
    """Return a profile document with these basal rates by their starts."""
    basal = [{"time": start, "value": rate} for start, rate in (rates or {"00:00": 1}).items()]
    store = {"timezone": zone, "units": "mg/dl", "basal": basal} | more.pop("store", {})
    return {
        "_id": f"p{minutes}",
        "defaultProfile": "Default",
        "startDate": at(minutes),
        "store": {"Default": store},
    } | more


@dataclass
class Made:
    """What became of some files."""

    lines: list[bytes] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    rejected: list[tuple[int, str]] = field(default_factory=list)
    places: list[tuple[int, int, str]] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)
    rows: int = 0

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [record for record in self.records if record["type"] == kind]

    @property
    def by_name(self) -> dict[str, bytes]:
        """The records by their names; there are not two of one name."""
        named = {record["origin"]["id"]: line for record, line in zip(self.records, self.lines, strict=True)}
        assert len(named) == len(self.lines)
        return named

    def basals(self) -> list[tuple[str, str, float, object]]:
        """Delivery type, start, minutes and rate of each basal, in the order of time."""
        found = sorted(self.of("basal"), key=lambda basal: datetime.fromisoformat(basal["time"]))
        return [
            (basal["deliveryType"], basal["time"], basal["duration"] / 60_000, basal.get("rate"))
            for basal in found
        ]


def read_files(folder: Path, files: Mapping[str, bytes], **more: Any) -> Made:
    """Read files together, and see that Tidepool would take each record of them."""
    options, is_checked = more.pop("options", FileOptions()), more.pop("is_checked", True)
    sources = []
    for number, (name, content) in enumerate(files.items(), 1):
        (folder / name).write_bytes(content)
        sources.append(SourceFile(UPath(folder / name), "nightscout", number, options=options))
    made = Made()
    with SourceReader(sources, ReadingContext(**more)) as reader:
        made.devices = reader._readers[0].devices()
        for block in reader:
            made.lines += block.lines
            made.skipped.update(block.skipped)
            made.rejected += [(row.position, row.code) for row in block.rejected]
            where = block.where or [""] * len(block.lines)
            places = zip(block.row_positions, where, strict=True)
            made.places += [(block.file_number, position, place) for position, place in places]
            made.rows += block.rows
    if is_checked:
        assert [verdict.problems for verdict in validate_lines(made.lines)] == [()] * len(made.lines)
    return made


def read(folder: Path, *documents: Document, **more: Any) -> Made:
    """Read documents that lie in one file."""
    return read_files(folder, {"site.json": json.dumps(documents).encode()}, **more)


def text_of(documents: Iterable[Document]) -> bytes:
    return json.dumps(list(documents)).encode()


def holes_and_overlaps(basals: Sequence[tuple[str, str, float, object]]) -> list[float]:
    """Return how many minutes are between two basals of which one does not begin where the other ends."""
    gaps = []
    for (_kind, start, minutes, _rate), (_next_kind, after, *_) in pairwise(basals):
        ended = datetime.fromisoformat(start) + timedelta(minutes=minutes)
        gap = (datetime.fromisoformat(after) - ended).total_seconds() / 60
        if abs(gap) > 0.001:
            gaps.append(gap)
    return gaps


DAY = 24 * 60


def a_site(seed: int, days: float = 2) -> tuple[list[Document], list[Document]]:
    """Return treatments of a loop in the order of time, and its profiles."""
    chosen = random.Random(seed)
    treatments: list[Document] = []
    minute = 0.0
    while minute < days * DAY:
        minute += chosen.choice([5, 5, 5, 10, 60, 400])
        kind = chosen.choice(
            ["temp", "temp", "temp", "percent", "smb", "meal", "stop", "end", "target", "switch"]
        )
        if kind == "temp":
            treatments.append(temp(minute, chosen.choice([0, 0.5, 2]), 30, enteredBy="iAPS"))
        elif kind == "percent":
            treatments.append(
                treatment(
                    minute, "Temp Basal", percent=chosen.choice([-50, 30]), duration=chosen.choice([30, 300])
                )
            )
        elif kind == "smb":
            treatments += [
                treatment(minute, name, insulin=0.1, _id=f"{name}{minute}") for name in ("SMB", "Bolus")
            ]
        elif kind == "meal":
            treatments.append(treatment(minute, "Meal Bolus", insulin=3, carbs=40))
        elif kind == "stop":
            treatments.append(treatment(minute, "Suspend Pump"))
            treatments.append(treatment(minute + 3, "Resume Pump"))
        elif kind == "end":
            treatments.append(temp(minute, 0, 0))
        elif kind == "target":
            treatments.append(
                treatment(
                    minute,
                    "Temporary Target",
                    targetTop=100,
                    targetBottom=100,
                    duration=chosen.choice([0, 60]),
                    units="mg/dl",
                )
            )
    profiles = [
        profile(-99, rates={"00:00": 1, "06:00": 1.4, "15:30": 0.8}, zone="Europe/Moscow"),
        profile(DAY, rates={"00:00": 0.9, "08:00": 1.1}, zone="Asia/Tashkent"),
    ]
    return treatments, profiles
