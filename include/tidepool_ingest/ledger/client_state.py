"""What all tasks share as clients of Tidepool: rate limits and refresh tokens."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, delete, insert, select, update

from tidepool_ingest.ledger.database import Database, now_of, retry_on_conflict
from tidepool_ingest.ledger.leases import Lease, Leases
from tidepool_ingest.ledger.schema import rate_limits, refresh_tokens
from tidepool_ingest.privacy import short_hash

FIRST_PAUSE_SECONDS = 1.0
"""Pause when Tidepool does not say how long; doubled each time that it throttles again."""

LONGEST_PAUSE_SECONDS = 120.0
"""No pause that we choose ourselves is longer."""

FORGET_SECONDS = 120.0
"""After this long without another one, the next pause is a first one again."""


FREE_SECONDS = 1.0
"""For how long a task that found no throttle sends its requests without looking again."""


class RateLimits:
    """The table of rate limits, one row for each API host.

    A throttle is a length of time by the database's clock, from when it was recorded. So it ends by itself
    whatever the clocks of workers and servers say, and even if that of the database is set to another time.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._free_at: dict[str, float] = {}
        self._recorded_at: dict[str, float] = {}

    def in_force(self) -> dict[str, float]:
        """Return the API hosts that throttle us, each with the seconds that are left of it."""
        with self._database.reading() as connection:
            now = now_of(connection)
            rows = connection.execute(select(rate_limits).order_by(rate_limits.c.api_host)).all()
        left = {row.api_host: _seconds_left(row, now) for row in rows}
        return {host: seconds for host, seconds in left.items() if seconds > 0}

    def seconds_remaining(self, api_host: str) -> float:
        """Return for how many more seconds no task should send a request; 0 if there is no need to wait.

        :param api_host: host of the Tidepool API.
        """
        with self._database.reading() as connection:
            row = connection.execute(select(rate_limits).where(_is(api_host))).one_or_none()
            return 0.0 if row is None else max(0.0, _seconds_left(row, now_of(connection)))

    def seconds_to_wait(self, api_host: str) -> float:
        """Return the same right before a request, as it was :data:`FREE_SECONDS` ago at most.

        A request that is sent meanwhile against another task's throttle is answered with a 429 of its own:
        nothing is done by it.

        :raises RuntimeError: a transaction is open, which would last as long as the request.
        """
        self._database.check_apart()
        now = time.monotonic()
        free_at = self._free_at.get(api_host, -math.inf)
        # Another thread may have recorded a throttle while this was being looked up.
        if now - free_at < FREE_SECONDS and free_at > self._recorded_at.get(api_host, -math.inf):
            return 0.0
        remaining = self.seconds_remaining(api_host)
        if not remaining:
            self._free_at[api_host] = now
        return remaining

    def lift(self, api_host: str) -> bool:
        """Let tasks send requests again before the throttle's time is over; return whether there was one.

        :param api_host: host of the Tidepool API.
        """
        was_in_force = self.seconds_remaining(api_host) > 0
        with self._database.writing() as connection:
            connection.execute(delete(rate_limits).where(_is(api_host)))
        return was_in_force

    def record(self, api_host: str, retry_after: float | None) -> None:
        """Record that Tidepool throttles us.

        If several tasks are throttled at the same time, that counts once.

        :param api_host: host of the Tidepool API.
        :param retry_after: the seconds that it asks for; ``None`` when it did not say.
        """
        retry_on_conflict(lambda: self._record(api_host, retry_after))
        self._recorded_at[api_host] = time.monotonic()

    def _record(self, api_host: str, retry_after: float | None) -> None:
        with self._database.writing() as connection:
            query = select(rate_limits).where(_is(api_host)).with_for_update()
            known = connection.execute(query).one_or_none()
            now = now_of(connection)
            left = -FORGET_SECONDS if known is None else _seconds_left(known, now)
            pauses = 1
            if known is not None and left > -FORGET_SECONDS:
                pauses = known.pauses + (1 if left <= 0 else 0)
            ours = min(FIRST_PAUSE_SECONDS * 2.0 ** (pauses - 1), LONGEST_PAUSE_SECONDS)
            values = {
                "pauses": pauses,
                "recorded_at": now,
                "seconds": max(left, ours if retry_after is None else retry_after),
            }
            if known is None:
                connection.execute(insert(rate_limits).values(api_host=api_host, **values))
            else:
                connection.execute(update(rate_limits).where(_is(api_host)).values(values))


def _is(api_host: str) -> ColumnElement[bool]:
    return rate_limits.c.api_host == api_host


def _seconds_left(row: Row[Any], now: datetime) -> float:
    # What was recorded in the future was recorded before the database's clock was set back. How far back,
    # nobody knows; as far ahead as it seems, the throttle is over.
    return float(row.seconds - abs((now - row.recorded_at).total_seconds()))


REFRESH_SECONDS = 60.0
"""How long one refresh may take before its lease holder counts as dead."""


class LedgerRefreshTokens:
    """Keep one connection's refresh token in the ledger.

    :param database: the ledger's database.
    :param connection: the Airflow connection's id.
    :param seed: the refresh token that the connection itself holds. All connections that hold the same one
        share its successors, under any connection id: the form's Test button uses one of its own. When
        somebody logs in again and changes it there, tokens from the older login are no longer used.
    :param encrypt: encrypts a token for the table.
    :param decrypt: decrypts it again.
    """

    def __init__(
        self,
        database: Database,
        connection: str,
        *,
        seed: str,
        encrypt: Callable[[str], str],
        decrypt: Callable[[str], str],
    ) -> None:
        self._database = database
        self._connection = connection
        self._seed_digest = hashlib.sha256(seed.encode()).hexdigest()
        self._encrypt = encrypt
        self._decrypt = decrypt
        self._lease: Lease | None = None
        self._loaded: str | None = None

    @contextmanager
    def lock(self) -> Iterator[float]:
        """Let one process at a time refresh; the others wait and then find its result.

        A process that stalls for too long is overtaken: it may not refresh any more, and cannot save over
        what another one has saved since.
        """
        name = f"refresh-token:{short_hash(self._seed_digest)}"
        with Leases(self._database).held(name, seconds=REFRESH_SECONDS, wait=2 * REFRESH_SECONDS) as lease:
            self._lease = lease
            yield lease.remaining_seconds

    def load(self) -> tuple[str, float] | None:
        """Return the newest token that a server gave, ``None`` if the connection's own is the newest.

        :return: the token, and the seconds since it was saved.
        """
        query = select(refresh_tokens.c.sealed_token, refresh_tokens.c.updated_at).where(self._of_this_seed)
        with self._database.reading() as connection:
            saved = connection.execute(query).one_or_none()
            self._loaded = None if saved is None else saved.sealed_token
            if saved is None:
                return None
            age = max(0.0, (now_of(connection) - saved.updated_at).total_seconds())
        return self._decrypt(saved.sealed_token), age

    def save(self, token: str) -> bool:
        """Keep the token that a server has just given, unless another process has kept a newer one meanwhile.

        That is so if the one that was loaded is there no more and the lock has been taken over; or if it was
        deleted, because somebody has put a new login into the connection. A process that was overtaken, but
        whose successor has not saved yet, holds what the server gave for the only token that there was.

        :return: whether it was kept.
        """
        return retry_on_conflict(lambda: self._save(self._encrypt(token)))

    def _save(self, encrypted: str) -> bool:
        kept = select(refresh_tokens.c.sealed_token).where(self._of_this_seed).with_for_update()
        with self._database.writing() as connection:
            is_holder = self._lease is not None and self._lease.is_held(connection)
            present = connection.scalar(kept)
            if present != self._loaded and (present is None or not is_holder):
                return False
            values = {"sealed_token": encrypted, "updated_at": now_of(connection)}
            if present is not None:
                connection.execute(update(refresh_tokens).where(self._of_this_seed).values(values))
            else:
                this_connection = refresh_tokens.c.connection == self._connection
                connection.execute(delete(refresh_tokens).where(this_connection))
                values |= {"connection": self._connection, "seed_digest": self._seed_digest}
                connection.execute(insert(refresh_tokens).values(values))
            return True

    @property
    def _of_this_seed(self) -> ColumnElement[bool]:
        return refresh_tokens.c.seed_digest == self._seed_digest
