from __future__ import annotations

import threading
import time

import pytest

from tidepool_ingest.client.errors import (
    TidepoolAuthenticationError,
    TidepoolConfigurationError,
    TidepoolUnreachableError,
)
from tidepool_ingest.client.tokens import (
    ASSUMED_LIFETIME_SECONDS,
    FixedToken,
    MemoryRefreshTokenStore,
    RenewingTokens,
    Token,
    checked_token,
    claims_of,
    lifetime_of,
    subject_of,
)

from .wire import CANARY, USER, jwt


class Clock:
    """Stands still until it is moved."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1e9 + self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("tidepool_ingest.client.tokens.time", made)
    return made


class Scripted(RenewingTokens):
    """Give token 1, 2, 3 …; each as long-lived as told."""

    def __init__(self, *lifetimes: float, clock: Clock | None = None) -> None:
        super().__init__()
        self.clock = clock or time
        self.lifetimes = list(lifetimes)
        self.asked: list[str | None] = []
        self.fails: Exception | None = None

    def obtain(self, refused: str | None) -> Token:
        self.asked.append(refused)
        threading.Event().wait(0.02)
        if self.fails:
            raise self.fails
        lifetime = self.lifetimes.pop(0) if len(self.lifetimes) > 1 else self.lifetimes[0]
        return Token(
            f"token-{len(self.asked)}", lifetime, self.clock.monotonic(), f"refresh-{len(self.asked)}"
        )

    def known_secrets(self) -> list[str]:
        return ["configured"]


def test_a_token_is_used_until_it_is_due() -> None:
    tokens = Scripted(600)
    assert [tokens.token() for _ in range(3)] == ["token-1"] * 3
    assert tokens.asked == [None]


def test_it_is_replaced_ahead_of_its_end(clock: Clock) -> None:
    source = Scripted(600, 10, 600, clock=clock)
    assert source.token() == "token-1"
    clock.now += 569
    assert source.token() == "token-1"
    clock.now += 2
    assert source.token() == "token-2"
    clock.now += 7.9
    assert source.token() == "token-2"
    clock.now += 0.2
    assert source.token() == "token-3"


def test_a_refused_token_is_replaced_once_for_all_threads() -> None:
    tokens = Scripted(600)
    refused = tokens.token()
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(tokens.renew(refused))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["token-2"] * 8
    assert tokens.asked == [None, refused]


def test_threads_that_begin_together_ask_once() -> None:
    tokens = Scripted(600)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(tokens.token())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["token-1"] * 8


def test_a_token_that_is_still_good_outlives_a_pause_of_the_server(clock: Clock) -> None:
    source = Scripted(600, clock=clock)
    source.token()
    source.fails = TidepoolUnreachableError("get a token")
    clock.now += 590
    assert source.token() == "token-1"
    clock.now += 11
    with pytest.raises(TidepoolUnreachableError):
        source.token()


def test_a_refusal_is_not_outlived(clock: Clock) -> None:
    source = Scripted(600, clock=clock)
    source.token()
    source.fails = TidepoolAuthenticationError("get a token")
    clock.now += 590
    with pytest.raises(TidepoolAuthenticationError):
        source.token()


def test_every_secret_is_told_before_it_is_used() -> None:
    told: list[str] = []
    tokens = Scripted(600)
    tokens.watch(told.append)
    assert told == ["configured"]
    tokens.token()
    assert told == ["configured", "token-1", "refresh-1"]
    tokens.renew("token-1")
    assert told[3:] == ["token-2", "refresh-2"]
    late: list[str] = []
    tokens.watch(late.append)
    assert late == ["configured", "token-2", "refresh-2"]


def test_parts_of_a_legacy_token_are_secrets_too() -> None:
    assert Token("kc:access:refresh", 1, 0).secrets() == ["kc:access:refresh", "access", "refresh"]
    told: list[str] = []
    FixedToken("kc:access:refresh").watch(told.append)
    assert told == ["kc:access:refresh", "access", "refresh"]


def test_a_fixed_token_cannot_be_renewed() -> None:
    tokens = FixedToken(CANARY)
    assert tokens.token() == CANARY
    with pytest.raises(TidepoolAuthenticationError, match="fresh token") as caught:
        tokens.renew(CANARY)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("token", ["", "a b", f"{CANARY}\r\nX: y", "é"])
def test_what_cannot_be_a_fixed_token_is_refused(token: str) -> None:
    with pytest.raises(TidepoolConfigurationError) as caught:
        FixedToken(token)
    assert caught.value.fields == ("token",)
    assert CANARY not in str(caught.value)


def test_an_empty_text_is_not_told_as_a_secret() -> None:
    class Open(Scripted):
        def known_secrets(self) -> list[str]:
            return ["", "real"]

    told: list[str] = []
    Open(600).watch(told.append)
    assert told == ["real"]


def test_tokens_do_not_show() -> None:
    for thing in (
        Token(CANARY, 1, 0, CANARY, CANARY),
        FixedToken(CANARY),
        Scripted(1),
        MemoryRefreshTokenStore(),
    ):
        assert CANARY not in repr(thing)


def test_what_a_token_says_about_itself(clock: Clock) -> None:
    token = jwt(sub=USER, exp=1_000, iat=400)
    assert subject_of(token) == USER
    assert subject_of(f"kc:{token}:refresh") == USER
    assert FixedToken(token).user_id() == USER
    assert lifetime_of(token) == 600
    assert lifetime_of(token, 180) == 180
    assert lifetime_of(jwt(exp=clock.time() + 100)) == 100


@pytest.mark.parametrize(
    "token", ["opaque", "", "a.b.c", "a.!!!.c", "a.bnVsbA.c", jwt(sub=7), jwt(sub=""), "kc:x:y"]
)
def test_a_token_that_says_nothing(token: str) -> None:
    assert subject_of(token) is None
    assert lifetime_of(token) == ASSUMED_LIFETIME_SECONDS
    assert isinstance(claims_of(token), dict)


@pytest.mark.parametrize("expires_in", [None, "600", True, -1, 0, float("nan"), float("inf")])
def test_an_odd_expires_in_does_not_count(expires_in: object) -> None:
    assert lifetime_of("opaque", expires_in) == ASSUMED_LIFETIME_SECONDS


@pytest.mark.parametrize("value", [None, 7, "", "a b", "a\r\nX: y", "é"])
def test_what_cannot_be_a_token(value: object) -> None:
    assert checked_token(value) is None
