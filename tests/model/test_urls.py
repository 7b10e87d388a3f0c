"""Which texts Go takes for an absolute URL with a host."""

from __future__ import annotations

import pytest

from tidepool_ingest.model.urls import is_web_address


@pytest.mark.parametrize(
    "text",
    [
        "http://a",
        "HTTPS://tidepool.org:443/path/%20?%zz#frag",
        "x+y-z.1://host",
        "http://user:pa%20ss@host/",
        "http://:80",
        "http://a:",
        "http://a:80:",
        "http://é.org/ü",
        "http://a/\u2028 b",
        "http://a%C3%A9",
        "http://<a>",
        "http://[::1]:80/",
        "http://[fe80::1%25en0]/",
        "http://a?b://c",
        "http://a#b\x01",
    ],
)
def test_web_addresses(text: str) -> None:
    assert is_web_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "/a",
        "//a/b",
        "http:",
        "http:a",
        "http:/a",
        "http://",
        "http:///a",
        "http://?a",
        "://a",
        "1http://a",
        "http://a b",
        "http://a\\b",
        "http://a:b",
        "http://a/%zz",
        "http://a/%4",
        "http://a#%zz",
        "http://a%20b",
        "http://us er@a",
        "http://é@a",
        "http://user%z@a",
        "http://a/\x7f",
        "http://a\n",
        "http://[::1",
        "http://[::1]x",
        "http://[1.2.3.4]",
        "http://[host]",
        "http://[::1%25%zz]",
    ],
)
def test_what_is_none(text: str) -> None:
    assert not is_web_address(text)
