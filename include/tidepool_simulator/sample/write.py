"""Write the sample as ready batches into staging storage."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import zstandard

from tidepool_simulator.sample.households import (
    child_household,
    closed_loop_household,
    pen_household,
)
from tidepool_simulator.sample.notebook import Notebook
from tidepool_simulator.sample.people import CHILD, CLOSED_LOOP_USER, PEN_USER
from tidepool_simulator.sample.spoil import Spoiled, SpoiledAs, spoil

DEFAULT_SEED = 20


@dataclass(frozen=True)
class SampleBatch:
    """One batch as written.

    :param records: how many records are in its files, spoiled ones included.
    :param file_records: the same for each file, in the manifest's order.
    :param spoiled: the records spoiled on purpose; their index runs through the files in order.
    """

    user_id: str
    batch_id: str
    device_id: str
    device_model: str
    path: Path
    records: int
    file_records: tuple[int, ...]
    spoiled: tuple[Spoiled, ...]


@dataclass(frozen=True)
class SampleSummary:
    """All that :func:`write_sample` wrote."""

    day: date
    batches: tuple[SampleBatch, ...]

    @property
    def records(self) -> int:
        """Return the number of records in all batches, spoiled ones included."""
        return sum(batch.records for batch in self.batches)

    @property
    def spoiled(self) -> Counter[SpoiledAs]:
        """Return how many records were spoiled in which way."""
        return Counter(spoiled.how for batch in self.batches for spoiled in batch.spoiled)


@dataclass(frozen=True)
class _Layout:
    """How a device's files look: their names, and whether the manifest names digests and counts."""

    names: tuple[str, ...]
    described: bool = True
    pretty: bool = False

    @property
    def array(self) -> bool:
        return ".json" in self.names[0].replace(".ndjson", "")


_LAYOUTS = (
    (
        CLOSED_LOOP_USER,
        closed_loop_household,
        (_Layout(("cgm-1.ndjson.gz", "cgm-2.ndjson.gz")), _Layout(("pump.ndjson.zst",))),
    ),
    (
        PEN_USER,
        pen_household,
        (
            _Layout(("history.json.gz",)),
            _Layout(("meter.ndjson",), described=False),
            _Layout(("diary.json.zst",)),
        ),
    ),
    (
        CHILD,
        child_household,
        (
            _Layout(("receiver.ndjson.gz",)),
            _Layout(("pump.ndjson",)),
            _Layout(("meter.json",), described=False, pretty=True),
        ),
    ),
)


def write_sample(root: Path, day: date, seed: int = DEFAULT_SEED) -> SampleSummary:
    """Write the sample's batches below ``root`` and return what they hold.

    The same day and seed always give the same records.

    :param root: staging root, a local folder.
    :param day: the day of staging: the folder's name, and the day before which the data end.
    """
    batches: list[SampleBatch] = []
    for person, household, layouts in _LAYOUTS:
        chance = random.Random(f"{seed} {person.user_id}")
        for notebook, layout in zip(household(day, chance), layouts, strict=True):
            batches.append(_write_batch(root / day.isoformat(), person.user_id, notebook, layout, chance))
    return SampleSummary(day, tuple(batches))


def _write_batch(
    day_folder: Path, user_id: str, notebook: Notebook, layout: _Layout, chance: random.Random
) -> SampleBatch:
    device = notebook.device
    texts, spoiled = spoil(notebook.records(), chance, whole_lines=not layout.array)
    mark = hashlib.sha256(f"{day_folder.name} {device.device_id}".encode()).hexdigest()[:8]
    batch_id = f"{day_folder.name.replace('-', '')}T0400Z-{mark}"
    folder = day_folder / user_id / batch_id
    folder.mkdir(parents=True, exist_ok=True)
    files: list[dict[str, Any]] = []
    share = -(-len(texts) // len(layout.names))
    parts = [texts[start : start + share] for start in range(0, len(texts), share)]
    for name, part in zip(layout.names, parts, strict=True):
        content = _pack(name, _join(part, layout))
        (folder / name).write_bytes(content)
        described: dict[str, Any] = {"name": name, "format": "json" if layout.array else "ndjson"}
        if layout.described:
            described |= {"sha256": hashlib.sha256(content).hexdigest(), "records": len(part)}
        files.append(described)
    manifest = {"userId": user_id, "dataSet": device.data_set(), "files": files}
    # Written last: a batch without its manifest is not ready.
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    counts = tuple(len(part) for part in parts)
    return SampleBatch(
        user_id, batch_id, device.device_id, device.model, folder, len(texts), counts, tuple(spoiled)
    )


def _join(texts: list[bytes], layout: _Layout) -> bytes:
    if not layout.array:
        return b"\n".join(texts) + b"\n"
    if layout.pretty:
        return json.dumps([json.loads(text) for text in texts], indent=2, ensure_ascii=False).encode()
    return b"[" + b",\n ".join(texts) + b"]\n"


def _pack(name: str, content: bytes) -> bytes:
    return next((pack(content) for suffix, pack in _PACKERS.items() if name.endswith(suffix)), content)


_PACKERS: dict[str, Callable[[bytes], bytes]] = {
    # No time stamp inside: the same sample gives the same bytes.
    ".gz": lambda content: gzip.compress(content, compresslevel=6, mtime=0),
    ".zst": lambda content: zstandard.ZstdCompressor().compress(content),
}
