"""A small HTTP server that answers as a test tells it to, odd answers included."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

CANARY = "canary-8c1f77"
"""Planted wherever a server or a user might put something private."""

NEVER = 600.0
"""Seconds to wait for what does not come."""

USER = "1234567890"
OTHER_USER = "abcdef0123"
UPLOAD = "0123456789abcdef0123456789abcdef"


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: Message
    body: bytes

    @property
    def token(self) -> str | None:
        return self.headers.get("X-Tidepool-Session-Token")

    @property
    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}

    @property
    def route(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class Reply:
    """One answer, and in which way it goes wrong."""

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0.0
    """Seconds before anything is sent; they end with the server."""
    reset: bool = False
    """Send nothing and reset the connection."""
    cut_at: int | None = None
    """Promise the whole body, send this much, then reset the connection."""
    drip: float | None = None
    """Seconds between single bytes of the body."""
    raw: Iterable[bytes] | None = None
    """Send these pieces and nothing else, status line and headers included; ``drip`` is between them."""

    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Handler(BaseHTTPRequestHandler):
    """Hand each request to the wire, and send what it says in the way it says."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wire: Wire

    def __getattr__(self, name: str) -> Any:
        """Serve every method alike: the base class looks for ``do_GET`` and its like."""
        if name.startswith("do_"):
            return self.serve
        raise AttributeError(name)

    def setup(self) -> None:
        self.wire.connections += 1
        super().setup()

    def serve(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        seen = Seen(self.command, parts.path, parse_qs(parts.query), self.headers, body)
        self.wire.seen.append(seen)
        self.give(self.wire.answer(seen))

    def give(self, reply: Reply) -> None:
        self.wire.closing.wait(reply.wait)
        if reply.reset:
            self.break_off()
            return
        if reply.raw is not None:
            self.give_raw(reply, reply.raw)
            return
        content = reply.content()
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(content)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):
            self.give_body(reply, content)

    def give_raw(self, reply: Reply, pieces: Iterable[bytes]) -> None:
        self.close_connection = True
        with suppress(OSError):
            for piece in pieces:
                self.wfile.write(piece)
                if self.wire.closing.wait(reply.drip or 0):
                    return

    def give_body(self, reply: Reply, content: bytes) -> None:
        if reply.drip is not None:
            for position in range(len(content)):
                self.wfile.write(content[position : position + 1])
                time.sleep(reply.drip)
            return
        self.wfile.write(content[: reply.cut_at])
        if reply.cut_at is not None:
            self.break_off()

    def break_off(self) -> None:
        self.wfile.flush()
        time.sleep(0.02)  # let what was sent arrive before the reset overtakes it
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def finish(self) -> None:
        with suppress(OSError, ValueError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""


class Wire:
    """The server; ``answer`` decides about each request, ``seen`` holds them in order.

    :param certificate: PEM file with a certificate and its key, for TLS.
    """

    def __init__(self, certificate: Path | None = None) -> None:
        self.answer: Callable[[Seen], Reply] = lambda seen: Reply(404)
        self.seen: list[Seen] = []
        self.connections = 0
        self.closing = threading.Event()
        handler = type("HandlerOfOneWire", (Handler,), {"wire": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        if certificate is not None:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(certificate)
            # The handshake is up to the connection's own thread: one that never ends holds up no others.
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._server.handle_error = lambda request, address: None  # type: ignore[method-assign,assignment]
        self.port = int(self._server.server_address[1])
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.003,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def always(self, reply: Reply) -> None:
        """Answer every request alike."""
        self.answer = lambda seen: reply

    def in_turn(self, *replies: Reply) -> None:
        """Answer the requests one after the other; the last answer stays."""
        waiting = list(replies)
        self.answer = lambda seen: waiting.pop(0) if len(waiting) > 1 else waiting[0]

    def by_route(self, routes: dict[str, Reply | Callable[[Seen], Reply]]) -> None:
        """Answer by ``METHOD /path``; anything else is a 404 of the Platform's router."""

        def answer(seen: Seen) -> Reply:
            found = routes.get(seen.route, Reply(404, {"Error": "Resource not found"}))
            return found if isinstance(found, Reply) else found(seen)

        self.answer = answer

    def routes_seen(self) -> list[str]:
        return [seen.route for seen in self.seen]


def jwt(**claims: Any) -> str:
    """Return an unsigned JWT."""

    def part(content: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none'})}.{part(claims)}.signature"


def envelope(data: Any, status: int = 200) -> Reply:
    """Return a success as the data service answers it."""
    return Reply(status, {"data": data, "meta": {"trace": {"request": "r1"}}})


def handler_error(status: int, code: str, **headers: str) -> Reply:
    """Return an error as the data service's handlers answer it."""
    error = {"code": code, "title": f"title {CANARY}", "detail": f"detail {CANARY}", "status": str(status)}
    return Reply(status, {"errors": [error], "meta": {"trace": {"request": "r1"}}}, headers=dict(headers))


UNAUTHENTICATED = Reply(401, {"code": "unauthenticated", "title": CANARY, "detail": CANARY})
