from __future__ import annotations

import pytest

from tidepool_ingest.client.environments import (
    ENVIRONMENTS,
    Environment,
    checked_base,
    environment,
    host_of,
    is_loopback,
)
from tidepool_ingest.client.errors import TidepoolConfigurationError

from .wire import CANARY


def test_every_environment_has_a_host_of_its_own_and_a_base_in_its_one_spelling() -> None:
    assert set(ENVIRONMENTS) == {
        "production",
        "integration",
        "qa1",
        "qa2",
        "qa3",
        "qa4",
        "qa5",
        "dev1",
        "local",
    }
    assert len({each.api for each in ENVIRONMENTS.values()}) == len(ENVIRONMENTS)
    for each in ENVIRONMENTS.values():
        assert checked_base(each.api, field="host") == each.api
        if each.auth:
            assert checked_base(each.auth, field="host") == each.auth
            assert each.realm


@pytest.mark.parametrize(
    "name",
    [
        "production",
        " Production ",
        "https://api.tidepool.org",
        "api.tidepool.org",
        "https://api.tidepool.org:443/",
    ],
)
def test_production_by_any_spelling(name: str) -> None:
    assert environment(name) is ENVIRONMENTS["production"]


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("tidepool.example.org", "https://tidepool.example.org"),
        ("tidepool.example.org:8443", "https://tidepool.example.org:8443"),
        ("HTTPS://Tidepool.Example.ORG/", "https://tidepool.example.org"),
        ("https://example.org/api/", "https://example.org/api"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("localhost:3000", "http://localhost:3000"),
        ("http://localhost", "http://localhost"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://127.8.9.1", "http://127.8.9.1"),
    ],
)
def test_hosts(given: str, base: str) -> None:
    assert environment(given).api == base
    assert host_of(base) in base


@pytest.mark.parametrize(
    "given",
    [
        "http://api.tidepool.org",
        "http://10.0.0.1",
        "http://localhost.example.org",
        "http://127.0.0.1.example.org",
        f"https://user:{CANARY}@api.tidepool.org",
        f"https://api.tidepool.org?token={CANARY}",
        f"https://api.tidepool.org#{CANARY}",
        "https://api.tidepool.org?",
        "ftp://api.tidepool.org",
        "https://",
        "https://api.tidepool.org:port",
        "https://api.tide pool.org",
        "https://api.tidepool.org\r\nX: y",
        "https://[::1",
        "https://\u0430pi.tidepool.org",
        "prod",
        "",
        f"{CANARY}",
    ],
)
def test_unusable_hosts_are_refused_by_field_and_not_quoted(given: str) -> None:
    with pytest.raises(TidepoolConfigurationError) as caught:
        environment(given, field="host")
    assert caught.value.fields == ("host",)
    assert "`host`" in str(caught.value)
    assert CANARY not in str(caught.value)
    assert caught.value.__context__ is None


def test_an_unknown_environment_names_the_known() -> None:
    with pytest.raises(TidepoolConfigurationError, match="production, integration, qa1"):
        environment("prod")


def test_a_host_that_is_no_environment_has_its_own_name() -> None:
    assert environment("https://example.org/api") == Environment("example.org", "https://example.org/api")


def test_loopback() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.1.2.3", "::1")))
    assert not any(map(is_loopback, ("", "0.0.0.0", "localhost.org", "10.0.0.1", "::2")))
