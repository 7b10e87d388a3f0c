"""One request's side of its connection: reading it, answering it, and the ways in which a response fails."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import struct
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from tidepool_simulator.exchange import Request, Response
from tidepool_simulator.faults import Fault, ResponseFault

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SLOW_BODY_PIECES = 20
_FLUSH_SECONDS = 0.05
"""Time for bytes written before a reset to reach the client; a reset overtakes them otherwise."""
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing the socket sends RST instead of FIN."""


class Connection:
    """One request's side of the connection."""

    def __init__(
        self, scope: MutableMapping[str, Any], receive: Receive, send: Send, closed: asyncio.Event
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._closed = closed
        self._transport: asyncio.Transport = scope["state"]["transport"]

    @property
    def is_local(self) -> bool:
        """Whether the client is on this machine."""
        client = self._scope.get("client")
        return client is not None and (client[0].startswith("127.") or client[0] == "::1")

    async def request(self) -> Request:
        """Read the request to its end."""
        body = bytearray()
        while True:
            message = await self._receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in self._scope["headers"]
        ]
        query = self._scope["query_string"].decode("latin-1")
        return Request(
            self._scope["method"], self._scope["path"], query, headers, bytes(body), self._scope["scheme"]
        )

    async def send_response(self, response: Response, request: Request) -> None:
        """Send a response as it should be."""
        body = await self._start(response, request)
        await self._send({"type": "http.response.body", "body": body})

    async def send_faulty(self, fault: Fault, response: Response | None, request: Request) -> None:
        """Send what a fault leaves of a response; of None there is nothing to send."""
        if response is None:
            await (self._hang() if fault.answer is ResponseFault.HANG else self._reset())
        elif fault.answer is ResponseFault.SLOW_BODY:
            await self._send_slowly(response, request, fault.delay)
        elif fault.answer in (ResponseFault.TRUNCATED_BODY, ResponseFault.RESET_BODY):
            await self._send_half(response, request, reset=fault.answer is ResponseFault.RESET_BODY)
        else:
            await self.send_response(response, request)

    async def _start(self, response: Response, request: Request) -> bytes:
        body, headers = response.body, list(response.headers)
        if response.may_gzip and body and "gzip" in request.header("accept-encoding"):
            body = gzip.compress(body, compresslevel=1, mtime=0)
            headers += [("content-encoding", "gzip"), ("vary", "Accept-Encoding")]
        if response.status != HTTPStatus.NO_CONTENT:
            headers.append(("content-length", str(len(body))))
        raw = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]
        await self._send({"type": "http.response.start", "status": response.status, "headers": raw})
        return body

    async def _send_slowly(self, response: Response, request: Request, seconds: float) -> None:
        body = await self._start(response, request)
        size = max(1, -(-len(body) // SLOW_BODY_PIECES))
        for start in range(0, len(body), size):
            await asyncio.sleep(seconds / SLOW_BODY_PIECES)
            piece = body[start : start + size]
            await self._send(
                {"type": "http.response.body", "body": piece, "more_body": start + size < len(body)}
            )

    async def _send_half(self, response: Response, request: Request, *, reset: bool) -> None:
        body = await self._start(response, request)
        await self._send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        if reset:
            await asyncio.sleep(_FLUSH_SECONDS)
            await self._reset()
        else:
            self._transport.close()
            await self._gone()

    async def _reset(self) -> None:
        connected: socket.socket | None = self._transport.get_extra_info("socket")
        if connected is not None:
            with contextlib.suppress(OSError):  # the client may have gone first
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        self._transport.abort()
        await self._gone()

    async def _hang(self) -> None:
        gone = asyncio.ensure_future(self._gone())
        closed = asyncio.ensure_future(self._closed.wait())
        await asyncio.wait((gone, closed), return_when=asyncio.FIRST_COMPLETED)
        closed.cancel()
        self._transport.abort()
        await gone

    async def _gone(self) -> None:
        """Wait until the server knows that the connection has ended; it would miss a response otherwise."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
