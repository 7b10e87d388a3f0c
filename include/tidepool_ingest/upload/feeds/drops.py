"""What some deduplicators drop without a word: found before it is sent, and put into quarantine.

``dataset.delete.origin.older`` keeps the bolus or food that it has unless the new one's ``origin.time`` is
newer; ``dataset.drop.hash`` keeps whatever it has of a kind at a moment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from tidepool_ingest.ledger import Refusal
from tidepool_ingest.model import Problem, identity_hash
from tidepool_ingest.model.deduplicators import (
    DATA_SET_DELETE_ORIGIN_OLDER,
    DATA_SET_DROP_HASH,
    REPLACED_ONLY_BY_NEWER,
    Deduplicator,
)
from tidepool_ingest.model.gotime import parse_instant
from tidepool_ingest.model.origins import origin_id_of
from tidepool_ingest.model.problems import HASH_REPEATED, ORIGIN_NOT_NEWER
from tidepool_ingest.upload.feeds.contents import FeedContents
from tidepool_ingest.upload.feeds.verify import is_version, says_the_same

NEVER: Final = (-1, 0)
"""Before every moment: what has no ``origin.time`` is newer than nothing."""


def may_drop(deduplicator: Deduplicator) -> bool:
    """Tell whether a deduplicator keeps what it has instead of what is sent, for some records at least."""
    return deduplicator in (DATA_SET_DROP_HASH, DATA_SET_DELETE_ORIGIN_OLDER)


def predicted_drops(
    contents: FeedContents,
    shown: Iterable[Mapping[str, Any]],
    deduplicator: Deduplicator,
    *,
    user_id: str,
    upload_id: str,
) -> list[Refusal]:
    """Return which of a batch's records the Platform would drop, whole or in part.

    A record that says the same as what is there already is no loss, and not among them.

    :param contents: what the batch is about to send; it is told which versions may stay.
    :param shown: what the data set shows at the times of the batch's records.
    :param deduplicator: the data set's.
    :param user_id: whose data set it is.
    :param upload_id: the data set.
    """
    there = [row for row in shown if row.get("type") != "upload"]
    if deduplicator is DATA_SET_DROP_HASH:
        found = dict(_same_hash(contents, there, user_id=user_id, upload_id=upload_id))
    else:
        found = dict(_not_newer(contents, there))
    rows = Counter(expected.ordinal for expected in contents.rows.values())
    types = {expected.ordinal: expected.type for expected in reversed(contents.rows.values())}
    return [
        Refusal(ordinal=ordinal, type=types[ordinal], rows=rows[ordinal], problems=(problem,))
        for ordinal, problem in sorted(found.items())
    ]


Found = Iterator[tuple[int, Problem]]


def _same_hash(
    contents: FeedContents, there: list[Mapping[str, Any]], *, user_id: str, upload_id: str
) -> Found:
    by_hash = {(row.get("_deduplicator") or {}).get("hash"): row for row in there}
    for origin, expected in contents.rows.items():
        stored = expected.stored or {}
        row = by_hash.get(identity_hash(stored, user_id=user_id, scope=upload_id))
        if row is None or is_version(expected, row):
            continue
        if origin_id_of(row) == origin and says_the_same(stored, row):
            contents.may_be_older.add(origin)
        else:
            yield expected.ordinal, Problem(HASH_REPEATED, "/time")


def _not_newer(contents: FeedContents, there: list[Mapping[str, Any]]) -> Found:
    for row in there:
        origin = origin_id_of(row) or ""
        expected = contents.rows.get(origin)
        if expected is None or expected.type not in REPLACED_ONLY_BY_NEWER or is_version(expected, row):
            continue
        stored = expected.stored or {}
        is_newer = _origin_moment(stored) > max(_origin_moment(row), NEVER)
        if not is_newer and says_the_same(stored, row):
            contents.may_be_older.add(origin)
        elif not is_newer:
            yield expected.ordinal, Problem(ORIGIN_NOT_NEWER, "/origin/time")


def _origin_moment(datum: Mapping[str, Any]) -> tuple[int, int]:
    origin = datum.get("origin")
    time = origin.get("time") if isinstance(origin, Mapping) else None
    instant = parse_instant(time) if isinstance(time, str) else None
    return NEVER if instant is None else instant.moment
