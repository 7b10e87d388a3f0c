"""Documents of a Nightscout site, in whatever form they were taken out of it.

One array or an object a line, the API's ``{"status": 200, "result": […]}``, a single document over many
lines, a table whose cells may be JSON: each row is one document, told by what it has and not by the name of
its file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import chain
from typing import Annotated, Any, Final, Literal, final

import msgspec

from tidepool_ingest.deep_json import loads
from tidepool_ingest.formats import json_array, ndjson
from tidepool_ingest.formats.delimited import ROW_RAGGED, DelimitedText, first_rows
from tidepool_ingest.formats.nightscout.values import (
    EARLIEST_MS,
    LARGEST,
    LATEST_MS,
    Document,
    RefusedDocumentError,
    inner,
    instant,
)
from tidepool_ingest.formats.reader import Block, RejectedRow
from tidepool_ingest.model.decode import FAST_ERRORS, fast_decode
from tidepool_ingest.model.problems import STAGED_NOT_JSON, STAGED_NOT_UTF8
from tidepool_ingest.staging.source_file import SourceFile

RESULT: Final = "result"
"""Member of an answer of the API's version 3 that holds the documents."""

ENTRIES_CSV: Final = ("dateString", "date", "sgv", "direction", "device")
"""Columns of ``entries.csv``, which has no header."""

_READINGS: Final = ("sgv", "mbg", "cal", "rawbg")
_AMOUNTS: Final = ("insulin", "carbs", "glucose", "rate", "absolute", "targetTop")
_STATUS: Final = ("openaps", "loop", "pump", "uploader", "uploaderBattery", "xdripjs")
_CATALOGUE: Final = ("food", "quickpick")
_TIMES: Final = ("created_at", "date", "mills", "timestamp", "dateString")
_IN_FORCE_FROM: Final = "startDate"
_LOOKED_AT: Final = 3
"""First documents by which a file is recognized."""


SENSOR_ERRORS_BELOW: Final = 13
"""mg/dL below which a value is an error code of Dexcom's; other sensors measure from here on."""

USUAL_MAX: Final = 1000
"""What no sensor shows is looked at more closely."""

_SHORT: Final = 2000
"""Characters of a document up to which nothing in it is long or deep enough to matter."""

_Absent = Annotated[int, msgspec.Meta(ge=1, le=0)]
"""What no value is: a document that has it is decoded as a whole."""
_Said = Annotated[int, msgspec.Meta(gt=-LARGEST, lt=LARGEST)] | None


_NAMES: Final = {"own": "_id", "event": "eventType", "sync": "syncIdentifier", "valid": "isValid"}


@final
class Reading(msgspec.Struct, gc=False, rename=_NAMES):
    """An entry of a sensor as most are: what else it says changes nothing."""

    type: Literal["sgv"]
    sgv: Annotated[int, msgspec.Meta(ge=SENSOR_ERRORS_BELOW, le=USUAL_MAX)]
    date: Annotated[int, msgspec.Meta(ge=EARLIEST_MS, lt=LATEST_MS)]
    own: str | None = None
    identifier: str | None = None
    direction: str | None = None
    noise: _Said = None
    filtered: _Said = None
    unfiltered: _Said = None
    rssi: _Said = None
    event: _Absent = 0
    sync: _Absent = 0
    id: _Absent = 0
    units: _Absent = 0
    valid: _Absent = 0
    result: _Absent = 0

    def __repr__(self) -> str:
        """Leave all of it out."""
        return "Reading()"


_reading_in: Final = msgspec.json.Decoder(Reading).decode


class Kind(Enum):
    """Which collection a document is of."""

    ENTRY = auto()
    TREATMENT = auto()
    PROFILE = auto()
    DEVICE_STATUS = auto()
    CATALOGUE = auto()


def kind_of(document: Document) -> Kind | None:
    """Return which collection a document is of, ``None`` if it is of none."""
    if "eventType" in document:
        return Kind.TREATMENT
    if document.get("type") in _READINGS or "sgv" in document or "mbg" in document:
        return Kind.ENTRY
    if inner(document, "store") or ("basal" in document and "carbratio" in document):
        return Kind.PROFILE
    if not any(name in document for name in _TIMES):
        return None
    if any(name in document for name in _STATUS):
        return Kind.DEVICE_STATUS
    if document.get("type") in _CATALOGUE:
        return Kind.CATALOGUE
    return Kind.TREATMENT if any(name in document for name in _AMOUNTS) else None


@dataclass(slots=True)
class Documents:
    """Some consecutive documents of a file.

    :param first: position of the first row.
    :param rows: of each document: position, text as staged, what a person calls the place, the document.
    :param rejected: rows that are no document.
    """

    first: int
    rows: list[tuple[int, bytes, str, dict[str, Any] | Reading]] = field(default_factory=list, repr=False)
    rejected: list[RejectedRow] = field(default_factory=list, repr=False)


def recognizes(start: bytes) -> bool:
    """Return whether a text begins with a document of Nightscout's.

    :param start: the text's beginning.
    """
    return any(
        kind_of(document) is not None and any(name in document for name in (*_TIMES, _IN_FORCE_FROM))
        for document in _first_documents(start.lstrip())
    )


def _first_documents(start: bytes) -> Iterator[dict[str, Any]]:
    if start[:1] not in (b"{", b"["):
        with suppress(RefusedDocumentError, StopIteration):
            rows = iter(first_rows(start))
            header, first = next(rows), next(rows)
            columns, is_header = _columns(header)
            yield _document(columns, first if is_header else header)
        return
    decoded = start.decode(errors="replace")
    at = json_array.wrapped(start, RESULT) if start.startswith(b"{") else 1
    decoder, place = json.JSONDecoder(), at or 0
    for _ in range(_LOOKED_AT):
        while decoded[place : place + 1] in (" ", "\t", "\r", "\n", ","):
            place += 1
        try:
            document, place = decoder.raw_decode(decoded, place)
        except (ValueError, RecursionError):
            return
        if isinstance(document, dict):
            yield _unwrapped(document)


def documents_of(file: SourceFile) -> Iterator[Documents]:
    """Yield the documents of a file, in blocks.

    :param file: the file.
    :raises BatchError: it cannot be read, or is no text of documents.
    """
    if file.start().lstrip()[:1] in (b"{", b"["):
        for block in _json(file):
            yield _decoded(block)
    else:
        yield from _of_table(file)


def blocks_of(file: SourceFile) -> Iterator[Block]:
    """Yield the rows of a file as they are.

    :param file: the file.
    :raises BatchError: as for :func:`documents_of`.
    """
    for found in documents_of(file):
        positions = [position for position, _text, _where, _document in found.rows]
        texts = [row for _position, row, _where, _document in found.rows]
        where = [where for _position, _row, where, _document in found.rows]
        yield Block(found.first, texts, found.rejected, positions=positions, where=where)


def _json(file: SourceFile) -> Iterator[Block]:
    pieces = file.text()
    start = b""
    for piece in pieces:
        start += piece
        if not start.isspace():
            break
    whole = chain((start,), pieces)
    begins = start.lstrip()
    is_array = json_array.JsonArrayReader.recognizes(begins) or json_array.wrapped(begins, RESULT) is not None
    if is_array:
        return json_array.split(whole, file.number, member=RESULT)
    return ndjson.split(whole, file.number)


def _decoded(block: Block) -> Documents:
    found = Documents(block.first_position, rejected=list(block.rejected))
    rows = found.rows
    for position, line in enumerate(block.lines, block.first_position):
        # What a decoder passes over it does not look at for characters that are none.
        is_short = len(line) <= _SHORT and line.isascii()
        if is_short and b'"sgv"' in line:
            try:
                reading = _reading_in(line)
            except FAST_ERRORS:
                pass
            else:
                rows.append((position, line, "", reading))
                continue
        try:
            document = _short(line) if is_short else decoded(line)
        except UnicodeDecodeError:
            found.rejected.append(RejectedRow(position, STAGED_NOT_UTF8, line))
        except ValueError:
            found.rejected.append(RejectedRow(position, STAGED_NOT_JSON, line))
        else:
            is_object = isinstance(document, dict)
            rows.append((position, line, "", _unwrapped(document) if is_object else {}))
    return found


def _short(line: bytes) -> Any:
    """Return what a short JSON text says: what the faster decoder takes, it reads as the other one does.

    :raises ValueError: it is none.
    """
    try:
        return fast_decode(line)
    except FAST_ERRORS:
        return decoded(line)


_DECODE: Final = json.JSONDecoder().raw_decode


def decoded(line: bytes) -> Any:
    """Return what a JSON text says.

    :raises ValueError: it is none.
    """
    written = line.decode()
    with suppress(ValueError, RecursionError):
        value, end = _DECODE(written)
        if end == len(written):
            return value
    return loads(written)  # it is deep, has white space around it, or is none


def _unwrapped(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document without the answer of the API that it alone is in."""
    result = document.get(RESULT)
    return result if isinstance(result, dict) and "status" in document else document


def _of_table(file: SourceFile) -> Iterator[Documents]:
    columns: Sequence[str] | None = None
    first = 0
    for rows in DelimitedText(file).rows():
        if columns is None and rows.cells:
            columns, is_header = _columns(rows.cells[0])
            if is_header:
                del rows.cells[0], rows.texts[0], rows.lines[0]
        positions, rejected = rows.positions(first)
        found = Documents(first, rejected=rejected)
        for position, line, staged, cells in zip(positions, rows.lines, rows.texts, rows.cells, strict=True):
            try:
                made = _document(columns or (), cells)
            except RefusedDocumentError as refused:
                rejected.append(RejectedRow(position, refused.code, staged, f"line {line}"))
            else:
                found.rows.append((position, staged, f"line {line}", made))
        first += len(rows)
        yield found


def _columns(first: Sequence[str]) -> tuple[Sequence[str], bool]:
    """Return the names of a table's columns, and whether its first row is its header."""
    if len(first) == len(ENTRIES_CSV):
        with suppress(RefusedDocumentError):
            instant({"date": first[1]}, "date")
            return ENTRIES_CSV, False
    return [name.strip() for name in first], True


def _document(columns: Sequence[str], cells: Sequence[str]) -> dict[str, Any]:
    """Return the document that a row of a table is: its cells by their columns, or one that a cell holds.

    :raises RefusedDocumentError: a cell begins as JSON and is none, or there are more cells than columns.
    """
    if any(cell.strip() for cell in cells[len(columns) :]):
        raise RefusedDocumentError(ROW_RAGGED)
    document: dict[str, Any] = {}
    whole: dict[str, Any] | None = None
    for name, cell in zip(columns, cells, strict=False):
        written = cell.strip()
        if not written or written == "null":
            continue
        value: object = written
        if written[0] in "{[":
            try:
                value = loads(written)
            except ValueError:
                raise RefusedDocumentError(STAGED_NOT_JSON) from None
            if whole is None and isinstance(value, dict) and kind_of(value) is not None:
                whole = value
        _put(document, name.split("."), value)
    return document if whole is None or kind_of(document) is not None else whole


_NESTED_MAX: Final = 10


def _put(document: dict[str, Any], names: Sequence[str], value: object) -> None:
    """Put a value where a column's name says: a dot leads into an object."""
    if len(names) > _NESTED_MAX:
        return
    for name in names[:-1]:
        inside = document.setdefault(name, {})
        if not isinstance(inside, dict):
            return
        document = inside
    document[names[-1]] = value
