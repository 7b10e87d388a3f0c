"""The ledger, opened once in the API server and kept: a visit must not wait for connections to be made."""

from __future__ import annotations

from functools import lru_cache

from tidepool_airflow.ledger import ledger_address
from tidepool_ingest.ledger import Ledger


def the_ledger() -> Ledger:
    """Return the ledger that the connection ``tidepool_ledger`` names now.

    :raises LedgerConfigurationError: if its address cannot be used.
    :raises LedgerUnavailableError: if it does not answer.
    """
    return _opened(ledger_address())


@lru_cache(maxsize=2)
def _opened(address: str) -> Ledger:
    ledger = Ledger(address)
    ledger.migrate()
    return ledger
