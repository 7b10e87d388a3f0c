"""Who receives notices in tests: a mail server and a web server that keep what they are sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_string, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, TCPServer, ThreadingTCPServer
from typing import Any, TypeVar, cast

S = TypeVar("S", bound=TCPServer)


class MailServer(ThreadingTCPServer):
    """As much of SMTP (RFC 5321) as it takes to be handed a message."""

    daemon_threads = True

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.recipients: list[str] = []
        super().__init__(("127.0.0.1", 0), _Mail)

    def connection(self, **extra: Any) -> str:
        """Return an Airflow connection to it, as JSON."""
        host, port = self.server_address[:2]
        mine = {
            "disable_ssl": True,
            "disable_tls": True,
            "retry_limit": 0,
            "from_email": "airflow@example.org",
        }
        return json.dumps({"conn_type": "smtp", "host": host, "port": port, "extra": {**mine, **extra}})


class _Mail(StreamRequestHandler):
    def handle(self) -> None:
        server = cast("MailServer", self.server)
        self._say("220 here")
        while line := self.rfile.readline().decode().strip():
            command = line.upper()
            if command.startswith("RCPT TO:"):
                server.recipients.append(line[8:].strip("<> "))
            if command == "DATA":
                self._say("354 go on")
                lines = []
                while (part := self.rfile.readline().decode()) != ".\r\n":
                    lines.append(part.removeprefix("."))
                server.messages.append(
                    cast("EmailMessage", message_from_string("".join(lines), policy=policy.default))
                )
            self._say("221 bye" if command == "QUIT" else "250 ok")

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


class WebServer(ThreadingHTTPServer):
    """Answers each POST as it is told to, and keeps path and body.

    :param status: what it answers.
    :param body: with what.
    """

    daemon_threads = True

    def __init__(self, status: int = 200, body: str = "ok") -> None:
        self.status, self.body = status, body
        self.posts: list[tuple[str, Any]] = []
        super().__init__(("127.0.0.1", 0), _Web)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Web(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = cast("WebServer", self.server)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.posts.append((self.path, json.loads(body)))
        answer = server.body.encode()
        self.send_response(server.status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def listening(server: S) -> Iterator[S]:
    """Let a server listen for the length of a ``with`` block."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
