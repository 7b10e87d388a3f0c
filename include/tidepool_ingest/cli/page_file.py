"""Where ``inspect --html`` writes its page: health data, which nobody else may read."""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tidepool_ingest.cli.arguments import CommandError
from tidepool_ingest.staging.local import LocalWriter, NotRegularError
from tidepool_ingest.staging.storage import PRIVATE_FILE

if TYPE_CHECKING:
    from tidepool_ingest.inspection.findings import Inspection

GENERATOR: Final = '<meta name="generator" content="tidepool-ingest inspect">'
"""By which a file is known to be such a page, which another one may replace."""

_HEAD_BYTES: Final = 512
"""Bytes at the beginning of a page within which :data:`GENERATOR` is."""


def add_page_file(command: argparse.ArgumentParser) -> None:
    """Add the option ``--html``."""
    command.add_argument(
        "--html",
        type=page_file,
        metavar="OUT",
        help="write what is found as a page for the browser and for print, too: health data, which only you "
        "may read (mode 0600)",
    )


def page_file(text: str) -> Path:
    """Parse the name of the page, which must not take another file's place.

    :param text: the name as typed.
    :raises CommandError: there is something that is no such page.
    """
    if not text or text == "-":
        raise CommandError("--html takes the name of a file.", "Name one, such as `inspection.html`.")
    path = Path(text)
    # Somebody who writes `--html DATA FILE` by mistake must not lose the data.
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise NotRegularError
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError:
        return path
    except (OSError, ValueError) as error:
        raise _not_written(error) from None
    if head and GENERATOR.encode() not in head:
        raise CommandError(
            "The file that --html names is there already and is no such page.",
            "Name another one, or remove it: only a page of this command is replaced.",
        )
    return path


def write_page(path: Path | None, inspections: Sequence[Inspection]) -> None:
    """Write the page, all of it or nothing; only its owner may read it, whatever was there before.

    :param path: where; nothing happens without it.
    :param inspections: what was found.
    :raises CommandError: it cannot be written.
    """
    if path is None:
        return
    # Loaded only here: no other way of showing what was found needs templates.
    from tidepool_ingest.inspection.page import page

    content = page(inspections).encode()
    page_file(str(path))  # for something may have come there since
    umask = os.umask(0o077)  # which may leave less than the owner's rights
    try:
        file = LocalWriter(path.absolute(), 1, PRIVATE_FILE)
        try:
            file.write(content)
            file.publish()
        except BaseException:
            with suppress(OSError):
                file.abort()
            raise
    except (OSError, ValueError) as error:
        raise _not_written(error) from None
    finally:
        os.umask(umask)


def _not_written(error: Exception) -> CommandError:
    if isinstance(error, NotRegularError | IsADirectoryError):
        return CommandError(
            "--html names a link, a folder or something else that is no file.",
            "Name a file; of a link, the one that it leads to.",
        )
    reason = (
        os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "it is no file's name"
    )
    return CommandError(f"The page cannot be written: {reason}.", "Name another file with --html.")
