"""The format ``ndjson``: one record per line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from tidepool_ingest.deep_json import loads
from tidepool_ingest.formats.lines import Lines, may_be_one
from tidepool_ingest.formats.reader import Block, Reader
from tidepool_ingest.model.decode import VALUES_MAX
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.source_file import SourceFile

_DECODER: Final = json.JSONDecoder(parse_int=str)
"""Reads integers of any number of digits."""


class NdjsonReader(Reader):
    """Reads one record from each line."""

    name = "ndjson"
    title = "Tidepool records, one JSON object a line"

    def rows(self, file: SourceFile) -> Iterator[Block]:
        """Yield the lines of a file."""
        return split_as_it_begins(file.text(), file.number)


def split_as_it_begins(pieces: Iterable[bytes], file_number: int | None = None) -> Iterator[Block]:
    """Cut text into lines, or into what it holds if it is one array or one object over many lines.

    :param pieces: the text in order.
    :param file_number: number of the file in its manifest, for errors.
    :raises BatchError: as :func:`split` and :func:`.json_array.split` do.
    """
    stream = iter(pieces)
    start = b""
    for piece in stream:
        start += piece
        if not start.isspace():
            break
    text = chain((start,), stream)
    if may_be_one(start.lstrip()):
        # Loaded only here, for its patterns: most files are lines.
        from tidepool_ingest.formats import json_array

        if json_array.JsonArrayReader.recognizes(start.lstrip()):
            return json_array.split(text, file_number)
    return split(text, file_number)


def split(pieces: Iterable[bytes], file_number: int | None = None) -> Iterator[Block]:
    """Cut text into lines.

    Blank lines are skipped and do not count; a line may end in CRLF, and the last one may lack its line
    end. Whether a line is JSON is for the model of the records to decide; but a last line neither JSON
    nor ended shows that the file was cut off.

    :param pieces: the text in order.
    :param file_number: number of the file in its manifest, for errors.
    :raises BatchError: ``file-truncated``, once all other lines were yielded.
    """
    lines = Lines()
    for piece in pieces:
        yield from lines.take(piece)
    if not _is_whole(lines.open_line):
        raise BatchError(
            "file-truncated",
            file_number=file_number,
            position=lines.open_position,
            detail="in its last line",
        )
    yield from lines.end()


def _is_whole(line: bytes) -> bool:
    """Return whether a last line without its line end may be a whole record."""
    if not line or line.isspace():
        return True  # or it is too long to be looked at, and is rejected
    if line.count(b"[") + line.count(b"{") > VALUES_MAX:
        return True  # and is rejected
    try:
        loads(line, _DECODER)
    except ValueError:
        return False
    return True
