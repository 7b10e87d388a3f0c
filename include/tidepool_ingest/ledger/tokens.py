"""The refresh token that a server has rotated: one encrypted row a connection, one refresher at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import delete, insert, or_, select

from tidepool_ingest.ledger.database import Database
from tidepool_ingest.ledger.leases import Leases
from tidepool_ingest.ledger.schema import refresh_tokens
from tidepool_ingest.privacy import short_hash

REFRESH_SECONDS = 60.0
"""How long one refresh may take before its holder counts as dead."""


class LedgerRefreshTokens:
    """Keep one connection's refresh token in the ledger.

    :param database: the ledger's database.
    :param connection: the Airflow connection's id.
    :param seed: the refresh token that the connection itself holds. Whoever holds the same one shares what
        came of it, under whatever connection id: the form's button Test uses one of its own. When somebody
        logs in anew and changes it there, what the ledger kept from the older login is no longer used.
    :param seal: encrypts a token for the table.
    :param unseal: decrypts it again.
    """

    def __init__(
        self,
        database: Database,
        connection: str,
        *,
        seed: str,
        seal: Callable[[str], str],
        unseal: Callable[[str], str],
    ) -> None:
        self._database = database
        self._connection = connection
        self._seed_digest = hashlib.sha256(seed.encode()).hexdigest()
        self._seal = seal
        self._unseal = unseal

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Let one process at a time refresh; the others wait and then find its result."""
        name = f"refresh-token:{short_hash(self._seed_digest)}"
        with Leases(self._database).held(name, seconds=REFRESH_SECONDS, wait=2 * REFRESH_SECONDS):
            yield

    def load(self) -> str | None:
        """Return the newest token that a server gave, ``None`` if the connection's own is the newest."""
        asked = select(refresh_tokens.c.sealed_token).where(refresh_tokens.c.seed_digest == self._seed_digest)
        with self._database.reading() as connection:
            sealed = connection.scalar(asked)
        return None if sealed is None else self._unseal(sealed)

    def save(self, token: str) -> None:
        """Keep the token that a server has just given."""
        with self._database.writing() as connection:
            connection.execute(
                delete(refresh_tokens).where(
                    or_(
                        refresh_tokens.c.connection == self._connection,
                        refresh_tokens.c.seed_digest == self._seed_digest,
                    )
                )
            )
            connection.execute(
                insert(refresh_tokens).values(
                    connection=self._connection,
                    sealed_token=self._seal(token),
                    seed_digest=self._seed_digest,
                    updated_at=datetime.now(UTC),
                )
            )
