"""Read the values in a data file: NDJSON or a JSON array, plain, .gz or .zst, in memory and simply."""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Iterator
from typing import NoReturn

import zstandard

from tidepool_simulator.sample.checker.nested import LEVELS_OF_A_RECORD, loads

MOST_BYTES = 2**31
"""A file that unpacks to more than 2 GiB is not read: this reader holds a file in memory."""

_STRING_OR_BORDER = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},]', re.DOTALL)
"""What decides where an element of an array ends when it is no JSON."""

_ODD_BYTE = re.compile("[\udc80-\udcff]")
"""A byte that is not UTF-8, as ``surrogateescape`` shows it."""


class UnreadableError(Exception):
    """The file is not what its name and its manifest say."""


def values_of(name: str, file_format: str, content: bytes) -> Iterator[object]:
    """Yield the value of each record of a file; None for one that is no JSON text.

    :param name: the file's name; its suffix names the compression.
    :param file_format: ``ndjson`` or ``json``.
    :param content: its bytes as staged.
    :raises UnreadableError: if it cannot be split into records.
    """
    text = unpacked(name, content).removeprefix(b"\xef\xbb\xbf")
    yield from _elements(text) if file_format == "json" else _lines(text)


def exported_values(text: bytes) -> Iterator[object]:
    """Yield the values of an export of Tidepool, which is an array or has one record per line.

    :param text: what is in the file, expanded.
    :raises UnreadableError: it cannot be split into records.
    """
    text = text.removeprefix(b"\xef\xbb\xbf")
    yield from _elements(text) if text.lstrip()[:1] == b"[" else _lines(text)


def unpacked(name: str, content: bytes) -> bytes:
    """Return a file's content as it was before it was compressed.

    :param name: its name; its suffix names the compression.
    :raises UnreadableError: it is cut off, or far too large.
    """
    if name.endswith(".gz"):
        with gzip.open(io.BytesIO(content)) as packed:
            plain = packed.read(MOST_BYTES + 1)
    elif name.endswith(".zst"):
        plain = b"".join(_frames(content))
    else:
        plain = content
    if len(plain) > MOST_BYTES:
        raise UnreadableError
    return plain


def _frames(content: bytes) -> Iterator[bytes]:
    while content:
        frame = zstandard.ZstdDecompressor().decompressobj()
        yield frame.decompress(content)
        if not frame.eof:
            raise UnreadableError
        content = frame.unused_data


def _lines(text: bytes) -> Iterator[object]:
    """Yield the value of each line that is not blank; None for one that is no JSON text."""
    for line in text.split(b"\n"):
        if line.strip():
            try:
                yield loads(line.decode(), LEVELS_OF_A_RECORD)
            except ValueError:
                yield None


def _elements(content: bytes) -> Iterator[object]:
    """Yield the value of each element of an array; None for one that is no JSON text.

    :raises UnreadableError: if the array itself is broken.
    """
    text = content.decode(errors="surrogateescape")
    position = _skip_space(text, 0)
    if text[position : position + 1] != "[":
        raise UnreadableError
    position = _skip_space(text, position + 1)
    if text[position : position + 1] == "]":
        return
    while True:
        value, end = _element(text, position)
        yield value
        end = _skip_space(text, end)
        if text[end : end + 1] == "]" and not text[end + 1 :].strip():
            return
        if text[end : end + 1] != ",":
            raise UnreadableError
        position = _skip_space(text, end + 1)


def _element(text: str, position: int) -> tuple[object, int]:
    try:
        value, end = _DECODER.raw_decode(text, position)
    except RecursionError:
        end = _end_of_broken(text, position)
    except ValueError:
        return None, _end_of_broken(text, position)
    else:
        if text.count("[", position, end) + text.count("{", position, end) <= LEVELS_OF_A_RECORD:
            return (None if _ODD_BYTE.search(text, position, end) else value), end
    value = _deep_element(text[position:end])
    return (None if _ODD_BYTE.search(text, position, end) else value), end


def _deep_element(text: str) -> object:
    try:
        return loads(text.rstrip(), LEVELS_OF_A_RECORD)
    except ValueError:
        return None


def _end_of_broken(text: str, position: int) -> int:
    """Return where an element ends that is not decoded at once: at the comma or bracket outside of it."""
    depth = 0
    for found in _STRING_OR_BORDER.finditer(text, position):
        sign = found[0]
        if depth == 0 and sign in ",]":
            return found.start()
        depth += (sign in "[{") - (sign in "]}")
        if depth < 0:
            break
    raise UnreadableError


def _skip_space(text: str, position: int) -> int:
    while text[position : position + 1] in (" ", "\t", "\r", "\n"):
        position += 1
    return position


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON knows no {name}")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)
