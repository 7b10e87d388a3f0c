"""Which of a batch's records are accepted, which go to quarantine, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import compress
from typing import Any, Final, NamedTuple, Self, cast

from tidepool_ingest.digests import DigestSet, digest_of
from tidepool_ingest.formats.reader import EXPORT_ERROR
from tidepool_ingest.model import LineObjects, Outline, Problem, embedded_data, validate_block
from tidepool_ingest.prepare.digests import content_digests
from tidepool_ingest.prepare.record_checks import RecordChecker
from tidepool_ingest.staging.errors import BatchError

ID_REPEATED: Final = "staged-id-repeated"
"""Another record of the batch has the same ``id``: Tidepool would show both under one identifier."""

NULL: Final = "staged-null"
"""The record is ``null``. The Platform skips it silently."""


class Judgement(NamedTuple):
    """What becomes of one record.

    :param line: the record as it would be uploaded.
    :param datum: the record decoded, ``None`` if it is not a JSON object.
    :param problems: why it goes to quarantine; empty if it does not.
    :param identical: it is a duplicate of an accepted record of the batch.
    :param embedded: fields of an accepted record with a datum that the Platform splits off.
    :param warnings: what is reported about an accepted record.
    :param has_own_id: it, or a datum embedded in it, was staged with an identifier.
    :param is_embedded: it is accepted, but sent inside another record that embeds it.
    :param replaced: a later version of it is in the batch, by its origin.
    """

    line: bytes
    datum: Mapping[str, Any] | None
    problems: tuple[Problem, ...] = ()
    identical: bool = False
    embedded: tuple[str, ...] = ()
    warnings: tuple[Problem, ...] = ()
    has_own_id: bool = False
    is_embedded: bool = False
    replaced: bool = False

    def __repr__(self) -> str:
        """Leave the record out."""
        return f"Judgement(accepted={self.accepted}, problems={self.problems!r})"

    @property
    def accepted(self) -> bool:
        """Whether it is to be stored."""
        return not (self.problems or self.identical or self.replaced)


@dataclass(frozen=True)
class JudgedBlock:
    """What becomes of a block of records: most are accepted, with nothing more to say about them.

    :param lines: the records as they would be uploaded.
    :param records: of each that the Platform accepts, its outline.
    :param data: the records, decoded when they are asked for.
    :param exceptions: by index, those that are rejected or duplicates, or about which there is more to say.
    """

    lines: list[bytes] = field(repr=False)
    records: Sequence[Outline | None] = field(repr=False)
    data: Sequence[Mapping[str, Any] | None] = field(repr=False)
    exceptions: dict[int, Judgement]

    def __iter__(self) -> Iterator[Judgement]:
        """Yield what becomes of each record, in order."""
        for index, (line, datum) in enumerate(zip(self.lines, self.data, strict=True)):
            yield self.exceptions.get(index) or Judgement(line, datum)

    def left_out(self) -> list[int]:
        """Return the indexes of the records that are not uploaded as such, ascending."""
        exceptions = self.exceptions.items()
        return sorted(index for index, record in exceptions if record.is_embedded or not record.accepted)

    def usual(self) -> Sequence[Outline]:
        """Return the outlines of the accepted records about which there is no more to say."""
        usual = compress(self.records, _all_but(self.exceptions, len(self.records)))
        return cast("list[Outline]", list(usual))

    def to_upload(self) -> tuple[Sequence[bytes], Sequence[Outline]]:
        """Return the records that are uploaded as such, as lines and in outline."""
        left_out = set(self.left_out())
        if not left_out:
            return self.lines, cast("Sequence[Outline]", self.records)
        kept = _all_but(left_out, len(self.lines))
        return list(compress(self.lines, kept)), cast("list[Outline]", list(compress(self.records, kept)))

    def data_to_upload(self) -> list[Mapping[str, Any]]:
        """Return the same records, decoded."""
        kept = compress(range(len(self.lines)), _all_but(self.left_out(), len(self.lines)))
        return [datum for index in kept if (datum := self.data[index]) is not None]


class RecordClassifier:
    """Validates the records of one batch, block by block; to be used in a ``with`` statement.

    :param checker: what is checked beyond the Platform's own verdict.
    :param embedded: digests of contents that are sent inside other records, and so not on their own.
    :param contents: remembers contents, to recognize duplicates.
    :param ids: remembers identifiers, to recognize repeated ones.
    """

    def __init__(
        self,
        checker: RecordChecker,
        embedded: AbstractSet[int] = frozenset(),
        *,
        contents: DigestSet | None = None,
        ids: DigestSet | None = None,
    ) -> None:
        self._checker = checker
        self._embedded = embedded
        self._contents = contents or DigestSet()
        self._ids = ids or DigestSet()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self._contents)
        self._stack.enter_context(self._ids)
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    def classify(self, lines: list[bytes]) -> JudgedBlock:
        """Classify a block of records.

        :param lines: records as they would be uploaded, one JSON text each.
        :raises BatchError: ``export-cut-off`` if a row says that the file is not whole.
        """
        records, problems, decoded = validate_block(lines)
        data = LineObjects(lines, decoded)
        exceptions = {index: Judgement(lines[index], data[index], found) for index, found in problems.items()}
        for index in problems:
            if is_cut_off(data[index]):
                raise BatchError("export-cut-off")
        whole: list[Any] = list(records)
        for index, datum in decoded.items():
            whole[index] = None if index in problems else datum
        contents = content_digests(lines, whole)
        to_check = set(self._checker.needing_check(records))
        if self._embedded:
            to_check.update(index for index, content in enumerate(contents) if content in self._embedded)
        for index in sorted(to_check - problems.keys()):
            exceptions[index] = self._checked(lines[index], data[index], contents[index])
        for index in self._duplicates(contents, exceptions):
            exceptions[index] = Judgement(lines[index], data[index], identical=True)
        return JudgedBlock(lines, records, data, exceptions)

    def _checked(self, line: bytes, datum: Mapping[str, Any] | None, content: int) -> Judgement:
        """Classify a record that the Platform accepts and in which something may be found.

        A rejected one is not remembered, so that a duplicate of it is rejected too.
        """
        if datum is None:
            return Judgement(line, None, (Problem(NULL, ""),))
        embedded = embedded_data(datum)
        rejected, warned = self._checker.check_record(datum, embedded)
        if rejected:
            return Judgement(line, datum, rejected)
        ids = list(_ids(datum, embedded))
        if ids:
            if content in self._contents:
                return Judgement(line, datum, identical=True)
            if repeated := self._repeated_ids(ids):
                return Judgement(line, datum, repeated)
            self._contents.add((content,))
        return Judgement(
            line,
            datum,
            embedded=embedded,
            warnings=warned,
            has_own_id=bool(ids),
            is_embedded=content in self._embedded,
        )

    def _duplicates(self, contents: Sequence[int], exceptions: Mapping[int, Judgement]) -> Sequence[int]:
        """Return which records are duplicates, of those not yet decided on; remember the rest."""
        settled = {index for index, record in exceptions.items() if record.has_own_id or not record.accepted}
        if not settled:
            return self._contents.add(contents)
        undecided = _all_but(settled, len(contents))
        known = self._contents.add(list(compress(contents, undecided)))
        indexes = list(compress(range(len(contents)), undecided)) if known else []
        return [indexes[number] for number in known]

    def _repeated_ids(self, ids: list[tuple[str, int]]) -> tuple[Problem, ...]:
        """Return which identifiers of a record are taken; if none is, take them."""
        own: set[int] = set()
        problems = []
        for pointer, identifier in ids:
            if identifier in own or identifier in self._ids:
                problems.append(Problem(ID_REPEATED, f"{pointer}/id"))
            own.add(identifier)
        if not problems:
            self._ids.add(tuple(own))
        return tuple(problems)


def is_cut_off(datum: Mapping[str, Any] | None) -> bool:
    """Return whether a row is no record, but says that an export of Tidepool's is not whole."""
    return datum is not None and EXPORT_ERROR in datum and "type" not in datum


def _all_but(indexes: Iterable[int], count: int) -> bytearray:
    """Return a mask of ``count`` bytes: 1, or 0 at the given indexes."""
    kept = bytearray(b"\1") * count
    for index in indexes:
        kept[index] = 0
    return kept


def _ids(datum: Mapping[str, Any], embedded: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    """Yield where the identifiers of a record and of the data embedded in it are, and their digests."""
    for pointer, holder in (("", datum), *((f"/{name}", datum[name]) for name in embedded)):
        if (identifier := holder.get("id")) is not None:
            yield pointer, digest_of(identifier.encode())
