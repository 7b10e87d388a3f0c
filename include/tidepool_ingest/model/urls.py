"""Web addresses as the Platform knows them: what Go's ``url.Parse`` reads as absolute and with a host."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address
from typing import Final
from urllib.parse import unquote

_SCHEME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:(.*)", re.DOTALL)
_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")
_BAD_ESCAPE: Final = re.compile("%(?![0-9a-fA-F]{2})")
_USER: Final = re.compile(r"[A-Za-z0-9._:~!$&'()*+,;=%@-]*")
_OPTIONAL_PORT: Final = re.compile("(?::[0-9]*)?")
_HOST: Final = re.compile(r"(?:[^ \\^`{|}%]|%[89a-fA-F][0-9a-fA-F]|%25)*")
"""In a host, escapes stand for non-ASCII bytes and the percent sign only."""
_ZONE: Final = re.compile(r"(?:[^ \\^`{|}%]|%[0-9a-fA-F]{2})*")


def is_web_address(text: str) -> bool:
    """Return whether the text is an absolute URL with a host.

    :param text: the text.
    """
    address, _, fragment = text.partition("#")
    found = _SCHEME.fullmatch(address)
    if found is None or _CONTROL.search(address) or _BAD_ESCAPE.search(fragment):
        return False
    rest = found[1].partition("?")[0]
    if not rest.startswith("//"):
        return False
    authority, slash, path = rest[2:].partition("/")
    return not _BAD_ESCAPE.search(slash + path) and _is_authority(authority)


def _is_authority(authority: str) -> bool:
    user, at, host = authority.rpartition("@")
    if at and (not _USER.fullmatch(user) or _BAD_ESCAPE.search(user)):
        return False
    if "[" in host:
        return _is_address_literal(host)
    _, colon, port = host.rpartition(":")
    return (
        host != "" and _OPTIONAL_PORT.fullmatch(colon + port if colon else "") is not None and _is_host(host)
    )


def _is_host(host: str) -> bool:
    return _HOST.fullmatch(host) is not None


def _is_address_literal(host: str) -> bool:
    literal, bracket, port = host[host.rindex("[") + 1 :].rpartition("]")
    if not bracket or not _OPTIONAL_PORT.fullmatch(port):
        return False
    address, escape, zone = literal.partition("%25")
    if not _is_host(address) or not _ZONE.fullmatch(zone):
        return False
    try:
        IPv6Address(unquote(address) + unquote(escape + zone))
    except AddressValueError:
        return False
    return True
