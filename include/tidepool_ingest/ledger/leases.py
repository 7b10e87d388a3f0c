"""One owner at a time: leases in the ledger, for a batch, a device or a refresh token.

A lease expires by itself when its holder dies. Its fencing token grows with every takeover, so that a holder
that stalled for too long finds out before it acts. It expires by the database's clock.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from tidepool_ingest.ledger.database import Database, LeaseHeldError, LeaseLostError, now_of
from tidepool_ingest.ledger.schema import leases

NAMES_PER_QUERY = 500
"""Names per query."""

POLL_SECONDS = 0.2
"""How often a waiting task checks whether a lease has become free."""

_OF_BATCH = "batch:"


def lease_of_batch(number: int) -> str:
    """Return the name of the lease on a batch.

    :param number: the batch's number in the ledger.
    """
    return f"{_OF_BATCH}{number}"


@dataclass(frozen=True)
class _LeaseKey:
    name: str
    owner: str
    fence: int


class Lease:
    """A lease that this process holds until it is released or expires. Several threads may share it.

    :param database: the ledger's database.
    :param key: identifies its row there.
    :param seconds: how long it lasts without renewal.
    :param taken: when it was asked for, as a time of ``time.monotonic``: it lasts from then at least.
    """

    def __init__(self, database: Database, key: _LeaseKey, seconds: float, taken: float) -> None:
        self._database = database
        self._key = key
        self._seconds = seconds
        self._good_until = taken + seconds
        self._kept_until = 0.0
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The lease's name."""
        return self._key.name

    @property
    def remaining_seconds(self) -> float:
        """For how long nobody else can own it for certain, unless it is renewed."""
        return self._good_until - time.monotonic()

    def is_held(self, connection: Connection) -> bool:
        """Return whether no other task owns it by now, and let none take it before the transaction ends.

        :param connection: a transaction that writes.
        """
        query = select(leases.c.fence).where(*_is(self._key)).with_for_update()
        return connection.scalar(query) is not None

    def ensure(self, seconds: float) -> None:
        """Make sure that the lease outlives a request that is about to be sent.

        :param seconds: the longest that the request may take.
        :raises LeaseLostError: if another task owns the lease by now.
        """
        with self._lock:
            if time.monotonic() + seconds > self._good_until:
                self._renew()

    def _renew(self) -> None:
        started = time.monotonic()
        with self._database.writing() as connection:
            renewed = connection.execute(
                update(leases)
                .where(*_is(self._key))
                .values(expires_at=now_of(connection) + timedelta(seconds=self._seconds))
            )
        if not renewed.rowcount:
            raise LeaseLostError(self.name)
        self._good_until = started + self._seconds

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction in the ledger that is rolled back if another task owns the lease by now.

        A task that was stalled for too long must not overwrite what its successor has recorded.

        :raises LeaseLostError: if another task owns the lease.
        """
        with self._database.writing() as connection:
            if not self.is_held(connection):
                raise LeaseLostError(self.name)
            yield connection

    def keep_for(self, seconds: float) -> None:
        """Let the lease outlive its release, because a request of this holder may still be carried out.

        :param seconds: how long from now.
        """
        with self._lock:
            self._kept_until = max(self._kept_until, time.monotonic() + seconds)

    def release(self) -> None:
        """Release the lease, at once or at the end of the time that :meth:`keep_for` asked for.

        A lease that has been taken over meanwhile is left to its new owner.
        """
        kept = self._kept_until - time.monotonic()
        own_row = _is(self._key)
        with self._database.writing() as connection:
            connection.execute(
                update(leases).where(*own_row).values(expires_at=now_of(connection) + timedelta(seconds=kept))
                if kept > 0
                else delete(leases).where(*own_row)
            )


def _is(key: _LeaseKey) -> tuple[ColumnElement[bool], ...]:
    return leases.c.name == key.name, leases.c.owner == key.owner, leases.c.fence == key.fence


def writing_under(database: Database, lease: Lease | None) -> AbstractContextManager[Connection]:
    """Open a transaction that writes: under a lease, or without one."""
    return database.writing() if lease is None else lease.writing()


class Leases:
    """The table of leases.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def held(self, name: str, *, seconds: float, wait: float = 0.0) -> Iterator[Lease]:
        """Hold a lease for the length of a ``with`` block.

        :param name: what has one owner at a time, for example ``batch:12``.
        :param seconds: how long it lasts when its holder dies or stalls.
        :param wait: how many seconds to wait for another holder.
        :raises LeaseHeldError: if another task still holds it after that.
        """
        lease = self._acquire(name, seconds=seconds, wait=wait)
        try:
            yield lease
        finally:
            lease.release()

    def alive(self, names: Sequence[str]) -> dict[str, float]:
        """Return the remaining seconds of those leases that are held, by name.

        :param names: the leases in question.
        """
        found: dict[str, float] = {}
        with self._database.reading() as connection:
            now = now_of(connection)
            for start in range(0, len(names), NAMES_PER_QUERY):
                query = select(leases.c.name, leases.c.expires_at).where(
                    leases.c.name.in_(names[start : start + NAMES_PER_QUERY]), leases.c.expires_at > now
                )
                for name, expires_at in connection.execute(query):
                    found[name] = (expires_at - now).total_seconds()
        return found

    def is_work_in_progress(self) -> bool:
        """Return whether any task is working on a batch."""
        with self._database.reading() as connection:
            of_batches = select(leases.c.name).where(
                leases.c.name.startswith(_OF_BATCH), leases.c.expires_at > now_of(connection)
            )
            query = of_batches.limit(1)
            return connection.scalar(query) is not None

    def sweep(self, before: datetime) -> int:
        """Delete expired leases, and return how many there were.

        They no longer have a meaning; this keeps the table small.

        :param before: those that expired before this moment.
        """
        with self._database.writing() as connection:
            return connection.execute(delete(leases).where(leases.c.expires_at < before)).rowcount

    def _acquire(self, name: str, *, seconds: float, wait: float) -> Lease:
        owner = secrets.token_hex(8)
        deadline = time.monotonic() + wait
        while True:
            taken = time.monotonic()
            key, remaining = self._try_acquire(name, owner, seconds)
            if key is not None:
                return Lease(self._database, key, seconds, taken)
            if time.monotonic() >= deadline:
                raise LeaseHeldError(name, remaining)
            time.sleep(POLL_SECONDS)

    def _try_acquire(self, name: str, owner: str, seconds: float) -> tuple[_LeaseKey | None, float]:
        """Return the lease's key, or ``None`` and the seconds that its present holder has left."""
        try:
            with self._database.writing() as connection:
                now = now_of(connection)
                values = {"owner": owner, "expires_at": now + timedelta(seconds=seconds)}
                present = connection.execute(select(leases).where(leases.c.name == name)).one_or_none()
                if present is None:
                    connection.execute(insert(leases).values(name=name, fence=1, **values))
                    return _LeaseKey(name, owner, 1), seconds
                if present.expires_at > now:
                    return None, (present.expires_at - now).total_seconds()
                # By the condition on the fence, only one of two that saw the same dead holder wins.
                fence = present.fence + 1
                taken = connection.execute(
                    update(leases)
                    .where(
                        leases.c.name == name,
                        leases.c.fence == present.fence,
                        leases.c.expires_at <= now,  # its holder may have come back to life meanwhile
                    )
                    .values(fence=fence, **values)
                )
                return (_LeaseKey(name, owner, fence), seconds) if taken.rowcount else (None, seconds)
        except IntegrityError:
            # Another task inserted the row at the same moment.
            return None, seconds
