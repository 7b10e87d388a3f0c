"""Which records of a batch share an origin id, found in a first pass over its files.

Of several versions of one record the last one is uploaded: within one request Tidepool would keep them all.
What cannot be such a version, because its type differs or because it is embedded elsewhere, is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from hashlib import blake2b
from typing import Any, Final, Self

from tidepool_ingest.model import Problem, identity_fields, stored_form
from tidepool_ingest.model.deduplicators import (
    DATA_SET_DELETE_ORIGIN_OLDER,
    DATA_SET_DROP_HASH,
    REPLACED_ONLY_BY_NEWER,
    deduplicator_named,
)
from tidepool_ingest.model.gotime import parse_instant
from tidepool_ingest.model.origins import Origin, parts_of
from tidepool_ingest.model.problems import HASH_REPEATED, ORIGIN_NOT_NEWER
from tidepool_ingest.prepare.feeds.origins import Originated
from tidepool_ingest.prepare.seen import SeenDigests
from tidepool_ingest.staging.manifest import Manifest

CLASH: Final = "staged-origin-clash"
"""Another datum of the batch has the same ``origin.id`` and is of another type, or embedded in a record: one
would take the other's place."""

DELETED: Final = "staged-origin-deleted"
"""The batch deletes this ``origin.id`` as well."""


class OriginSurvey:
    """Looks at the origins of a batch's records, in order; to be used in a ``with`` statement.

    :param deleted: origin ids that the batch deletes.
    :param deduplicator: full name of the data set's.
    """

    def __init__(self, deleted: frozenset[str] = frozenset(), deduplicator: str = "") -> None:
        known = deduplicator_named(deduplicator)
        self._keeps_newer = known is DATA_SET_DELETE_ORIGIN_OLDER
        self._drops_equal = known is DATA_SET_DROP_HASH
        self._deleted = deleted
        self._ids = SeenDigests()
        self._typed_ids = SeenDigests()
        self._hashes = SeenDigests()
        self._hashed_ids = SeenDigests()
        self._embedded_in: dict[int, int] = {}
        self._newest: dict[int, tuple[tuple[int, int], str]] = {}
        self._last: dict[int, int] = {}
        self.refused: dict[int, tuple[Problem, ...]] = {}
        self._stack = ExitStack()

    @classmethod
    def of(cls, manifest: Manifest) -> OriginSurvey:
        """Return the survey of a batch."""
        return cls(frozenset(one.id for one in manifest.deletes), manifest.deduplicator_name)

    def __enter__(self) -> Self:
        for seen in (self._ids, self._typed_ids, self._hashes, self._hashed_ids):
            self._stack.enter_context(seen)
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    def look_at(self, ordinal: int, record: Originated, datum: Mapping[str, Any]) -> None:
        """Take note of an accepted record.

        :param ordinal: its place among all records of the batch; they come in order.
        :param record: its origins.
        :param datum: the record, decoded.
        """
        origins = record.origins
        problems = record.problems or tuple(self._problems(origins, datum))
        if problems:
            self.refused[ordinal] = problems
            return
        own, *inner = [_digest(origin.id) for origin in origins]
        known = self._ids.add((own, *inner))
        self._last.update(((own, *inner)[place], ordinal) for place in known)
        self._typed_ids.add([_digest(origin.type, origin.id) for origin in origins])
        self._embedded_in.update((one, own) for one in inner)
        if self._keeps_newer:
            for one, part in zip(origins, parts_of(datum), strict=True):
                self._newest[_digest(one.id)] = (_moment(one), _content(part))
        if self._drops_equal:
            for origin, identity in zip(origins, _identities(datum), strict=True):
                self._hashes.add((_digest(identity),))
                self._hashed_ids.add((_digest(identity, origin.id),))

    def is_replaced(self, ordinal: int, record: Originated) -> bool:
        """Tell, after all records were looked at, whether a later one takes a record's place.

        :param ordinal: its place among all records of the batch.
        :param record: its origins.
        """
        return self._last.get(_digest(record.origins[0].id), ordinal) > ordinal

    def _problems(self, origins: tuple[Origin, ...], datum: Mapping[str, Any]) -> Iterator[Problem]:
        digests = [_digest(origin.id) for origin in origins]
        for place, (origin, part) in enumerate(zip(origins, parts_of(datum), strict=True)):
            if origin.id in self._deleted:
                yield Problem(DELETED, "/origin/id")
            if self._clashes(origin, place, digests):
                yield Problem(CLASH, "/origin/id")
            elif self._keeps_newer and _is_guarded(origin) and not self._is_newer(origin, part):
                yield Problem(ORIGIN_NOT_NEWER, "/origin/time")
        if self._drops_equal:
            for origin, identity in zip(origins, _identities(datum), strict=True):
                seen = _digest(identity) in self._hashes
                if seen and _digest(identity, origin.id) not in self._hashed_ids:
                    yield Problem(HASH_REPEATED, "/time")

    def _clashes(self, origin: Origin, place: int, digests: list[int]) -> bool:
        """Tell whether a datum of a record would take the place of one that it is no version of.

        :param place: of the datum among those of its record, 0 for the record itself.
        :param digests: of all their origin ids.
        """
        digest = digests[place]
        home = self._embedded_in.get(digest)
        elsewhere = home is not None and (place == 0 or home != digests[0])
        of_another_type = digest in self._ids and _digest(origin.type, origin.id) not in self._typed_ids
        return elsewhere or of_another_type or digest in digests[:place]

    def _is_newer(self, origin: Origin, part: Mapping[str, Any]) -> bool:
        moment, content = self._newest.get(_digest(origin.id), (None, ""))
        return moment is None or _moment(origin) > moment or content == _content(part)


def _is_guarded(origin: Origin) -> bool:
    return origin.type in REPLACED_ONLY_BY_NEWER


def _moment(origin: Origin) -> tuple[int, int]:
    instant = parse_instant(origin.time or "")
    return (-1, 0) if instant is None else instant.moment


def _content(datum: Mapping[str, Any]) -> str:
    return json.dumps(datum, sort_keys=True)


def _identities(datum: Mapping[str, Any]) -> list[str]:
    return ["|".join(identity_fields(stored)) for stored in stored_form(datum)]


def _digest(*texts: str) -> int:
    hashed = blake2b("\0".join(texts).encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(hashed, "big", signed=True)
