"""Which of a batch's records are accepted, which go to quarantine, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Final, NamedTuple, Self

import msgspec

from tidepool_ingest.model import Problem, embedded_data, judge_lines
from tidepool_ingest.prepare.record_checks import RecordChecker
from tidepool_ingest.prepare.seen import SeenTexts

ID_REPEATED: Final = "staged-id-repeated"
"""Another record of the batch has the same ``id``: Tidepool would show both under one identifier."""

NULL: Final = "staged-null"
"""The record is ``null``. The Platform skips it without a word."""


class Sorted(NamedTuple):
    """What becomes of one record.

    :param line: the record as it would be uploaded.
    :param datum: the record decoded, ``None`` if it is no JSON object.
    :param problems: why it goes to quarantine; empty if it does not.
    :param identical: it repeats an accepted record of the batch.
    :param embedded: fields of an accepted record that hold a datum which the Platform splits off.
    :param warnings: what is reported of an accepted record.
    """

    line: bytes
    datum: Mapping[str, Any] | None
    problems: tuple[Problem, ...] = ()
    identical: bool = False
    embedded: tuple[str, ...] = ()
    warnings: tuple[Problem, ...] = ()

    @property
    def has_own_id(self) -> bool:
        """Tell whether the record, or a datum embedded in it, was staged with an identifier."""
        return next(_ids(self), None) is not None


class RecordSorter:
    """Judges the records of one batch, block by block; to be used in a ``with`` statement.

    :param checker: what is looked at beyond the Platform's own verdict.
    """

    def __init__(self, checker: RecordChecker) -> None:
        self._checker = checker
        self._contents = SeenTexts()
        self._ids = SeenTexts()
        self._encode = msgspec.json.Encoder(order="deterministic").encode
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self._contents)
        self._stack.enter_context(self._ids)
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    def sort(self, lines: list[bytes]) -> Iterator[Sorted]:
        """Judge some records.

        :param lines: records as they would be uploaded, one JSON text each.
        """
        for line, (datum, problems) in zip(lines, judge_lines(lines), strict=True):
            if problems or datum is None:
                yield Sorted(line, datum, problems or (Problem(NULL, ""),))
            else:
                yield self._sorted(line, datum)

    def _sorted(self, line: bytes, datum: Mapping[str, Any]) -> Sorted:
        """Sort a record that the Platform accepts; a refused one is not remembered, nor what repeats it."""
        embedded = embedded_data(datum)
        refused, warned = self._checker.look_at(datum, embedded)
        if refused:
            return Sorted(line, datum, refused)
        content = self._contents.digest(self._spelled(line, datum))
        if content in self._contents:
            return Sorted(line, datum, identical=True)
        record = Sorted(line, datum, embedded=embedded, warnings=warned)
        if record.has_own_id and (repeated := self._repeated_ids(record)):
            return Sorted(line, datum, repeated)
        self._contents.add(content)
        return record

    def _spelled(self, line: bytes, datum: Mapping[str, Any]) -> bytes:
        """Return a text that is the same for every spelling of the same record."""
        try:
            return self._encode(datum)
        except (UnicodeEncodeError, OverflowError, RecursionError, msgspec.MsgspecError):
            # Lone surrogates, whole numbers beyond 64 bits: such a record is compared by its text.
            return line

    def _repeated_ids(self, record: Sorted) -> tuple[Problem, ...]:
        """Return which identifiers of a record are taken; when none is, they are now."""
        own: set[int] = set()
        problems = []
        for pointer, text in _ids(record):
            digest = self._ids.digest(text.encode())
            if digest in own or digest in self._ids:
                problems.append(Problem(ID_REPEATED, f"{pointer}/id"))
            own.add(digest)
        if not problems:
            for digest in own:
                self._ids.add(digest)
        return tuple(problems)


def _ids(record: Sorted) -> Iterator[tuple[str, str]]:
    """Yield where and which are the identifiers of a record and of the data embedded in it."""
    assert record.datum is not None
    if (own := record.datum.get("id")) is not None:
        yield "", own
    for name in record.embedded:
        if (own := record.datum[name].get("id")) is not None:
            yield f"/{name}", own
