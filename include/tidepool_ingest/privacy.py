"""Pseudonyms of people and devices for use outside the ledger, the staging paths and the quarantine file.

And what keeps the databases that hold their ids from other users of the machine.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

SHORT_HASH_DIGITS = 10
"""Hex digits of a short hash: enough to distinguish all users of a clinic network in a log."""

USER_ID_PATTERN = r"^(?:[0-9a-f]{10}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})$"
"""10 hex digits or a UUID (Platform: user/user.go). A short hash has the form of the former."""

_USER_ID = re.compile(USER_ID_PATTERN)


def is_user_id(text: str) -> bool:
    """Return whether a text has the form of a Tidepool user id."""
    return _USER_ID.fullmatch(text) is not None


def short_hash(text: str) -> str:
    """Return the short hash that represents a user id, device id or path.

    The same text always gives the same hash, so that log lines, mapped task labels and the ledger's
    table can be matched with each other. It hides the text from a reader, not from somebody who
    already has a list of candidates.

    :param text: what must not be shown.
    :return: ``SHORT_HASH_DIGITS`` lower-case hex digits.
    """
    from hashlib import blake2b  # loaded only here: many a command shows nobody

    return blake2b(
        text.encode(errors="surrogatepass"), digest_size=SHORT_HASH_DIGITS // 2, person=b"tidepool-ingest"
    ).hexdigest()


SQLITE_FILES = ("", "-wal", "-shm")
"""Ends of the names of a SQLite database's files. SQLite makes those beside it with its mode."""

OTHERS = stat.S_IRWXG | stat.S_IRWXO
"""The rights of everybody but the owner of a file."""


def keep_private(database: Path) -> None:
    """Make a SQLite file that only its owner may read, before SQLite makes one that everybody may.

    One that is there, with the files beside it, is closed to others if it is ours.

    :param database: the file. If it cannot be made, nothing is said: SQLite says why, when it opens it.
    """
    with suppress(OSError, RuntimeError):  # Python 3.12 and older call a loop of links a RuntimeError
        # Through a link, SQLite makes the file where it leads to, and the others beside that one.
        database = database.resolve()
    with suppress(OSError):
        os.close(os.open(database, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    for end in SQLITE_FILES:
        with suppress(OSError):
            path = database.with_name(f"{database.name}{end}")
            found = path.stat()
            if found.st_uid == os.geteuid() and found.st_mode & OTHERS:
                path.chmod(stat.S_IMODE(found.st_mode) & ~OTHERS)
