"""Compare what continuous data sets show with what was staged for them, feed by feed.

Of each record the newest staged version is to be visible once, and nothing of what a batch deletes or of one
that another batch retracts. Batches follow each other in the order of staging: by day, then by name.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tidepool_simulator.sample.checker.content import Row, instant_of, row_of, same_text
from tidepool_simulator.sample.checker.expected import Place
from tidepool_simulator.sample.checker.quarantine import rejected_records
from tidepool_simulator.sample.checker.result import SetCheck
from tidepool_simulator.sample.checker.shapes import EMBEDDED, SUB_KIND_FIELDS
from tidepool_simulator.sample.checker.staged import StagedBatch, StagedRecord
from tidepool_simulator.sample.checker.store import StoredSet

Key = Hashable
"""What identifies a record of a feed: its ``origin.id``, or the fields that the manifest names."""


@dataclass
class ExpectedFeed:
    """What is to be visible of one feed.

    :param rows: the newest row of each key, and where it is staged.
    :param optional: what a batch that is retracted was to replace. It did if it had come so far, and then
        nothing is to be visible of it.
    :param known: every row that was ever staged and not rejected.
    :param unaccounted: records that are no JSON object and not in quarantine either.
    :param identical: records of which the same batch holds a later version.
    :param superseded: rows that a later version or a deletion has taken the place of.
    """

    user_id: str
    client_name: str | None
    batches: list[str] = field(default_factory=list)
    rows: dict[Key, tuple[Row, Place]] = field(default_factory=dict)
    optional: dict[Key, Row] = field(default_factory=dict)
    known: set[Row] = field(default_factory=set)
    unaccounted: list[Place] = field(default_factory=list)
    superseded: int = 0
    staged: int = 0
    quarantined: int = 0
    identical: int = 0

    def replace(self, key: Key, *, is_retracted: bool) -> None:
        """Expect no longer what was there of a record.

        :param is_retracted: the batch that replaces or deletes it is retracted, and may not have come so far.
        """
        before = self.rows.pop(key, None)
        self.superseded += before is not None
        if not is_retracted:
            self.optional.pop(key, None)
        elif before is not None:
            self.optional[key] = before[0]


def expect_feeds(batches: Sequence[StagedBatch], staging_root: Path) -> list[ExpectedFeed]:
    """Follow the batches of all feeds, and return what each feed is to show.

    :param batches: those for continuous data sets, all readable.
    """
    feeds: dict[tuple[str, str | None], ExpectedFeed] = {}
    retracted = {(batch.user_id, batch.client_name, batch.retracts) for batch in batches}
    for batch in sorted(batches, key=lambda batch: (batch.name.split("/")[0], batch.batch_id)):
        place = (batch.user_id, batch.client_name)
        feed = feeds.setdefault(place, ExpectedFeed(*place))
        _follow(feed, batch, staging_root, is_retracted=(*place, batch.batch_id) in retracted)
    return list(feeds.values())


def compare_feeds(feeds: Sequence[ExpectedFeed], sets: Sequence[StoredSet]) -> Iterator[SetCheck]:
    """Yield what each continuous data set shows, and how that differs.

    :param feeds: what was staged.
    :param sets: the continuous data sets. One whose client no manifest names is the feed's whose manifests
        name none.
    """
    named = {(feed.user_id, feed.client_name) for feed in feeds}
    homes: dict[tuple[str, str | None], list[StoredSet]] = defaultdict(list)
    for stored in sets:
        place = (stored.user_id, stored.client_name)
        homes[place if place in named else (stored.user_id, None)].append(stored)
    for feed in feeds:
        yield from _compare(feed, homes.pop((feed.user_id, feed.client_name), []))
    for (user_id, client_name), strangers in homes.items():
        yield from _compare(ExpectedFeed(user_id, client_name), strangers)


def _follow(feed: ExpectedFeed, batch: StagedBatch, staging_root: Path, *, is_retracted: bool) -> None:
    rejected = rejected_records(staging_root, batch.content_key)
    feed.batches.append(batch.name)
    newest: dict[Key, StagedRecord] = {}
    for record in batch.records or ():
        place = (record.file_number, record.position)
        feed.staged += 1
        if record.entry in rejected:
            feed.quarantined += 1
        elif record.value is None:
            feed.unaccounted.append(place)
        else:
            key = _key(record.value, batch.origin_key, None)
            feed.identical += key in newest
            feed.known.update(row for _key, row in _rows(record.value, batch.origin_key))
            newest[key] = record
    for origin_id in batch.deletes:
        feed.replace(("given", origin_id), is_retracted=is_retracted)
    for record in newest.values():
        for key, row in _rows(record.value or {}, batch.origin_key):
            feed.replace(key, is_retracted=is_retracted)
            if not is_retracted:
                feed.rows[key] = (row, (record.file_number, record.position))


def _compare(feed: ExpectedFeed, sets: Sequence[StoredSet]) -> Iterator[SetCheck]:
    missing = Counter(row for row, _place in feed.rows.values())
    optional = Counter(feed.optional.values())
    entries = []
    for stored in sets:
        state = "deleted" if stored.deleted else "closed" if stored.closed else "open"
        entry = SetCheck(stored.user_id, stored.device_id, stored.upload_id, state, list(feed.batches))
        for found in stored.rows:
            if not found.visible:
                continue
            row = _without_origin(found.row)
            entry.visible += 1
            if missing[row]:
                missing[row] -= 1
            elif optional[row]:
                optional[row] -= 1
            elif row in feed.known:
                entry.double += 1
            else:
                entry.foreign += 1
        entries.append(entry)
    gone = +missing
    if not entries and (feed.rows or feed.unaccounted):
        entries.append(SetCheck(feed.user_id, None, "", "not uploaded", list(feed.batches)))
    if entries:
        entries[0].superseded = feed.superseded
        entries[0].lost = gone.total() + len(feed.unaccounted)
        lost = [place for row, place in feed.rows.values() if row in gone]
        entries[0].lost_places = sorted({*lost, *feed.unaccounted})
    yield from (entry for entry in entries if entry.visible or entry.lost)


def _rows(record: Mapping[str, Any], fields: Sequence[str]) -> Iterator[tuple[Key, Row]]:
    """Yield the rows that a staged record becomes, each with its key."""
    own = _key(record, fields, None)
    yield own, _without_origin(row_of(record))
    part = EMBEDDED.get(_kind(record), "")
    embedded = record.get(part)
    if isinstance(embedded, Mapping):
        yield _key(embedded, fields, (own, part)), _without_origin(row_of(embedded))


def _key(record: Mapping[str, Any], fields: Sequence[str], inside: Hashable) -> Key:
    """Return the key of a datum; of an embedded one that lacks a field, by the record that it is in."""
    origin = record.get("origin")
    if isinstance(origin, Mapping) and origin.get("id"):
        return ("given", origin["id"])
    values = [_value(record, name) for name in fields]
    if inside is not None and any(
        value == "null" and name not in _MAY_LACK for value, name in zip(values, fields, strict=True)
    ):
        return ("inside", inside)
    return ("made", record.get("type"), *values)


_MAY_LACK = ("type", "subType", "deliveryType", "time", "deviceId")


def _value(record: Mapping[str, Any], name: str) -> Hashable:
    value: Any = record
    for step in name.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return instant_of(value) if name == "time" else same_text(value)


def _kind(record: Mapping[str, Any]) -> tuple[str, str | None]:
    kind = str(record.get("type"))
    name = SUB_KIND_FIELDS.get(kind)
    return kind, None if name is None else str(record.get(name))


def _without_origin(row: Row) -> Row:
    """Return a row without its origin: some get one on their way, and each is identified by it."""
    content: Any = row.content
    kind, fields = content
    return row._replace(content=(kind, tuple(entry for entry in fields if entry[0] != "origin")))
