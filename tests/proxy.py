"""An HTTP proxy as clinics have one, and a certificate for what is behind it.

It is asked for a tunnel (``CONNECT``) to a name that only it can resolve, and copies bytes that it cannot
read. It cuts connections as a test tells it to.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

API_NAME = "api.behind-a-proxy.test"
"""No name server knows it: whoever reaches it does so through the proxy."""

PIECE_BYTES = 64 * 1024
RESET_AT_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing the socket sends RST instead of FIN."""


class End(StrEnum):
    """How a connection is cut."""

    FIN = "FIN"
    RST = "RST"


class ConnectProxy:
    """A proxy on this machine, in a thread of its own.

    :param names: the host and port that each name stands for, whatever port is asked for.
    """

    def __init__(self, names: Mapping[str, tuple[str, int]]) -> None:
        self._names = names
        self.tunnels = 0
        self.refuse: int | None = None
        """Status that every tunnel is refused with; 0 ends the connection without one."""
        self.cut: End | None = None
        """How the next piece of an answer is cut off, once."""
        self.silent = False
        """Whether a tunnel is never answered."""
        self.drip: float | None = None
        """Seconds between headers of an answer to a request for a tunnel, which then has no end."""
        self._loop = asyncio.new_event_loop()
        self._ending = asyncio.Event()
        self._port = 0
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        started = threading.Event()
        self._loop.call_soon(started.set)
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._port = self._listening.getsockname()[1]
        self._thread.start()
        started.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join()
        self._listening.close()

    @property
    def url(self) -> str:
        """What ``HTTPS_PROXY`` is set to."""
        return f"http://127.0.0.1:{self._port}"

    def at_tunnel(self) -> int | None:
        """Return the status that a tunnel is refused with, None to open it."""
        return self.refuse

    def tunnel_delay(self) -> float:
        """Return for how many seconds a tunnel has to wait."""
        return 0.0

    def at_answer(self, turn: int) -> End | None:
        """Return how a piece of an answer is cut off, None to pass it on.

        :param turn: which of the client's turns on this connection it answers; 1 begins the TLS handshake.
        """
        del turn
        cut, self.cut = self.cut, None
        return cut

    def at_request(self, turn: int) -> End | None:
        """Return how a connection is cut instead of passing on what the client sends, None to pass it on.

        :param turn: which of its turns on this connection that is, from 1.
        """
        del turn
        return None

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, sock=self._listening)
        await self._ending.wait()
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._tunnel(reader, writer)
        _end(writer, End.FIN)

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, target, _rest = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)
        status = self.at_tunnel() if method == b"CONNECT" else 405
        if self.silent:
            await self._ending.wait()
        await asyncio.sleep(self.tunnel_delay())
        if self.drip is not None:
            writer.write(b"HTTP/1.1 200 Connection established\r\n")
            while True:
                writer.write(b"X-Drip: drip\r\n")
                await writer.drain()
                await asyncio.sleep(self.drip)
        address = self._names.get(target.decode().rpartition(":")[0])
        if status is None and address is None:
            status = 502
        if status is not None or address is None:
            if status:
                writer.write(b"HTTP/1.1 %d No tunnel\r\nContent-Length: 0\r\n\r\n" % status)
                await writer.drain()
            return
        try:
            answers, requests = await asyncio.open_connection(*address)
        except OSError:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        self.tunnels += 1
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await _Tunnel(self, (reader, writer), (answers, requests)).copy()


class _Tunnel:
    def __init__(
        self,
        proxy: ConnectProxy,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._turn = 0
        self._client_spoke_last = False

    async def copy(self) -> None:
        """Copy both ways until either side ends; the other one ends alike."""
        (from_client, to_client), (from_server, to_server) = self._client, self._server
        ways = [
            asyncio.ensure_future(self._one_way(from_client, to_server, self._at_request)),
            asyncio.ensure_future(self._one_way(from_server, to_client, self._at_answer)),
        ]
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            end = done.pop().result()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        for _reader, writer in (self._client, self._server):
            _end(writer, end)

    def _at_request(self) -> End | None:
        if not self._client_spoke_last:
            self._turn += 1
        self._client_spoke_last = True
        return self._proxy.at_request(self._turn)

    def _at_answer(self) -> End | None:
        self._client_spoke_last = False
        return self._proxy.at_answer(self._turn)

    async def _one_way(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, end_at: Callable[[], End | None]
    ) -> End:
        try:
            while piece := await reader.read(PIECE_BYTES):
                if end := end_at():
                    return end
                writer.write(piece)
                await writer.drain()
        except OSError:
            return End.RST
        return End.FIN


def _end(writer: asyncio.StreamWriter, end: End) -> None:
    if end is End.RST:
        with contextlib.suppress(OSError):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        writer.transport.abort()
    else:
        writer.close()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a throwaway authority and a certificate by it; return the files that clients and servers need.

    :param folder: gets both files.
    :return: the authority's certificate for ``REQUESTS_CA_BUNDLE``; the server's with its key, for
        :data:`API_NAME` and this machine.
    """
    authority_key = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "An authority of nobody")])
    server = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, API_NAME)])
    names: list[x509.GeneralName] = [
        x509.DNSName(API_NAME),
        x509.IPAddress(ipaddress.IPv4Address("127.0.0.1")),
    ]
    authority_certificate = (
        _certificate(authority, authority, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    certificate = (
        _certificate(server, authority, key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    bundle, chain = folder / "authority.pem", folder / "server.pem"
    bundle.write_bytes(authority_certificate.public_bytes(serialization.Encoding.PEM))
    chain.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return bundle, chain


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
    )
