from __future__ import annotations

import base64
import json
import pickle
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tidepool_ingest.client.auth import (
    SIGN_IN_TIMEOUTS,
    ClientCredentialsTokens,
    LegacyLoginTokens,
    OidcClient,
    OidcProvider,
    PasswordTokens,
    RefreshTokens,
)
from tidepool_ingest.client.backoff import BackOff
from tidepool_ingest.client.environments import Environment
from tidepool_ingest.client.errors import (
    TidepoolAuthenticationError,
    TidepoolConfigurationError,
    TidepoolError,
    TidepoolUnexpectedAnswerError,
    TidepoolUnreachableError,
)
from tidepool_ingest.client.exchange import new_session
from tidepool_ingest.client.tokens import MemoryRefreshTokenStore
from tidepool_ingest.client.transport import Transport

from .sign_in_wire import REALM, SignInWire
from .wire import CANARY, USER, Reply, Wire, jwt

OURS = OidcClient("ours", "secret")


@pytest.fixture
def sign_in() -> Iterator[SignInWire]:
    wire = SignInWire()
    yield wire
    wire.close()


@pytest.fixture
def transport() -> Transport:
    return Transport(new_session(), SIGN_IN_TIMEOUTS)


@pytest.fixture
def server(sign_in: SignInWire, transport: Transport, backoff: BackOff) -> OidcProvider:
    return OidcProvider(transport, Environment("practice", sign_in.url), backoff=backoff)


# ---------------------------------------------------------------------- where the sign-in server is


def test_it_is_asked_for_once(sign_in: SignInWire, server: OidcProvider) -> None:
    assert server.find() == server.find() == f"{sign_in.url}/realms/{REALM}/token"
    assert sign_in.routes_seen() == ["GET /info", f"GET /realms/{REALM}/.well-known/openid-configuration"]


def test_it_can_be_given(sign_in: SignInWire, transport: Transport) -> None:
    given = OidcProvider(transport, Environment("x", "https://x.invalid"), auth_url=sign_in.url, realm=REALM)
    assert given.find().endswith("/token")
    assert "GET /info" not in sign_in.routes_seen()


def test_a_known_environment_does_not_depend_on_being_told(sign_in: SignInWire, transport: Transport) -> None:
    known = Environment("known", sign_in.url, sign_in.url, REALM)
    for reply in (Reply(404, {"Error": "Resource not found"}), Reply(200, {}), Reply(200, b"<html>")):
        sign_in.info = reply
        assert OidcProvider(transport, known).find().endswith("/token")


def test_an_unknown_one_that_does_not_tell_is_a_matter_of_settings(
    sign_in: SignInWire, server: OidcProvider
) -> None:
    sign_in.info = Reply(200, {"auth": {"url": 7}})
    with pytest.raises(TidepoolConfigurationError, match="auth_url") as caught:
        server.find()
    assert caught.value.fields == ("auth_url", "realm")


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://elsewhere.org/token",
        "http://elsewhere.org/token",
        "//elsewhere.org",
        "http://127.0.0.1:1/token",
    ],
)
def test_credentials_do_not_go_to_another_host(
    sign_in: SignInWire, server: OidcProvider, endpoint: str
) -> None:
    sign_in.well_known = {"token_endpoint": endpoint}
    with pytest.raises(TidepoolConfigurationError) as caught:
        server.find()
    assert caught.value.fields == ("auth_url",)


def test_plain_http_to_a_sign_in_server_elsewhere_is_refused(
    sign_in: SignInWire, server: OidcProvider
) -> None:
    sign_in.info = Reply(200, {"auth": {"url": "http://auth.example.org", "realm": "r"}})
    with pytest.raises(TidepoolConfigurationError):
        server.find()


@pytest.mark.parametrize("document", [{}, {"token_endpoint": 7}, []])
def test_a_realm_without_a_token_endpoint(
    sign_in: SignInWire, server: OidcProvider, document: object
) -> None:
    sign_in.well_known = document  # type: ignore[assignment]
    with pytest.raises(TidepoolUnexpectedAnswerError):
        server.find()


@pytest.mark.parametrize("answer", [{}, {"access_token": 7}, {"access_token": "a b"}, [], None])
def test_a_grant_without_a_token(sign_in: SignInWire, server: OidcProvider, answer: object) -> None:
    server.find()
    sign_in.always(Reply(200, answer))
    with pytest.raises(TidepoolUnexpectedAnswerError, match="no usable token"):
        ClientCredentialsTokens(server, OURS).token()


# ---------------------------------------------------------------------- client credentials


def test_client_credentials(sign_in: SignInWire, server: OidcProvider) -> None:
    tokens = ClientCredentialsTokens(server, OURS)
    first = tokens.token()
    assert tokens.user_id() == USER
    assert sign_in.seen[-1].form == {
        "grant_type": "client_credentials",
        "client_id": "ours",
        "client_secret": "secret",
    }
    assert tokens.renew(first) != first
    assert sign_in.granted == ["client_credentials"] * 2


def test_a_wrong_secret_fails_at_once_with_a_remedy(sign_in: SignInWire, server: OidcProvider) -> None:
    with pytest.raises(TidepoolAuthenticationError) as caught:
        ClientCredentialsTokens(server, OidcClient("ours", f"wrong-{CANARY}")).token()
    assert len(sign_in.granted) == 1
    assert caught.value.codes == ("invalid_client",)
    assert CANARY not in str(caught.value) + repr(pickle.dumps(caught.value))


def test_asking_for_a_token_is_tried_again(
    sign_in: SignInWire, server: OidcProvider, pauses: list[float]
) -> None:
    server.find()
    ready = sign_in.answer
    replies = [Reply(reset=True), Reply(503, CANARY.encode()), Reply(429)]
    sign_in.answer = lambda seen: replies.pop() if replies else ready(seen)
    assert ClientCredentialsTokens(server, OURS).token()
    assert len(pauses) == 3


# ---------------------------------------------------------------------- password


def test_password_refreshes_and_signs_in_anew_when_the_session_has_ended(
    sign_in: SignInWire, server: OidcProvider
) -> None:
    tokens = PasswordTokens(server, OidcClient("ours"), username="me@example.org", password="right")
    first = tokens.token()
    assert sign_in.seen[-1].form["username"] == "me@example.org"
    assert "client_secret" not in sign_in.seen[-1].form
    second = tokens.renew(first)
    sign_in.session_ended = True
    tokens.renew(second)
    assert sign_in.granted == ["password", "refresh_token", "refresh_token", "password"]


def test_a_wrong_password(server: OidcProvider) -> None:
    tokens = PasswordTokens(server, OURS, username=CANARY, password=CANARY)
    with pytest.raises(TidepoolAuthenticationError) as caught:
        tokens.token()
    assert CANARY not in str(caught.value)


# ---------------------------------------------------------------------- refresh token


class Store(MemoryRefreshTokenStore):
    """Remember what was saved, and whether it was under the lock."""

    def __init__(self) -> None:
        super().__init__()
        self.saved: list[str] = []

    def save(self, token: str) -> bool:
        assert self._lock.locked()
        self.saved.append(token)
        return super().save(token)


def refreshing(
    server: OidcProvider, store: MemoryRefreshTokenStore, backoff: BackOff, first: str = "refresh-0"
) -> RefreshTokens:
    return RefreshTokens(server, OURS, refresh_token=first, store=store, backoff=backoff)


def test_a_rotated_refresh_token_is_used_from_then_on(
    sign_in: SignInWire, server: OidcProvider, backoff: BackOff
) -> None:
    store = Store()
    tokens = refreshing(server, store, backoff)
    token = tokens.token()
    for _ in range(3):
        token = tokens.renew(token)
    assert not sign_in.session_ended
    assert len(sign_in.granted) == len(store.saved) == 4


def test_two_users_of_a_store_share_one_refresh(
    sign_in: SignInWire, server: OidcProvider, backoff: BackOff
) -> None:
    store = Store()
    one, other = refreshing(server, store, backoff), refreshing(server, store, backoff)
    token = one.token()
    assert other.token() == token
    assert len(sign_in.granted) == 1
    fresh = other.renew(token)
    assert fresh != token
    assert one.renew(token) == fresh
    assert len(sign_in.granted) == 2
    assert not sign_in.session_ended


def test_a_shared_token_that_is_due_is_not_used(
    sign_in: SignInWire, server: OidcProvider, backoff: BackOff
) -> None:
    store = Store()
    sign_in.lifetime = 0.2
    one = refreshing(server, store, backoff).token()
    time.sleep(0.2)
    assert refreshing(server, store, backoff).token() != one
    assert not sign_in.session_ended


def test_many_threads_with_sources_of_their_own(
    sign_in: SignInWire, server: OidcProvider, backoff: BackOff
) -> None:
    store = Store()
    found: set[str] = set()

    def work() -> None:
        tokens = refreshing(server, store, backoff)
        token = tokens.token()
        for _ in range(3):
            token = tokens.renew(token)
            found.add(token)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found
    assert not sign_in.session_ended


def test_the_new_refresh_token_is_saved_before_the_access_token_is_used(
    sign_in: SignInWire, server: OidcProvider, backoff: BackOff
) -> None:
    class Full(Store):
        def save(self, token: str) -> bool:
            raise OSError("disk full")

    tokens = refreshing(server, Full(), backoff)
    told: list[str] = []
    tokens.watch(told.append)
    with pytest.raises(OSError, match="disk full"):
        tokens.token()
    assert sign_in.newest_refresh in told


class Overtaken(Store):
    """Stands still while it refreshes, until another process has taken the lock over and refreshed too."""

    def __init__(self, other: str, spent: bool = False) -> None:
        super().__init__()
        self.other = other
        self.spent = spent
        self.loads = 0

    def load(self) -> tuple[str, float] | None:
        self.loads += 1
        if self.spent and self.loads == 2:
            MemoryRefreshTokenStore.save(self, self.other)
        return super().load()

    def save(self, token: str) -> bool:
        if self.saved:
            return super().save(token)
        self.saved.append(token)
        MemoryRefreshTokenStore.save(self, self.other)
        return False


def test_one_who_was_overtaken_uses_what_the_other_one_saved(
    sign_in: SignInWire, server: OidcProvider, backoff: BackOff
) -> None:
    newer = json.dumps({"refresh": "theirs", "access": "their-access", "lifetime": 60.0})
    store = Overtaken(newer)
    assert refreshing(server, store, backoff).token() == "their-access"
    assert len(sign_in.granted) == 1
    assert len(store.saved) == 1


def test_one_whose_token_another_one_has_just_spent_uses_what_that_one_saves(
    sign_in: SignInWire, server: OidcProvider, backoff: BackOff
) -> None:
    newer = json.dumps({"refresh": "theirs", "access": "their-access", "lifetime": 60.0})
    store = Overtaken(newer, spent=True)
    assert refreshing(server, store, backoff, first="spent").token() == "their-access"


def test_no_refresh_is_started_once_the_lock_may_be_lost(
    sign_in: SignInWire, server: OidcProvider, backoff: BackOff
) -> None:
    class Nearly(Store):
        @contextmanager
        def lock(self) -> Iterator[float]:
            with super().lock():
                yield 15.0

    with pytest.raises(TidepoolUnreachableError, match="could not be started in time"):
        refreshing(server, Nearly(), backoff).token()
    assert sign_in.granted == []


def test_every_secret_of_a_refresh_is_told(
    sign_in: SignInWire, server: OidcProvider, backoff: BackOff
) -> None:
    store = Store()
    refreshing(server, store, backoff).token()
    told: list[str] = []
    tokens = refreshing(server, store, backoff)
    tokens.watch(told.append)
    assert told == ["refresh-0", "secret"]
    token = tokens.token()
    assert {sign_in.newest_refresh, token} <= set(told)


def test_a_refresh_token_that_has_ended_says_what_to_do(
    sign_in: SignInWire, server: OidcProvider, backoff: BackOff
) -> None:
    with pytest.raises(TidepoolAuthenticationError, match="Sign in again") as caught:
        refreshing(server, Store(), backoff, first=CANARY).token()
    assert CANARY not in str(caught.value)
    assert len(sign_in.granted) == 1


def test_a_wrong_client_is_not_blamed_on_the_refresh_token(server: OidcProvider, backoff: BackOff) -> None:
    tokens = RefreshTokens(
        server, OidcClient("theirs"), refresh_token="refresh-0", store=Store(), backoff=backoff
    )
    with pytest.raises(TidepoolAuthenticationError) as caught:
        tokens.token()
    assert "Sign in again" not in str(caught.value)


@pytest.mark.parametrize("bare", ["refresh-7", "7"])
def test_a_bare_refresh_token_in_the_store_is_understood(
    sign_in: SignInWire, server: OidcProvider, backoff: BackOff, bare: str
) -> None:
    store = Store()
    sign_in.newest_refresh = bare
    MemoryRefreshTokenStore.save(store, bare)
    assert refreshing(server, store, backoff).token()


def test_a_server_that_does_not_rotate(sign_in: SignInWire, server: OidcProvider, backoff: BackOff) -> None:
    server.find()
    numbers = iter(range(9))
    sign_in.answer = lambda seen: Reply(200, {"access_token": f"access-{next(numbers)}", "expires_in": 60})
    tokens = refreshing(server, Store(), backoff)
    tokens.renew(tokens.token())
    assert [seen.form["refresh_token"] for seen in sign_in.seen[-2:]] == ["refresh-0", "refresh-0"]


def test_the_store_is_not_locked_for_long_when_the_server_is_away(
    sign_in: SignInWire, server: OidcProvider
) -> None:
    server.find()
    sign_in.always(Reply(503))
    asked = len(sign_in.seen)
    with pytest.raises(TidepoolUnreachableError):
        RefreshTokens(server, OURS, refresh_token="refresh-0", store=Store()).token()
    assert len(sign_in.seen) - asked == 2


# ---------------------------------------------------------------------- legacy login


class LoginWire:
    """Log in and replace tokens as shoreline does."""

    def __init__(self, wire: Wire) -> None:
        self.number = 0
        self.ended = False
        wire.by_route({"POST /auth/login": self.log_in, "GET /auth/login": self.replace})

    def log_in(self, seen: object) -> Reply:
        right = "Basic " + base64.b64encode("me@example.org:pässword".encode()).decode()
        if seen.headers["Authorization"] != right:  # type: ignore[attr-defined]
            return Reply(401, {"code": 401, "reason": CANARY})
        self.ended = False
        return self.given({"userid": USER, "username": "me@example.org"})

    def replace(self, seen: object) -> Reply:
        if self.ended or seen.token != self.newest:  # type: ignore[attr-defined]
            return Reply(401, {"code": 401, "reason": CANARY})
        return self.given({"isserver": False, "userid": USER})

    def given(self, body: object) -> Reply:
        self.number += 1
        self.newest = f"kc:{jwt(number=self.number, exp=1_600, iat=1_000)}:refresh-{self.number}"
        return Reply(200, body, {"x-tidepool-session-token": self.newest})


def logging_in(
    wire: Wire, transport: Transport, backoff: BackOff, password: str = "pässword"
) -> LegacyLoginTokens:
    return LegacyLoginTokens(
        transport, wire.url, username="me@example.org", password=password, backoff=backoff
    )


def test_login(wire: Wire, transport: Transport, backoff: BackOff) -> None:
    login = LoginWire(wire)
    tokens = logging_in(wire, transport, backoff)
    told: list[str] = []
    tokens.watch(told.append)
    token = tokens.token()
    assert token == login.newest
    assert tokens.user_id() == USER
    assert {
        token,
        "refresh-1",
        "pässword",
        base64.b64encode("me@example.org:pässword".encode()).decode(),
    } <= set(told)


def test_login_replaces_the_token_and_logs_in_anew_when_it_has_ended(
    wire: Wire, transport: Transport, backoff: BackOff
) -> None:
    login = LoginWire(wire)
    tokens = logging_in(wire, transport, backoff)
    second = tokens.renew(tokens.token())
    assert wire.routes_seen() == ["POST /auth/login", "GET /auth/login"]
    login.ended = True
    assert tokens.renew(second) == login.newest
    assert wire.routes_seen()[2:] == ["GET /auth/login", "POST /auth/login"]


@pytest.mark.parametrize("status", [400, 401, 403])
def test_login_refused(wire: Wire, transport: Transport, backoff: BackOff, status: int) -> None:
    wire.always(Reply(status, {"code": status, "reason": CANARY}))
    with pytest.raises(TidepoolAuthenticationError) as caught:
        logging_in(wire, transport, backoff, password=CANARY).token()
    assert CANARY not in str(caught.value)
    assert len(wire.seen) == 1


@pytest.mark.parametrize(
    "headers", [{}, {"x-tidepool-session-token": ""}, {"x-tidepool-session-token": "a b"}]
)
def test_login_without_a_token(
    wire: Wire, transport: Transport, backoff: BackOff, headers: dict[str, str]
) -> None:
    wire.always(Reply(200, {"userid": USER}, headers))
    with pytest.raises(TidepoolError, match="no usable token"):
        logging_in(wire, transport, backoff).token()
