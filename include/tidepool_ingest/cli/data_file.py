"""A data file named on the command line: no manifest speaks of it, so errors about it must not either."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tidepool_ingest.cli.errors import CommandError
from tidepool_ingest.staging.errors import BatchError

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
