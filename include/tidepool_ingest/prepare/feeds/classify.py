"""Which of a feed's records are accepted: as in any batch, and of each origin only the last version.

A batch's files are read twice, so that memory does not grow with the batch: the first pass finds which
records are versions of one another, the second one classifies them. Of several versions the last one is
uploaded, because within one request Tidepool would keep them all. What cannot be such a version, because its
type differs or because it is embedded elsewhere, is rejected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from typing import Any, Final, Self

from tidepool_ingest.deep_json import dumps
from tidepool_ingest.digests import DigestSet, digest_of
from tidepool_ingest.model import Problem, deduplicator_named, identity_fields, stored_form
from tidepool_ingest.model.gotime import parse_instant
from tidepool_ingest.model.origins import Origin, parts_of
from tidepool_ingest.model.problems import HASH_REPEATED, ORIGIN_NOT_NEWER
from tidepool_ingest.prepare.classify import JudgedBlock, Judgement, RecordClassifier
from tidepool_ingest.prepare.feeds.origins import OriginAssigner, RecordWithOrigins
from tidepool_ingest.prepare.reading import RecordReader
from tidepool_ingest.prepare.record_checks import RecordChecker
from tidepool_ingest.staged_batch import StagedBatch
from tidepool_ingest.staging.manifest import Manifest

CLASH: Final = "staged-origin-clash"
"""Another datum of the batch has the same ``origin.id`` and is of another type, or embedded in a record: one
would take the other's place."""

DELETED: Final = "staged-origin-deleted"
"""The batch deletes this ``origin.id`` as well."""

ORIGIN_TIME_MISSING: Final = "staged-origin-time-missing"
"""The deduplicator accepts an edit of this record only with a newer ``origin.time``, and it has none."""


class OriginIndex:
    """Indexes the origins of a batch's records, in order; to be used in a ``with`` statement.

    :param deleted: origin ids that the batch deletes.
    :param deduplicator: full name of the data set's.
    """

    def __init__(self, deleted: frozenset[str] = frozenset(), deduplicator: str = "") -> None:
        known = deduplicator_named(deduplicator)
        self._keeps_newer: AbstractSet[str] = known.keeps_newer if known else frozenset()
        self._drops_equal = known is not None and known.drops_equal
        self._deleted = deleted
        self._ids = DigestSet()
        self._typed_ids = DigestSet()
        self._hashes = DigestSet()
        self._hashed_ids = DigestSet()
        self._embedded_in: dict[int, int] = {}
        self._newest: dict[int, tuple[tuple[int, int], str]] = {}
        self._last: dict[int, int] = {}
        self.rejected: dict[int, tuple[Problem, ...]] = {}
        self._stack = ExitStack()

    @classmethod
    def of(cls, manifest: Manifest) -> OriginIndex:
        """Return the index of a batch."""
        return cls(frozenset(deletion.id for deletion in manifest.deletes), manifest.deduplicator_name)

    def __enter__(self) -> Self:
        for digests in (self._ids, self._typed_ids, self._hashes, self._hashed_ids):
            self._stack.enter_context(digests)
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    def add(self, ordinal: int, record: RecordWithOrigins, datum: Mapping[str, Any]) -> None:
        """Record the origins of an accepted record.

        :param ordinal: its number among all records of the batch; they come in order.
        :param record: its origins.
        :param datum: the record, decoded.
        """
        origins = record.origins
        problems = record.problems or tuple(self._problems(origins, datum))
        if problems:
            self.rejected[ordinal] = problems
            return
        own, *inner = [_digest(origin.id) for origin in origins]
        known = self._ids.add((own, *inner))
        self._last.update(((own, *inner)[index], ordinal) for index in known)
        self._typed_ids.add([_digest(origin.type, origin.id) for origin in origins])
        self._embedded_in.update((embedded, own) for embedded in inner)
        if self._keeps_newer:
            for origin, source in zip(origins, parts_of(datum), strict=True):
                self._newest[_digest(origin.id)] = (_moment(origin), _content(source))
        if self._drops_equal:
            for origin, identity in zip(origins, _identities(datum), strict=True):
                self._hashes.add((_digest(identity),))
                self._hashed_ids.add((_digest(identity, origin.id),))

    def is_replaced(self, ordinal: int, record: RecordWithOrigins) -> bool:
        """Return, once all records were added, whether a later one replaces a record.

        :param ordinal: its number among all records of the batch.
        :param record: its origins.
        """
        return self._last.get(_digest(record.origins[0].id), ordinal) > ordinal

    def _problems(self, origins: tuple[Origin, ...], datum: Mapping[str, Any]) -> Iterator[Problem]:
        digests = [_digest(origin.id) for origin in origins]
        for index, (origin, source) in enumerate(zip(origins, parts_of(datum), strict=True)):
            if origin.id in self._deleted:
                yield Problem(DELETED, "/origin/id")
            if self._clashes(origin, index, digests):
                yield Problem(CLASH, "/origin/id")
            elif origin.type in self._keeps_newer and not self._is_newer(origin, source):
                yield Problem(ORIGIN_NOT_NEWER, "/origin/time")
        if self._drops_equal:
            for origin, identity in zip(origins, _identities(datum), strict=True):
                seen = _digest(identity) in self._hashes
                if seen and _digest(identity, origin.id) not in self._hashed_ids:
                    yield Problem(HASH_REPEATED, "/time")

    def _clashes(self, origin: Origin, index: int, digests: list[int]) -> bool:
        """Return whether a datum of a record would replace one of which it is not a version.

        :param index: of the datum among those of its record, 0 for the record itself.
        :param digests: of all their origin ids.
        """
        digest = digests[index]
        container = self._embedded_in.get(digest)
        elsewhere = container is not None and (index == 0 or container != digests[0])
        of_another_type = digest in self._ids and _digest(origin.type, origin.id) not in self._typed_ids
        return elsewhere or of_another_type or digest in digests[:index]

    def _is_newer(self, origin: Origin, datum: Mapping[str, Any]) -> bool:
        moment, content = self._newest.get(_digest(origin.id), (None, ""))
        return moment is None or _moment(origin) > moment or content == _content(datum)


def _moment(origin: Origin) -> tuple[int, int]:
    instant = parse_instant(origin.time or "")
    return (-1, 0) if instant is None else instant.moment


def _content(datum: Mapping[str, Any]) -> str:
    return dumps(datum, sort_keys=True)


def _identities(datum: Mapping[str, Any]) -> list[str]:
    return ["|".join(identity_fields(stored)) for stored in stored_form(datum)]


def _digest(*texts: str) -> int:
    return digest_of("\0".join(texts))


class FeedClassifier:
    """Classifies the records of one batch of a feed, block by block; to be used in a ``with`` statement.

    :param batch: the batch; its files are read once before the first block is classified.
    :param embedded: digests of contents that are sent inside other records, and so not on their own.
    """

    def __init__(self, batch: StagedBatch, embedded: AbstractSet[int] = frozenset()) -> None:
        self._batch = batch
        self._classifier = _classifier(batch.manifest, embedded)
        self._assigner = OriginAssigner.of(batch.manifest)
        self._index = OriginIndex.of(batch.manifest)
        known = deduplicator_named(batch.manifest.deduplicator_name)
        self._keeps_newer: AbstractSet[str] = known.keeps_newer if known else frozenset()
        self._classified = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._index)
            self._index_origins()
            stack.enter_context(self._classifier)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    def classify(self, lines: list[bytes]) -> JudgedBlock:
        """Classify a block of records.

        :param lines: records as they would be uploaded, one JSON text each, except for their origins.
        """
        found = self._classifier.classify(lines)
        sent, exceptions = list(lines), dict(found.exceptions)
        for index, datum in accepted_of(found):
            ordinal = self._classified + index
            record = self._assigner.assign(lines[index], datum)
            before = exceptions.get(index) or Judgement(lines[index], datum)
            if rejected := self._index.rejected.get(ordinal):
                exceptions[index] = before._replace(problems=rejected)
            elif self._index.is_replaced(ordinal, record):
                exceptions[index] = before._replace(replaced=True)
            else:
                sent[index] = record.line
                warned = (*before.warnings, *self._warnings(record))
                if index in exceptions or warned:
                    exceptions[index] = before._replace(line=record.line, warnings=warned)
        self._classified += len(lines)
        return JudgedBlock(sent, found.records, found.data, exceptions)

    def _index_origins(self) -> None:
        """Index the origins of all records, classified as they will be in the second pass."""
        manifest, folder = self._batch.manifest, self._batch.folder.path
        with (
            RecordReader.of(manifest, folder) as reader,
            _classifier(manifest, reader.embedded) as classifier,
        ):
            ordinal = 0
            for block in reader:
                found = classifier.classify(block.lines)
                for index, datum in accepted_of(found):
                    record = self._assigner.assign(found.lines[index], datum)
                    self._index.add(ordinal + index, record, datum)
                ordinal += len(found.lines)

    def _warnings(self, record: RecordWithOrigins) -> tuple[Problem, ...]:
        if any(origin.type in self._keeps_newer and origin.time is None for origin in record.origins):
            return (Problem(ORIGIN_TIME_MISSING, "/origin/time"),)
        return ()


def accepted_of(found: JudgedBlock) -> list[tuple[int, Mapping[str, Any]]]:
    """Return index and decoded record of those records of a block that are uploaded."""
    left_out = {
        index for index, record in found.exceptions.items() if record.is_embedded or not record.accepted
    }
    return [
        (index, datum)
        for index, datum in enumerate(found.data)
        if datum is not None and index not in left_out
    ]


class _NoDigests(DigestSet):
    """Remembers nothing: in a feed a duplicate is another version, and counts by its origin."""

    def __contains__(self, digest: int) -> bool:
        return False

    def add(self, digests: Iterable[int]) -> list[int]:
        """Do nothing."""
        return []


def _classifier(manifest: Manifest, embedded: AbstractSet[int]) -> RecordClassifier:
    none = _NoDigests()
    return RecordClassifier(RecordChecker.of(manifest), embedded, contents=none, ids=none)
