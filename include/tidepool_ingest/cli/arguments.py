"""What the commands share: the types of their arguments, the common options, data files, and tables."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from tidepool_ingest.errors import IngestError
from tidepool_ingest.privacy import is_user_id
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.storage import StoragePath, as_upath, filesystem, local_path, names_storage

if TYPE_CHECKING:
    from upath import UPath

PORT_MAX = 65_535

ROOT_VARIABLE = "TIDEPOOL_STAGING_ROOT"
"""Environment variable with the staging root, the same that the DAGs read."""

LEDGER_VARIABLE = "TIDEPOOL_LEDGER"
"""Environment variable with the ledger's address."""

DEFAULT_LEDGER = "sqlite:///.local/demo/airflow/tidepool_ledger.db"
"""Where `make demo` keeps the ledger; for `make up`, another terminal gets the variable."""

_NO_LOGIN = ("s3", "gs")
"""Storages whose URLs have no ``@`` except after an Airflow connection's id."""

_AGAIN = "Get a complete copy of it from its source."

FILE_FAULTS = {
    "file-missing": ("There is no such data file", "Check the path."),
    "file-empty": ("The data file contains no records", "Check that it is the right one."),
    "file-truncated": ("The data file ends in the middle", _AGAIN),
    "file-damaged": ("The compressed data file is damaged", _AGAIN),
}
"""Errors of staging whose texts mention a manifest, by code, with texts for a file without one."""


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


# ---------------------------------------------------------------- types of arguments


def port(text: str) -> int:
    """Parse a TCP port; 0 means any free one."""
    if not text.isascii() or not text.isdigit() or int(text) > PORT_MAX:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to {PORT_MAX}")
    return int(text)


def count(text: str) -> int:
    """Parse a number of things, at least one."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("give a whole number, at least 1")
    return int(text)


def seconds(text: str) -> float:
    """Parse a duration in seconds, zero or longer."""
    try:
        duration = float(text)
    except ValueError:
        duration = math.nan
    if not math.isfinite(duration) or duration < 0:
        raise argparse.ArgumentTypeError("give a number of seconds, zero or more")
    return duration


def day(text: str) -> date:
    """Parse a day."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("give a day as YYYY-MM-DD") from None


def user(text: str) -> str:
    """Parse a Tidepool user id; the error does not repeat the text, since it may be a mistyped id."""
    if not is_user_id(text):
        raise argparse.ArgumentTypeError("a Tidepool user id has ten hex digits, or is a UUID")
    return text


def given_upath(text: str) -> UPath:
    """Parse a path, or the URL of a storage that an installed package supports.

    :raises BatchError: ``staging-unreachable``.
    """
    path = as_upath(given_path(text))
    filesystem(path)
    return path


def given_path(text: str) -> StoragePath:
    """Parse the same: one on a local disk is a plain path, which takes no library of other storages.

    :raises BatchError: ``staging-unreachable``.
    """
    scheme, _, rest = text.partition("://")
    if scheme in _NO_LOGIN and "@" in rest.partition("/")[0]:
        raise BatchError(
            "staging-unreachable",
            detail="it names an Airflow connection, which is unknown here: leave out `<connection>@`, and "
            "set the storage's own environment variables",
        )
    try:
        if not text or ("://" in text and not names_storage(text)):
            raise ValueError
        full = at_home(text)
        path = as_upath(full) if ":" in full else Path(full)
    except ValueError:
        raise BatchError("staging-unreachable") from None
    if ":" in full:
        filesystem(path)
    return path


def at_home(text: str) -> str:
    """Return a path below a home folder in full, as the settings of Airflow's side are read.

    :raises ValueError: there is no such person, and no such file either.
    """
    if not text.startswith("~"):
        return text
    try:
        return str(Path(text).expanduser())
    except RuntimeError:
        if Path(text).exists():
            return text
    raise ValueError


# ---------------------------------------------------------------- staging and data files


def given_folder(folder: StoragePath) -> StoragePath:
    """Return a batch folder that lies outside staging, where its path may lead through links."""
    local = local_path(folder)
    return folder if local is None else local.resolve()


def add_root(command: argparse.ArgumentParser) -> None:
    """Add the option for the staging root; it is required if the environment variable is not set."""
    root = os.environ.get(ROOT_VARIABLE, "").strip() or None
    command.add_argument(
        "--root",
        default=root,
        required=root is None,
        help=f"staging root, a path or fsspec URL (default: ${ROOT_VARIABLE})",
    )


def add_ledger(
    command: argparse._ActionsContainer,
    *,
    default: str | None = DEFAULT_LEDGER,
    otherwise: str = "no ledger is asked",
) -> None:
    """Add the option for the ledger's address.

    :param command: the command, or a group of its options.
    :param default: the address where neither the option nor the variable says it, if there is one.
    :param otherwise: what happens where there is none.
    """
    command.add_argument(
        "--ledger",
        metavar="URL",
        default=os.environ.get(LEDGER_VARIABLE, "").strip() or default,
        help="the ledger's database, sqlite:///file or postgresql://user@host/name; keep a password in the "
        f"environment instead (default: ${LEDGER_VARIABLE}, or {default or otherwise})",
    )


@contextmanager
def reading_data_file() -> Iterator[None]:
    """Report errors of a data file in words that fit a file without a manifest."""
    try:
        yield
    except BatchError as error:
        if error.code not in FILE_FAULTS:
            raise
        what, remedy = FILE_FAULTS[error.code]
        raise CommandError(f"{what} [{error.code}].", remedy, error.code) from None


# ---------------------------------------------------------------- tables


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows under headings, numbers aligned to the right, ``None`` as a dash.

    :param headings: one per column.
    :param rows: each with as many cells.
    """
    cells = [tuple(row) for row in rows]
    columns = list(zip(headings, *cells, strict=True))
    return "\n".join("  ".join(line).rstrip() for line in zip(*map(_column, columns), strict=True))


def _column(column: Sequence[object]) -> list[str]:
    """Return heading, rule and cells of a column, all of one width."""
    heading, *values = column
    cells = ["-" if value is None else str(value) for value in values]
    width = max(len(text) for text in (str(heading), *cells))
    to_right = bool(values) and all(value is None or isinstance(value, int) for value in values)
    align = str.rjust if to_right else str.ljust
    return [align(str(heading), width), "-" * width, *(align(cell, width) for cell in cells)]
