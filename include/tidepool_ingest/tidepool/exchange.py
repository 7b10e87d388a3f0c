"""Reading one answer: bounded in time and size, decompressed, complete or an error."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from types import TracebackType
from typing import Any, Self

import requests
from urllib3.exceptions import HTTPError

from tidepool_ingest.tidepool.answers import Answer, Call, Purpose, error_from
from tidepool_ingest.tidepool.environments import host_of
from tidepool_ingest.tidepool.errors import (
    TidepoolError,
    TidepoolUnexpectedAnswerError,
    TidepoolUnreachableError,
)

ANSWER_LIMIT_BYTES = 8 * 1024 * 1024
"""Largest answer read as a whole: 1,000 records with 40 complaints of 170 bytes each still fit."""

PIECE_BYTES = 64 * 1024
"""How much is taken from the network at once."""

NETWORK_ERRORS = (requests.RequestException, HTTPError, HTTPException, OSError)


@dataclass(frozen=True)
class Timeouts:
    """Bounds on one exchange, in seconds.

    :param connect: until the connection stands.
    :param read: between two pieces of an answer, and until its first. The default is above the 60 s after
        which Tidepool's gateway answers on its own, so that its answer tells what happened.
    :param total: on the exchange as a whole; a consumer's own time between two pieces does not count.
    """

    connect: float = 10.0
    read: float = 75.0
    total: float = 150.0


class Exchange:
    """One answer whose body is still on its way.

    :param call: what was asked.
    :param response: the answer, of which only status and headers have been read.
    :param trace_id: Tidepool's id of the request, or ours.
    :param timeouts: bounds on the exchange.
    :param spent: seconds that it has taken so far.
    """

    def __init__(
        self, call: Call, response: requests.Response, trace_id: str, timeouts: Timeouts, spent: float
    ) -> None:
        self._call = call
        self._response = response
        self._trace_id = trace_id
        self._timeouts = timeouts
        self._spent = spent
        self.successful = 200 <= response.status_code < 300

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._response.close()

    def answer(self) -> Answer:
        """Read the whole body; return the answer if it is a successful one, else raise what it means."""
        body = bytearray()
        for piece in self.pieces():
            body += piece
            if len(body) > ANSWER_LIMIT_BYTES:
                if self.successful:
                    raise self._unusable("the answer is larger than any that was expected")
                body.clear()
                break
        answer = Answer(self._response.status_code, self._response.headers, bytes(body), self._trace_id)
        if not answer.successful:
            raise error_from(self._call, answer, place_of(self._call))
        return answer

    def pieces(self) -> Iterator[bytes]:
        """Yield the body piece by piece, as it comes."""
        encoding = self._response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("identity", "", "gzip"):
            raise self._unusable("the answer is compressed in a way that was not asked for")
        unpack = _Gunzip() if encoding == "gzip" else None
        while True:
            started = time.monotonic()
            piece = self._next_piece()
            self._spent += time.monotonic() - started
            if piece and self._spent > self._timeouts.total:
                raise self._cut("the answer came too slowly")
            if unpack is None:
                if not piece:
                    return
                yield piece
                continue
            yield from self._unpacked(unpack, piece)
            if not piece:
                if not unpack.complete:
                    raise self._cut("the answer broke off")
                return

    def _unpacked(self, unpack: _Gunzip, piece: bytes) -> Iterator[bytes]:
        while True:
            try:
                plain = unpack.feed(piece)
            except zlib.error:
                plain = None
            if plain is None:
                raise self._cut("the answer's compression is damaged")
            if plain:
                yield plain
            if not unpack.pending:
                return
            piece = b""

    def _next_piece(self) -> bytes:
        # read1 returns what one read of the socket gave: waiting for a full piece would let a server
        # that sends a byte now and then hold us for ever.
        try:
            piece: bytes = self._response.raw.read1(PIECE_BYTES, decode_content=False) or b""
        except NETWORK_ERRORS:
            piece = b""
        else:
            return piece
        raise self._cut("the answer broke off")

    def _cut(self, reason: str) -> TidepoolError:
        return TidepoolUnreachableError(
            self._call.operation,
            reason=reason,
            ambiguous=self._call.purpose is Purpose.WRITE,
            place=place_of(self._call),
            status=self._response.status_code,
            trace_id=self._trace_id,
        )

    def _unusable(self, reason: str) -> TidepoolError:
        return unusable_answer(self._call, reason, status=self._response.status_code, trace_id=self._trace_id)


class _Gunzip:
    """Decompress a gzip body without ever holding much more than a piece of it."""

    def __init__(self) -> None:
        self._decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        self._fed = False

    def feed(self, piece: bytes) -> bytes:
        self._fed = self._fed or bool(piece)
        return self._decompressor.decompress(self._decompressor.unconsumed_tail + piece, PIECE_BYTES * 4)

    @property
    def pending(self) -> bool:
        return bool(self._decompressor.unconsumed_tail)

    @property
    def complete(self) -> bool:
        # An answer without a body may still be announced as compressed.
        return self._decompressor.eof or not self._fed


def place_of(call: Call) -> str:
    """Return where a call goes and what it is about, to be shown."""
    return f"{call.about} at {host_of(call.url)}" if call.about else host_of(call.url)


def unusable_answer(call: Call, reason: str, *, status: int | None, trace_id: str) -> TidepoolError:
    """Return what it means that a server claims success with an answer of no use.

    A request that changes something was probably carried out: it is in doubt, like one without an answer.

    :param call: what was asked.
    :param reason: what is wrong with the answer.
    :param status: its HTTP status.
    :param trace_id: the request's id.
    """
    parts: dict[str, Any] = {"place": place_of(call), "status": status, "trace_id": trace_id}
    if call.purpose is Purpose.WRITE:
        return TidepoolUnreachableError(call.operation, reason=reason, ambiguous=True, **parts)
    return TidepoolUnexpectedAnswerError(call.operation, reason=reason, **parts)
