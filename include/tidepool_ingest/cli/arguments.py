"""What arguments of the command line may be: each reads one text or tells what would be right."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from upath import UPath

from tidepool_ingest.errors import IngestError
from tidepool_ingest.ledger import Ledger
from tidepool_ingest.ledger.database import (
    HEAD_REVISION,
    LedgerUnavailableError,
    current_revision,
    ledger_url,
)
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


class CommandError(IngestError):
    """A command cannot be carried out with the arguments it was given.

    :param what: what happened, one sentence.
    :param remedy: what to do about it, one sentence.
    :param code: short stable name of the cause.
    """

    code = "arguments"
    sentence = "the arguments of a command cannot be used"
    remedy = "Correct them: `tidepool-ingest --help` lists them."

    def __init__(self, what: str, remedy: str, code: str = "") -> None:
        super().__init__(what, remedy=remedy, code=code)


ROOT_VARIABLE = "TIDEPOOL_STAGING_ROOT"
"""Environment variable with the staging root, the same that the DAGs read."""


def add_root(command: argparse.ArgumentParser) -> None:
    """Add the option that says where the day folders are; needed where the variable is not set."""
    root = os.environ.get(ROOT_VARIABLE) or None
    command.add_argument(
        "--root",
        default=root,
        required=root is None,
        help=f"staging root, a path or fsspec URL (default: ${ROOT_VARIABLE})",
    )


_AGAIN = "Get it once more from where it was made, complete."

_FAULTS = {
    "file-missing": ("There is no such data file", "Check the path."),
    "file-empty": ("The data file holds no record", "Check that it is the right one."),
    "file-truncated": ("The data file ends in the middle", _AGAIN),
    "file-damaged": ("The compressed data file is damaged", _AGAIN),
}
"""Errors of staging that speak of a manifest, by code, as they read for a file without one."""


@contextmanager
def reading_data_file() -> Iterator[None]:
    """Tell what is wrong with a data file in words that fit a file without a manifest."""
    try:
        yield
    except BatchError as error:
        if error.code not in _FAULTS:
            raise
        what, remedy = _FAULTS[error.code]
        raise CommandError(f"{what} [{error.code}].", remedy, error.code) from None


LEDGER_VARIABLE = "TIDEPOOL_LEDGER"
"""Environment variable with the ledger's address."""

DEFAULT_LEDGER = "sqlite:///.local/demo/airflow/tidepool_ledger.db"
"""Where `make demo` keeps the ledger; `make up` gives a shell beside it the variable."""

NO_LEDGER = "There is no ledger at this address yet: the first run of the DAG makes it."


def add_ledger(command: argparse.ArgumentParser) -> None:
    """Add the option that says where the ledger is."""
    command.add_argument(
        "--ledger",
        metavar="URL",
        default=os.environ.get(LEDGER_VARIABLE) or DEFAULT_LEDGER,
        help="the ledger's database, sqlite:///file or postgresql://user@host/name; a password is better "
        f"kept in the environment (default: ${LEDGER_VARIABLE}, or {DEFAULT_LEDGER})",
    )


@contextmanager
def opened(address: str) -> Iterator[Ledger | None]:
    """Open the ledger for the length of a ``with`` block, ``None`` when there is none: this never makes one.

    :param address: the ledger's address.
    :raises CommandError: if it is another version's, or does not answer.
    """
    url = ledger_url(address)
    if url.get_backend_name() == "sqlite" and not (url.database and Path(url.database).exists()):
        yield None
        return
    ledger = Ledger(address)
    try:
        revision = current_revision(ledger.database.engine)
        if revision not in (None, HEAD_REVISION):
            raise CommandError(
                "The ledger's tables are those of another version of this project.",
                "Run the DAG once with this version, which brings older ones up to date.",
                "ledger-version",
            )
        yield None if revision is None else ledger
    except LedgerUnavailableError as error:
        raise CommandError(error.what, f"Check --ledger or ${LEDGER_VARIABLE}.", error.code) from None
    finally:
        ledger.close()


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows under headings, columns of numbers to the right, ``None`` as a dash.

    :param headings: one a column.
    :param rows: as many cells each.
    """
    given = [tuple(row) for row in rows]
    columns = list(zip(headings, *given, strict=True))
    return "\n".join("  ".join(line).rstrip() for line in zip(*map(_column, columns), strict=True))


def _column(column: Sequence[object]) -> list[str]:
    """Return heading, rule and cells of one column, all of one width."""
    heading, *values = column
    cells = ["-" if value is None else str(value) for value in values]
    width = max(len(text) for text in (str(heading), *cells))
    to_right = bool(values) and all(value is None or isinstance(value, int) for value in values)
    align = str.rjust if to_right else str.ljust
    return [align(str(heading), width), "-" * width, *(align(cell, width) for cell in cells)]
