from __future__ import annotations

from cryptography.fernet import Fernet
from sqlalchemy import text

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


def test_what_one_process_saves_another_loads(ledger: Ledger) -> None:
    with store(ledger).lock():
        assert store(ledger).load() is None
        store(ledger).save("second-token")

    assert store(ledger).load() == "second-token"


def test_the_newest_wins_in_one_row(ledger: Ledger) -> None:
    store(ledger).save("second-token")
    store(ledger).save("third-token")
    with ledger.database.reading() as connection:
        rows = connection.execute(text("SELECT connection, sealed_token FROM refresh_tokens")).all()

    assert store(ledger).load() == "third-token"
    assert len(rows) == 1


def test_no_token_stands_in_the_table_in_clear(ledger: Ledger) -> None:
    store(ledger, seed="canary-seed").save("canary-token")
    with ledger.database.reading() as connection:
        row = connection.execute(text("SELECT * FROM refresh_tokens")).one()

    assert "canary" not in repr(tuple(row))


def test_a_new_login_in_the_connection_wins_over_an_old_rotation(ledger: Ledger) -> None:
    store(ledger, seed="old-login").save("rotated-from-the-old-login")

    assert store(ledger, seed="new-login").load() is None


def test_two_connections_with_the_same_login_share_what_came_of_it(ledger: Ledger) -> None:
    # The first of them to refresh has spent the token that both hold.
    store(ledger).save("second-token")
    assert store(ledger, connection="a_copy").load() == "second-token"
    store(ledger, connection="a_copy").save("third-token")

    assert store(ledger).load() == "third-token"


def test_two_connections_with_logins_of_their_own_share_nothing(ledger: Ledger) -> None:
    store(ledger).save("second-token")
    store(ledger, seed="another-login", connection="another").save("another-token")

    assert store(ledger).load() == "second-token"
    assert store(ledger, seed="another-login", connection="another").load() == "another-token"
