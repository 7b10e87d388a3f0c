"""Waiting batches that end by themselves: their folder holds another one, or is not in staging any more.

Otherwise they would wait for ever: no run takes them again.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence

from upath import UPath

from tidepool_ingest.ledger import SUPERSEDED_STATES, FoundBatch, KnownBatch, Ledger, WaitingBatch
from tidepool_ingest.staged_batch import folder_of, unreadable_key
from tidepool_ingest.staging.batches import is_left, removed_folders

log = logging.getLogger(__name__)

MAX_LOOKED_FOR = 200
"""Folders of waiting batches that one plan looks for, beside those it has found; of more, some at random."""


def end_vanished(
    root: UPath,
    found: Sequence[FoundBatch],
    known: Mapping[tuple[str, str], KnownBatch],
    ledger: Ledger,
) -> None:
    """End waiting batches whose folder holds another one, or was not there for the second time.

    :param root: the staging root.
    :param found: the ready batches that a plan has found, whatever becomes of them.
    :param known: what the ledger knew of them before, by API host and content key.
    :param ledger: knows which ones wait.
    """
    in_folder: dict[str, list[FoundBatch]] = {}
    for batch in found:
        in_folder.setdefault(batch.folder, []).append(batch)
    identities = {(batch.api_host, batch.content_key) for batch in found}
    there, overwritten, unseen = [], [], []
    for row in _waiting(root, found, known, ledger):
        folder = str(folder_of(root, row.day, row.user_id, row.batch_id).path)
        if folder not in in_folder and (row.api_host, row.content_key) not in identities:
            unseen.append(row)
        elif any(_stands_for(batch, row, root) for batch in in_folder.get(folder, ())):
            overwritten.append(row)
        else:
            there.append(row)
    missed, removed = _missing_folders(root, unseen, there)
    anew: list[WaitingBatch] = []
    gone: list[WaitingBatch] = []
    for row in removed:
        (anew if _is_staged_anew(row, ledger) else gone).append(row)
    ledger.absences.mark_there(there)
    ledger.absences.mark_missed(missed)
    ended = ledger.absences.mark_overwritten([*overwritten, *anew]), ledger.absences.mark_gone(gone)
    if any(ended):
        log.info(
            "Batches that waited: %d overwritten in staging, %d gone from it. They need nothing more.", *ended
        )


def _waiting(
    root: UPath,
    found: Sequence[FoundBatch],
    known: Mapping[tuple[str, str], KnownBatch],
    ledger: Ledger,
) -> list[WaitingBatch]:
    """Return the batches that wait below a staging root, or below one that was moved to it.

    A root was moved if it is not there, and what the ledger knows from it is found here.
    """
    below = str(root).rstrip("/") + "/"
    folders = {row.folder for batch in found if (row := known.get((batch.api_host, batch.content_key)))}
    others = {folder.rsplit("/", 3)[0] for folder in folders if not folder.startswith(below)}
    moved = [address for address in sorted(others) if is_left(root, address)]
    return [row for address in (str(root), *moved) for row in ledger.absences.waiting(address)]


def _stands_for(batch: FoundBatch, row: WaitingBatch, root: UPath) -> bool:
    """Return whether a batch in the folder of a waiting one has other content, and can be read."""
    unreadable = unreadable_key(folder_of(root, row.day, row.user_id, row.batch_id))
    if unreadable in (row.content_key, batch.content_key):
        # What could not be read does not know for which host it was.
        return batch.content_key != unreadable
    return batch.api_host == row.api_host and batch.content_key != row.content_key


def _missing_folders(
    root: UPath, unseen: list[WaitingBatch], there: list[WaitingBatch]
) -> tuple[list[WaitingBatch], list[WaitingBatch]]:
    """Return those whose folder is missed for the first time, and for the second; add others to ``there``."""
    chosen = random.sample(unseen, MAX_LOOKED_FOR) if len(unseen) > MAX_LOOKED_FOR else unseen
    folders = {row.id: folder_of(root, row.day, row.user_id, row.batch_id) for row in chosen}
    removed = removed_folders(root, folders.values())
    missing = [row for row in chosen if folders[row.id] in removed]
    there += [row for row in chosen if folders[row.id] not in removed]
    return (
        [row for row in missing if row.missed_at is None],
        [row for row in missing if row.missed_at is not None],
    )


def _is_staged_anew(row: WaitingBatch, ledger: Ledger) -> bool:
    """Return whether a later batch of the user has the same batch id, in another folder."""
    return any(
        other.id > row.id and other.folder != row.folder and other.state not in SUPERSEDED_STATES
        for other in ledger.batches.namesakes(row.api_host, row.user_id, row.batch_id)
    )
