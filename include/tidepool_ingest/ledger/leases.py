"""One owner at a time: leases in the ledger, for a batch, a device or a refresh token.

A lease expires by itself when its holder dies. Its fencing token grows with every takeover, so that a holder
that stalled for too long finds out before it acts. It expires by the database's clock.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Executable, and_, bindparam, delete, select, update

from tidepool_ingest.ledger.database import (
    Database,
    InsertOf,
    LeaseHeldError,
    LeaseLostError,
    for_each_dialect,
    now_of,
)
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

    @property
    def values(self) -> dict[str, str | int]:
        """What its row is found by."""
        return {f"own_{name}": value for name, value in vars(self).items()}


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
        self._is_released = False
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
        return connection.scalar(_HELD, self._key.values) is not None

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
            until = now_of(connection) + timedelta(seconds=self._seconds)
            renewed = connection.execute(_PROLONG, {**self._key.values, "until": until})
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
            # Once it is found in a transaction, its row stays locked to the end.
            if not self._database.is_checked(self._key) and not self.is_held(connection):
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
        if self._is_released:
            return
        with self._database.writing() as connection:
            self._release(connection)

    def _release(self, connection: Connection) -> bool:
        """Release the lease within a transaction, and return whether it was still held."""
        kept = self._kept_until - time.monotonic()
        if kept > 0:
            until = now_of(connection) + timedelta(seconds=kept)
            released = connection.execute(_PROLONG, {**self._key.values, "until": until})
        else:
            released = connection.execute(_RELEASE, self._key.values)
        return released.rowcount > 0

    @contextmanager
    def last_writing(self, *others: Lease) -> Iterator[None]:
        """Release the lease, and others, in the transaction in which the block writes what comes last.

        :param others: further leases of this holder.
        :raises LeaseLostError: another task owns this lease; nothing is written then.
        """
        with self._database.together():
            with self._database.writing() as connection:
                # That it could be released says that it was held, and nobody takes it before the end.
                if not self._release(connection):
                    raise LeaseLostError(self.name)
                self._database.is_checked(self._key)
                for lease in others:
                    lease._release(connection)
            yield
        for lease in (self, *others):
            lease._is_released = True


_OWN = and_(
    *(
        leases.c[name] == bindparam(f"own_{name}", type_=leases.c[name].type)
        for name in ("name", "owner", "fence")
    )
)
_UNTIL = bindparam("until", type_=leases.c.expires_at.type)
# Made once, as are others that each batch needs: making a statement costs more than carrying it out.
_HELD = select(leases.c.fence).where(_OWN).with_for_update()
_PROLONG = update(leases).where(_OWN).values(expires_at=_UNTIL)
_RELEASE = delete(leases).where(_OWN)


def _take(insert: InsertOf) -> Executable:
    """Return the statement that takes a lease if nobody holds it, and returns its fence; no row if not."""
    new = insert(leases).values(name=bindparam("name"), owner=bindparam("owner"), fence=1, expires_at=_UNTIL)
    return new.on_conflict_do_update(
        index_elements=[leases.c.name],
        set_={"owner": new.excluded.owner, "fence": leases.c.fence + 1, "expires_at": _UNTIL},
        where=leases.c.expires_at <= bindparam("now", type_=leases.c.expires_at.type),
    ).returning(leases.c.fence)


_TAKE = for_each_dialect(_take)


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
    def held(
        self, name: str, *, seconds: float, wait: float = 0.0, begin: Callable[[Lease], None] | None = None
    ) -> Iterator[Lease]:
        """Hold a lease for the length of a ``with`` block.

        :param name: what has one owner at a time, for example ``batch:12``.
        :param seconds: how long it lasts when its holder dies or stalls.
        :param wait: how many seconds to wait for another holder.
        :param begin: what is read and written first under the lease, in the transaction that takes it; if it
            raises, the lease is not taken.
        :raises LeaseHeldError: if another task still holds it after that.
        """
        lease = self._acquire(name, seconds=seconds, wait=wait, begin=begin)
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

    def _acquire(
        self, name: str, *, seconds: float, wait: float, begin: Callable[[Lease], None] | None = None
    ) -> Lease:
        owner = secrets.token_hex(8)
        deadline = time.monotonic() + wait
        while True:
            taken = time.monotonic()
            with self._database.together():
                key, remaining = self._try_acquire(name, owner, seconds)
                if key is not None:
                    lease = Lease(self._database, key, seconds, taken)
                    if begin is not None:
                        begin(lease)
                    return lease
            if time.monotonic() >= deadline:
                raise LeaseHeldError(name, remaining)
            time.sleep(POLL_SECONDS)

    def _try_acquire(self, name: str, owner: str, seconds: float) -> tuple[_LeaseKey | None, float]:
        """Return the lease's key, or ``None`` and the seconds that its present holder has left."""
        with self._database.writing() as connection:
            now = now_of(connection)
            # Of two that see the same dead holder, or none, one wins: the row is locked when it is written.
            given = {"name": name, "owner": owner, "now": now, "until": now + timedelta(seconds=seconds)}
            taken: int | None = connection.scalar(_TAKE[connection.dialect.name], given)
            if taken is not None:
                key = _LeaseKey(name, owner, taken)
                self._database.is_checked(key)
                return key, seconds
            expires_at = connection.scalar(select(leases.c.expires_at).where(leases.c.name == name))
            return None, seconds if expires_at is None else (expires_at - now).total_seconds()
