"""Two processes refresh the same rotating token at once: neither loses it."""

from __future__ import annotations

import fcntl
import math
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.timing import PATIENCE_SECONDS
from tidepool_ingest.client.auth import SIGN_IN_TIMEOUTS, OidcClient, OidcProvider, RefreshTokens
from tidepool_ingest.client.environments import Environment
from tidepool_ingest.client.exchange import new_session
from tidepool_ingest.client.transport import Transport

from .sign_in_wire import SignInWire

ROUNDS = 6


class FileStore:
    """A store that processes share by a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def lock(self) -> Iterator[float]:
        with self._path.with_suffix(".lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield math.inf

    def load(self) -> tuple[str, float] | None:
        return (self._path.read_text(), 0.0) if self._path.exists() else None

    def save(self, token: str) -> bool:
        self._path.write_text(token)
        return True


def refresh_again_and_again(url: str, path: Path, results: multiprocessing.Queue[list[str]]) -> None:
    server = OidcProvider(Transport(new_session(), SIGN_IN_TIMEOUTS), Environment("practice", url))
    tokens = RefreshTokens(server, OidcClient("ours"), refresh_token="refresh-0", store=FileStore(path))
    used = [tokens.token()]
    for _ in range(ROUNDS):
        used.append(tokens.renew(used[-1]))
    results.put(used)


def test_rotation_by_two_processes_at_once(tmp_path: Path) -> None:
    wire = SignInWire()
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[list[str]] = context.Queue()
    arguments = (wire.url, tmp_path / "token", results)
    processes = [context.Process(target=refresh_again_and_again, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    used = [results.get(timeout=PATIENCE_SECONDS) for _ in processes]
    for process in processes:
        process.join(PATIENCE_SECONDS)
        assert process.exitcode == 0
    wire.close()
    assert not wire.session_ended, "a refresh token was used twice"
    for chain in used:
        assert len(set(chain)) == ROUNDS + 1
    # Each renewal either asked the server or took over what the other process had just got.
    assert len(wire.granted) == len({token for chain in used for token in chain})
