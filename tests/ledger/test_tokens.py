from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import text

from tests.ledger.refresh_tokens import refresh, store
from tests.timing import Clock
from tidepool_ingest.ledger import Ledger
from tidepool_ingest.ledger.client_state import REFRESH_SECONDS, LedgerRefreshTokens


def newest(ledger: Ledger, seed: str = "first-token", connection: str = "tidepool_default") -> str | None:
    loaded = store(ledger, seed, connection).load()
    return None if loaded is None else loaded[0]


def test_what_one_process_saves_another_loads(ledger: Ledger) -> None:
    one = store(ledger)
    with one.lock():
        assert one.load() is None
        assert one.save("second-token")

    loaded = store(ledger).load()
    assert loaded is not None
    assert loaded[0] == "second-token"
    assert 0 <= loaded[1] < 60


def test_the_newest_wins_in_one_row(ledger: Ledger) -> None:
    refresh(ledger, "second-token")
    refresh(ledger, "third-token")
    with ledger.database.reading() as connection:
        rows = connection.execute(text("SELECT connection, sealed_token FROM refresh_tokens")).all()

    assert newest(ledger) == "third-token"
    assert len(rows) == 1


def test_no_token_stands_in_the_table_in_clear(ledger: Ledger) -> None:
    refresh(ledger, "canary-token", seed="canary-seed")
    with ledger.database.reading() as connection:
        row = connection.execute(text("SELECT * FROM refresh_tokens")).one()

    assert "canary" not in repr(tuple(row))


def test_a_new_login_in_the_connection_wins_over_an_old_rotation(ledger: Ledger) -> None:
    refresh(ledger, "rotated-from-the-old-login", seed="old-login")

    assert newest(ledger, seed="new-login") is None


def test_two_connections_with_the_same_login_share_what_came_of_it(ledger: Ledger) -> None:
    # The first of them to refresh has spent the token that both hold.
    refresh(ledger, "second-token")
    assert newest(ledger, connection="a_copy") == "second-token"
    refresh(ledger, "third-token", connection="a_copy")

    assert newest(ledger) == "third-token"


def test_two_connections_with_logins_of_their_own_share_nothing(ledger: Ledger) -> None:
    refresh(ledger, "second-token")
    refresh(ledger, "another-token", seed="another-login", connection="another")

    assert newest(ledger) == "second-token"
    assert newest(ledger, seed="another-login", connection="another") == "another-token"


# ---------------------------------------------------------------- a refresher that was frozen


@contextmanager
def frozen(ledger: Ledger, clock: Clock, seed: str = "first-token") -> Iterator[LedgerRefreshTokens]:
    """A process that has loaded the newest token under the lock, and then stood still until it was lost."""
    one = store(ledger, seed)
    with one.lock() as seconds:
        assert REFRESH_SECONDS - 1 < seconds <= REFRESH_SECONDS
        one.load()
        clock.pass_by(REFRESH_SECONDS + 1)
        yield one


@pytest.mark.parametrize("saved", [None, "second-token"], ids=["first refresh", "later refresh"])
def test_one_who_was_frozen_does_not_overwrite_a_newer_token(
    ledger: Ledger, clock: Clock, saved: str | None
) -> None:
    if saved is not None:
        refresh(ledger, saved)
    with frozen(ledger, clock) as late:
        refresh(ledger, "newer-token")
        assert not late.save("older-token")

    assert newest(ledger) == "newer-token"


def test_one_who_was_frozen_saves_what_nobody_else_has_got(ledger: Ledger, clock: Clock) -> None:
    # The server has replaced the only token that there was with this one: without it, nobody signs in again.
    refresh(ledger, "second-token")
    with frozen(ledger, clock) as late:
        successor = store(ledger)
        with successor.lock():
            successor.load()
            assert late.save("third-token")
            # A server that takes a token twice gave it another one, which is the newer one.
            assert successor.save("fourth-token")

    assert newest(ledger) == "fourth-token"


def test_one_who_was_frozen_does_not_bring_back_an_old_login(ledger: Ledger, clock: Clock) -> None:
    refresh(ledger, "second-token")
    with frozen(ledger, clock) as late:
        refresh(ledger, "of-the-new-login", seed="new-login")
        assert not late.save("third-token")

    assert newest(ledger, seed="new-login") == "of-the-new-login"
    assert newest(ledger) is None


def test_a_refresh_that_is_not_overtaken_does_not_bring_back_an_old_login_either(ledger: Ledger) -> None:
    refresh(ledger, "second-token")
    one = store(ledger)
    with one.lock():
        one.load()
        refresh(ledger, "of-the-new-login", seed="new-login")
        assert not one.save("third-token")

    assert newest(ledger, seed="new-login") == "of-the-new-login"
