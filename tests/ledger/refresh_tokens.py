"""Refresh tokens as two processes keep them."""

from __future__ import annotations

from cryptography.fernet import Fernet

from tidepool_ingest.ledger import Ledger
from tidepool_ingest.ledger.client_state import LedgerRefreshTokens

FERNET = Fernet(Fernet.generate_key())


def store(
    ledger: Ledger, seed: str = "first-token", connection: str = "tidepool_default"
) -> LedgerRefreshTokens:
    return LedgerRefreshTokens(
        ledger.database,
        connection,
        seed=seed,
        encrypt=lambda token: FERNET.encrypt(token.encode()).decode(),
        decrypt=lambda encrypted: FERNET.decrypt(encrypted.encode()).decode(),
    )


def refresh(
    ledger: Ledger, token: str, seed: str = "first-token", connection: str = "tidepool_default"
) -> None:
    """Save a token as a process does that is not disturbed."""
    one = store(ledger, seed, connection)
    with one.lock():
        one.load()
        assert one.save(token)
