"""Where Tidepool is: its environments by name, and any other host that speaks its contract."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from tidepool_ingest.client.errors import TidepoolConfigurationError


@dataclass(frozen=True)
class Environment:
    """One installation of the Platform.

    :param name: the environment's name, or the host if it is none of the known ones.
    :param api: base URL of the API, without a slash at the end.
    :param auth: base URL of the sign-in server; empty if only the API itself knows (``GET /info``).
    :param realm: its realm; empty like ``auth``.
    """

    name: str
    api: str
    auth: str = ""
    realm: str = ""


def _qa(number: int) -> Environment:
    # The API's documentation gives one sign-in host for all of them.
    name = f"qa{number}"
    return Environment(
        name, f"https://{name}.development.tidepool.org", "https://auth.qa2.tidepool.org", name
    )


ENVIRONMENTS = {
    environment.name: environment
    for environment in (
        Environment("production", "https://api.tidepool.org", "https://auth.tidepool.org", "tidepool"),
        # Sources disagree between this host and external.integration.tidepool.org; either may be given.
        Environment(
            "integration",
            "https://int-api.tidepool.org",
            "https://auth.integration.tidepool.org",
            "integration",
        ),
        *(_qa(number) for number in range(1, 6)),
        Environment("dev1", "https://dev1.dev.tidepool.org", "https://auth.dev.tidepool.org", "dev1"),
        # Tidepool's own developers' gateway; the simulator is named by its URL.
        Environment("local", "http://localhost:3000"),
    )
}
"""Hosts of the Platform, from the API's documentation and the uploaders in use."""


def environment(name_or_host: str, *, field: str = "environment") -> Environment:
    """Return the environment of that name, or one that consists of the given API host.

    :param name_or_host: ``production``, ``integration``, ``qa1`` … ``qa5``, ``dev1``, ``local``, a host name
        (taken as https, unless it is this machine) or a base URL.
    :param field: the setting to name if it is unusable.
    :raises TidepoolConfigurationError: neither a known name nor a host.
    """
    name = name_or_host.strip()
    known = ENVIRONMENTS.get(name.lower())
    if known is not None:
        return known
    if not any(character in name for character in ".:") and name != "localhost":
        raise TidepoolConfigurationError(
            "find the Tidepool environment",
            reason="it is neither a known name nor a host",
            fields=(field,),
            remedy=f"Set `{field}` to one of {', '.join(ENVIRONMENTS)}, or give the API's host.",
        )
    base = checked_base(name, field=field)
    return next(
        (known for known in ENVIRONMENTS.values() if known.api == base), Environment(host_of(base), base)
    )


def checked_base(url: str, *, field: str) -> str:
    """Return a base URL in canonical form, rejecting those to which no token may be sent.

    :param url: a host, or a URL with scheme ``https``, or ``http`` for this machine only.
    :param field: the setting to name if it is unusable.
    :raises TidepoolConfigurationError: not a base URL, or plain http to another machine.
    """
    reason = ""
    base = ""
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
        host, port = parts.hostname or "", parts.port
        scheme = parts.scheme or ("http" if is_loopback(host) else "https")
        if (
            scheme not in ("http", "https")
            or not host
            or not host.isascii()
            or any(character <= " " for character in url)
        ):
            reason = "it is not a host or an http(s) URL"
        elif parts.username is not None or parts.query or parts.fragment or "?" in url or "#" in url:
            reason = "it holds credentials, a query or a fragment"
        elif scheme == "http" and not is_loopback(host):
            reason = "plain http would show the token to the network; only this machine may be reached by it"
        else:
            netloc = f"[{host}]" if ":" in host else host
            default_port = {"http": 80, "https": 443}[scheme]
            suffix = "" if port in (None, default_port) else f":{port}"
            base = f"{scheme}://{netloc}{suffix}{parts.path.rstrip('/')}"
    except ValueError:  # an unusable port or IPv6 address; its message quotes the input
        reason = "it is not a host or an http(s) URL"
    if reason:
        raise TidepoolConfigurationError(
            "use a Tidepool host",
            reason=reason,
            fields=(field,),
            remedy=f"Set `{field}` to an https host of Tidepool, such as api.tidepool.org.",
        )
    return base


def is_loopback(host: str) -> bool:
    """Return whether a host name is this machine itself."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_of(url: str) -> str:
    """Return host and port of a URL, for display."""
    return urlsplit(url).netloc
