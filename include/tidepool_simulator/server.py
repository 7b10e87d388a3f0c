"""Run the simulator: in a thread of this process, or as a command."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tidepool_simulator.accounts import PUBLIC_CLIENT_ID, ROLES, Accounts
from tidepool_simulator.application import Application, Exchanged
from tidepool_simulator.database import Database
from tidepool_simulator.faults import Faults
from tidepool_simulator.platform import Platform
from tidepool_simulator.rules import Rules
from tidepool_simulator.sessions import DEFAULT_TOKEN_LIFETIME, Sessions
from tidepool_simulator.store import Store

LOOPBACK = "127.0.0.1"
ROLE_TOKEN_LIFETIME = 7 * 86_400.0
"""Seconds that the tokens in a roles file live, whatever the lifetime of others: the file is written once."""
_THREADS = 64
_KEEP_ALIVE_SECONDS = 75
"""Longer than any client keeps an idle connection, so that none is closed under a request."""
_START_SECONDS = 15


class _Protocol(HttpToolsProtocol):
    """HTTP as usual, but the application gets at the connection: it must be able to reset it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.app_state = {**self.app_state, "transport": transport}
        # asyncio leaves Nagle's algorithm on for our socket: the body would come 40 ms after the head.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)  # type: ignore[arg-type]


class Simulator:
    """A Tidepool Platform to practise on.

    .. code-block:: python

        with Simulator() as simulator:
            token = simulator.accounts["uploader"].token
            requests.get(f"{simulator.base_url}/v1/time")

    :param store: SQLite file to keep everything in (tables: :mod:`.database`); None keeps it in memory.
    :param host: address to listen on.
    :param port: 0 takes a free one.
    :param accounts: who there is; None for the practice accounts.
    :param token_lifetime: seconds an access token lives.
    :param rotate_refresh_tokens: whether each refresh token is good for one use only.
    :param latency: seconds that every request takes at least, the work included.
    :param undo_loses: see :class:`.datum_store.DatumStore`.
    :param seed: of the draws of faults with a ``chance``.
    :param certificate: PEM file with a certificate and its key, for https; None for plain http.
    """

    def __init__(
        self,
        store: Path | None = None,
        *,
        host: str = LOOPBACK,
        port: int = 0,
        accounts: Accounts | None = None,
        token_lifetime: float = DEFAULT_TOKEN_LIFETIME,
        rotate_refresh_tokens: bool = False,
        latency: float = 0.0,
        undo_loses: bool = False,
        seed: int = 0,
        certificate: Path | None = None,
    ) -> None:
        self.accounts = accounts or Accounts()
        self.faults = Faults(seed)
        self.rules = Rules()
        self.database = Database(store)
        self.store = Store(self.database, undo_loses=undo_loses)
        self.sessions = Sessions(self.database, lifetime=token_lifetime, rotate=rotate_refresh_tokens)
        self.accounts.issue_tokens_with(lambda user_id: self.sessions.issue(user_id, PUBLIC_CLIENT_ID))
        self._address = (host, port)
        self._latency = latency
        self._certificate = certificate
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="simulator")
        self._application: Application | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None

    def __enter__(self) -> Simulator:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def base_url(self) -> str:
        """Where it listens, without a slash at the end."""
        host, port = self._listening.getsockname()[:2]
        return f"{'https' if self._certificate else 'http'}://{host}:{port}"

    @property
    def requests(self) -> list[Exchanged]:
        """The requests answered so far, in the order in which they ended."""
        return list(self._running.requests)

    def start(self) -> None:
        """Start to listen.

        :raises OSError: when the address is taken.
        :raises RuntimeError: when it does not come up.
        """
        self._socket = socket.create_server(self._address, backlog=512)
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="simulator", daemon=True)
        self._thread.start()
        if not started.wait(_START_SECONDS):
            raise RuntimeError("the simulator did not start")

    def settle(self, seconds: float = 60.0) -> bool:
        """Wait until nothing is in progress any more, no late work either; return whether nothing is."""
        return self._running.settle(seconds)

    def stop(self) -> None:
        """End at once: hanging requests lose their connection, late work is never done."""
        if self._server is not None and self._thread is not None:
            self._running.stop()
            self._server.should_exit = self._server.force_exit = True
            self._thread.join()
            self._server = self._thread = None
        self._executor.shutdown()
        if self._socket is not None:
            self._socket.close()
        self.database.close()

    def roles(self) -> dict[str, Any]:
        """Return the roles file of a replay: ids and long-lived tokens of the three roles, and a login."""
        owner = self.accounts["owner"]
        roles: dict[str, Any] = {}
        for name in ROLES:
            account = self.accounts[name]
            tokens = self.sessions.open(account.id, PUBLIC_CLIENT_ID, lifetime=ROLE_TOKEN_LIFETIME)
            roles[name] = {"id": account.id, "token": tokens.legacy}
        roles["login"] = {
            "username": owner.username,
            "password": owner.password,
            "wrong_password": f"not-{owner.password}",
        }
        return roles | {"base_url": self.base_url}

    @property
    def _listening(self) -> socket.socket:
        if self._socket is None:
            raise RuntimeError("the simulator is not running")
        return self._socket

    @property
    def _running(self) -> Application:
        if self._application is None:
            raise RuntimeError("the simulator is not running")
        return self._application

    def _run(self, started: threading.Event) -> None:
        asyncio.run(self._serve(started))

    async def _serve(self, started: threading.Event) -> None:
        platform = Platform(self.database, self.store, self.accounts, self.sessions, self.rules)
        self._application = Application(
            platform, self.faults, self.rules, self._executor, latency=self._latency
        )
        config = uvicorn.Config(
            self._application,
            http=_Protocol,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            ssl_certfile=self._certificate,
        )
        self._server = uvicorn.Server(config)
        serving = asyncio.ensure_future(self._server.serve(sockets=[self._listening]))
        while not self._server.started and not serving.done():
            await asyncio.sleep(0.005)
        started.set()
        await serving


def serve(
    *,
    host: str = LOOPBACK,
    port: int = 0,
    store: Path | None = None,
    accounts: Path | None = None,
    write_roles: Path | None = None,
    token_lifetime: float | None = None,
    rotate_refresh_tokens: bool = False,
    latency: float = 0.0,
) -> int:
    """Run the simulator until SIGTERM or SIGINT; print one line with its address once it listens.

    :param accounts: accounts file (see :mod:`.accounts`).
    :param write_roles: where to write the roles file of a replay once it listens, with the key ``base_url``
        added.
    :param token_lifetime: seconds an access token lives; None for the usual.
    :return: exit code.
    :raises AccountError: when the accounts file cannot be used.
    :raises OSError: when the address is taken or a file cannot be read or written.
    """
    ending = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        del number, frame
        ending.set()

    previous = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with Simulator(
            store,
            host=host,
            port=port,
            accounts=None if accounts is None else Accounts.from_file(accounts),
            token_lifetime=DEFAULT_TOKEN_LIFETIME if token_lifetime is None else token_lifetime,
            rotate_refresh_tokens=rotate_refresh_tokens,
            latency=latency,
        ) as simulator:
            if write_roles is not None:
                _write_whole(write_roles, json.dumps(simulator.roles(), indent=2) + "\n")
            print(f"simulator: listening on {simulator.base_url}", flush=True)
            ending.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0


def _write_whole(path: Path, text: str) -> None:
    """Write a file that others wait for: it is there with all its text, or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    part.chmod(0o600)
    part.replace(path)
