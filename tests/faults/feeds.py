"""Batches of feeds that overlap, edit, bring late data, delete and retract, staged over several runs."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from tests.faults.records import Record, device_id, poison, record_of, spoilt_ones

DELETE_ORIGIN = "org.tidepool.deduplicator.dataset.delete.origin"
NONE = "org.tidepool.deduplicator.none"

WAVES = 3
"""Runs before which batches of a feed are staged, after the one in which nothing goes wrong."""


@dataclass(frozen=True)
class FeedBatchSpec:
    """One batch of a feed.

    :param name: its folder; a feed's batches follow each other by name.
    :param feed: number of the feed.
    :param wave: before which run it is staged.
    :param records: minute and version of each record.
    :param deletes: minutes whose records it deletes.
    :param spoiled: records in it that the Platform refuses.
    :param deduplicator: name of the deduplicator.
    :param given: whether its records come with an origin id.
    :param poisoned: whether Tidepool answers 500 to each request that holds one of its records.
    :param retracts: name of the batch that it retracts; empty for one that retracts none.
    """

    name: str
    feed: int
    wave: int
    records: tuple[tuple[int, int], ...]
    deletes: tuple[int, ...]
    spoiled: int
    deduplicator: str
    given: bool
    poisoned: bool = False
    retracts: str = ""

    def line(self) -> str:
        """Return what it is, for a person."""
        edits = sum(version > 0 for _minute, version in self.records)
        return (
            f"  batch {self.name}: feed {self.feed}, before run {self.wave}, {len(self.records)} records"
            f" ({edits} edited), {self.spoiled} spoiled, {len(self.deletes)} deletions,"
            f" {self.deduplicator.rpartition('deduplicator.')[2]}{', poisoned' if self.poisoned else ''}"
            f"{f', retracts {self.retracts}' if self.retracts else ''}"
        )


def feed_batches(chance: random.Random, *, first_wave: int, deletes: bool) -> tuple[FeedBatchSpec, ...]:
    """Return the batches of one or two feeds.

    :param first_wave: 0 if the first batches are uploaded before anything goes wrong.
    :param deletes: whether batches delete records of earlier ones.
    """
    batches: list[FeedBatchSpec] = []
    for feed in range(1, chance.choice((2, 2, 3))):
        deduplicator = chance.choice((DELETE_ORIGIN, DELETE_ORIGIN, DELETE_ORIGIN, NONE))
        given = deletes or chance.random() < 0.5
        versions: dict[int, int] = {}
        now = 0
        for wave in range(first_wave, WAVES + 1):
            for part in range(chance.choice((1, 1, 2))):
                name = f"feed-{feed}-{wave}-{part}"
                records, gone, now = _next(chance, versions, now, deletes=deletes and wave > first_wave)
                spoilt = chance.randrange(3) if len(records) > 10 else 0
                batches.append(FeedBatchSpec(name, feed, wave, records, gone, spoilt, deduplicator, given))
    return tuple(batches)


def with_retractions(batches: tuple[FeedBatchSpec, ...], chance: random.Random) -> tuple[FeedBatchSpec, ...]:
    """Return the batches of feeds, with one more in some, which retracts one that no fault concerns by name.

    It may be staged together with that one, which may then be half uploaded, or not at all.

    :param batches: in the order in which they follow each other.
    """
    more = []
    for feed in sorted({batch.feed for batch in batches}):
        # What Tidepool alone rejects of a batch is only known once all of it was sent.
        candidates = [one for one in batches if one.feed == feed and not (one.spoiled or one.poisoned)]
        if chance.random() < 0.5 or not candidates:
            continue
        retracted = chance.choice(candidates)
        wave = chance.randrange(max(1, retracted.wave), WAVES + 1)
        name = f"feed-{feed}-{wave}-9"
        more.append(
            replace(
                retracted, name=name, wave=wave, records=(), deletes=(), spoiled=0, retracts=retracted.name
            )
        )
    return tuple(sorted((*batches, *more), key=lambda batch: (batch.feed, batch.name)))


def _next(
    chance: random.Random, versions: dict[int, int], now: int, *, deletes: bool
) -> tuple[tuple[tuple[int, int], ...], tuple[int, ...], int]:
    """Return records and deletions of a feed's next batch, and the minute that it has come to.

    :param versions: the version of each minute that was staged so far; a batch brings it up to date.
    """
    overlap = range(max(0, now - chance.randrange(15)), now)
    until = now + chance.randrange(10, 40)
    current = {minute: versions.get(minute, 0) for minute in overlap}
    for minute in range(now, until):
        if chance.random() < 0.9:  # the others come late, with an overlap, or never
            current[minute] = 0
    edited = [minute for minute in versions if chance.random() < 0.1]
    current |= {minute: versions[minute] + 1 for minute in edited}
    gone: list[int] = []
    if deletes:
        gone = [minute for minute in versions if minute not in current and chance.random() < 0.15]
        gone = gone or [minute for minute in list(versions)[:1] if current.pop(minute, None) is not None]
    versions |= current
    for minute in gone:
        versions.pop(minute, None)
    records = sorted(current.items())
    if len(records) > 2:
        # The same record twice in a batch: the later version counts.
        minute, version = chance.choice(records)
        records.append((minute, version + 1))
        versions[minute] = version + 1
    return tuple(records), tuple(gone), until


def feed_records(batch: FeedBatchSpec) -> list[Record]:
    """Return the records of a batch."""
    records = [_record(batch.feed, minute, version) for minute, version in batch.records]
    if not batch.given:
        records = [_without_origins(record) for record in records]
    if batch.poisoned:
        records.insert(len(records) // 2, poison(batch.feed, 19_000))
    first = 20_000 + 100 * batch.wave + 10 * int(batch.name[-1])
    return records + spoilt_ones(batch.feed, first, batch.spoiled)


def feed_manifest(batch: FeedBatchSpec) -> dict[str, Any]:
    """Return what the manifest of a batch says, but for user and files."""
    data_set = {
        "dataSetType": "continuous",
        "deviceId": device_id(batch.feed),
        "client": {"name": f"org.example.feed-{batch.feed}", "version": "1.0.0"},
        "deduplicator": {"name": batch.deduplicator},
    }
    said = {"dataSet": data_set, "deletes": [{"id": origin_id} for origin_id in _deleted(batch)]}
    return said | ({"retracts": batch.retracts} if batch.retracts else {})


def _deleted(batch: FeedBatchSpec) -> list[str]:
    """Return the origin ids of what a batch deletes: of each record, and of what is embedded in it."""
    records = [_record(batch.feed, minute, 0) for minute in batch.deletes]
    return [part["origin"]["id"] for record in records for part in (record, *_embedded(record))]


def _record(feed: int, minute: int, version: int) -> Record:
    """Return a version of a minute's record; its kind is the same in all of them."""
    record = record_of(feed, minute, 1.0 + version, random.Random(f"{minute}"))
    if record["type"] in ("cbg", "wizard"):
        name = "value" if record["type"] == "cbg" else "carbInput"
        record[name] = (record[name] + 7 * version) % 300
    for part in _embedded(record):
        part["origin"] = {"id": f"{part['origin']['id']}-inside"}
    return record


def _without_origins(record: Record) -> Record:
    for part in (record, *_embedded(record)):
        part.pop("origin", None)
    return record


def _embedded(record: Record) -> list[Record]:
    return [record[name] for name in ("bolus", "status") if isinstance(record.get(name), dict)]
