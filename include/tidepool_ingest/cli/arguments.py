"""What arguments of the command line may be: each reads one text or tells what would be right."""

from __future__ import annotations

import argparse
import math
from datetime import date

from upath import UPath

from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import is_user_id
from tidepool_ingest.staging.storage import filesystem

PORT_MAX = 65_535

_NO_LOGIN = ("s3", "gs")
"""Storages whose URLs have no ``@`` but the one behind an Airflow connection's id."""


def port(text: str) -> int:
    """Read a TCP port, 0 for any free one."""
    if not text.isascii() or not text.isdigit() or int(text) > PORT_MAX:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to {PORT_MAX}")
    return int(text)


def count(text: str) -> int:
    """Read a number of things, at least one."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("give a whole number from 1 on")
    return int(text)


def days(text: str) -> int:
    """Read a number of days, 0 for ever."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError("give a whole number of days, or 0 for ever")
    return int(text)


def seconds(text: str) -> float:
    """Read a duration, zero or longer."""
    try:
        given = float(text)
    except ValueError:
        given = math.nan
    if not math.isfinite(given) or given < 0:
        raise argparse.ArgumentTypeError("give a number of seconds, zero or more")
    return given


def day(text: str) -> date:
    """Read a day."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("give a day as YYYY-MM-DD") from None


def user(text: str) -> str:
    """Read a Tidepool user id; what is given is not repeated, since it may be one with a slip."""
    if not is_user_id(text):
        raise argparse.ArgumentTypeError("a Tidepool user id has ten hex digits, or is a UUID")
    return text


def place(text: str) -> UPath:
    """Read a path or the URL of a storage that something here knows.

    :raises BatchError: ``staging-unreachable``.
    """
    scheme, _, rest = text.partition("://")
    if scheme in _NO_LOGIN and "@" in rest.partition("/")[0]:
        raise BatchError(
            "staging-unreachable",
            detail="it names an Airflow connection, which is not known here: leave `<connection>@` out, and "
            "set the storage's own environment variables",
        )
    try:
        path = UPath(text)
    except ValueError:
        raise BatchError("staging-unreachable") from None
    filesystem(path)
    return path
