"""What of a staging root a path names: all of it, a day, a person's batches of a day, or one batch."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from upath import UPath

from tidepool_ingest.cli.arguments import CommandError, given_upath
from tidepool_ingest.cli.given import about
from tidepool_ingest.privacy import is_user_id
from tidepool_ingest.staging.batches import BatchFolder, Ignored, days
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest_terms import MANIFEST_NAME
from tidepool_ingest.staging.storage import local_path

_DAY_NAME: Final = re.compile(r"\d{4}-\d\d-\d\d")

_FORMS: Final = "A batch lies in <root>/<YYYY-MM-DD>/<user id>/<batch id>."


@dataclass(frozen=True)
class Where:
    """What a path names.

    :param root: the staging root.
    :param day: the day, of a day, a person or a batch.
    :param user: the person, if it names the folder of one.
    :param batch: the batch, if it names one.
    """

    root: UPath
    day: date | None = None
    user: str | None = None
    batch: BatchFolder | None = None


def where(text: str) -> Where:
    """Return what a path names: the form of its last names says which.

    :param text: a batch folder or its manifest, a person's folder of a day, a day folder or a staging root.
    :raises BatchError: ``staging-unreachable``, ``staging-root-missing`` or ``staging-unreadable``.
    :raises CommandError: it is none of them.
    """
    with about(text):
        return _where(given_upath(text))


def _where(path: UPath) -> Where:
    if path.name == MANIFEST_NAME:
        path = path.parent
    local = local_path(path)
    if local is not None:
        if local.exists() and not local.is_dir():
            raise CommandError("It is a file, and not staged.", "Stage it first: `tidepool-ingest stage`.")
        # As Airflow's side has it: in full, but links are left as they are.
        path = UPath(Path(os.path.normpath(local.absolute())))
    named = path.parts[-3:]
    if len(named) == 3 and _DAY_NAME.fullmatch(named[0]):
        try:
            folder = BatchFolder.at(path.parent.parent.parent, "/".join(named))
        except BatchError:
            raise CommandError("It is no batch folder, day folder or staging root.", _FORMS) from None
        return Where(path.parent.parent.parent, folder.day, batch=folder)
    if is_user_id(path.name) and _DAY_NAME.fullmatch(path.parent.name):
        return Where(path.parent.parent, _day(path.parent.name), user=path.name)
    if _DAY_NAME.fullmatch(path.name):
        return Where(path.parent, _day(path.name))
    ignored = Ignored()
    if not days(path, ignored) and ignored.counts:
        raise CommandError("It is no staging root: what is in it are no day folders.", _FORMS)
    return Where(path)


def _day(name: str) -> date:
    try:
        return date.fromisoformat(name)
    except ValueError:
        raise CommandError(f"{name} is no day.", "Name a day folder as YYYY-MM-DD.") from None
