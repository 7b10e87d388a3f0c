"""Erase a person's data from the ledger, staging and work areas, and report what Tidepool still has.

Storage goes first and the ledger last, one batch after the other: if it is interrupted, the ledger still
names what remains, and running it again finishes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from upath import UPath

from tidepool_ingest.errors import Disposition, IngestError, as_sentence
from tidepool_ingest.ledger import ActionKind, ActionStatus, BatchRow, Lease, Ledger, lease_of_batch
from tidepool_ingest.ledger.retention import Person, RemainingDataSet
from tidepool_ingest.privacy import short_hash
from tidepool_ingest.staging.batches import Ignored, days
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.storage import IN_BATCH, exists, reading, remove_folder, walked
from tidepool_ingest.staging.work_area import WorkArea
from tidepool_ingest.upload.closing import device_lease_name

LEASE_SECONDS = 300.0
"""How long a lease lasts if this process dies or stalls."""

STEP_SECONDS = 120.0
"""How long one step may take: a folder, or a batch's rows."""


class UploadInProgressError(IngestError):
    """Data of the person are being uploaded.

    :param leases: how many leases are held.
    :param seconds: when the last one expires, unless its holder renews it.
    """

    disposition: Disposition = Disposition.RETRIABLE
    code = "upload-at-work"
    sentence = "tasks are at work on data of this person"
    remedy = "Pause the DAGs and wait until their tasks have ended; the lease of a dead one ends by itself."

    def __init__(self, leases: int, seconds: float) -> None:
        super().__init__(
            as_sentence(f"{self.sentence} ({leases} leases are held)") + " Nothing was removed.",
            remedy="Pause the DAGs and wait until their tasks have ended; the lease of a dead one ends "
            f"within {seconds:.0f} s.",
        )


@dataclass(frozen=True)
class PersonData:
    """The data of a person.

    :param folders: the person's folders in staging, one per day.
    :param batches: batches in the ledger, each with its work area.
    :param remaining: data sets that Tidepool still has.
    """

    folders: tuple[UPath, ...]
    batches: tuple[BatchRow, ...]
    remaining: tuple[RemainingDataSet, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known of the person."""
        return not (self.folders or self.batches or self.remaining)


class PersonErasure:
    """Erases one person's data.

    :param ledger: the ledger.
    :param root: the staging root.
    :param user_id: Tidepool's id of the person.
    """

    def __init__(self, ledger: Ledger, root: UPath, user_id: str) -> None:
        self._ledger = ledger
        self._root = root
        self._user_id = user_id
        self._person = Person(ledger.database, user_id)

    def find(self) -> PersonData:
        """Return what there is, without changing anything.

        What an earlier attempt has removed from the ledger already is found in its entry in the audit log.

        :raises BatchError: ``staging-root-missing``, ``staging-unreadable``, or ``file-not-regular``: there
            may be data of the person where a link in place of a day leads to.
        """
        earlier = (
            RemainingDataSet(*data_set) for entry in self._earlier().values() for data_set in entry["left"]
        )
        remaining = dict.fromkeys([*self._person.remaining_data_sets(), *earlier])
        return PersonData(tuple(self._folders()), tuple(self._person.batches()), tuple(remaining))

    def run(self, actor: str) -> PersonData:
        """Remove everything, and return what there was.

        :param actor: who requested it, for the audit log, in which the person is a short hash.
        :raises UploadInProgressError: if a task is processing data of the person; nothing is removed then.
        :raises LeaseHeldError: if one has started meanwhile; running it again finishes.
        """
        found, earlier = self.find(), list(self._earlier())
        leases = self._lease_names(found)
        if held := self._ledger.leases.alive(leases):
            raise UploadInProgressError(len(held), max(held.values()))
        detail = {
            "user": short_hash(self._user_id),
            "folders": len(found.folders),
            "batches": len(found.batches),
            "left": [list(data_set) for data_set in found.remaining],
        }
        action = self._ledger.actions.record(actor, ActionKind.ERASE, detail=json.dumps(detail))
        with ExitStack() as stack:
            feeds = [
                stack.enter_context(self._ledger.leases.held(name, seconds=LEASE_SECONDS))
                for name in self._person.feed_leases()
            ]
            self._remove(found, feeds)
        self._person.erase_leases(leases)
        for number in (*earlier, action):
            self._ledger.actions.finish(number, ActionStatus.DONE, detail=json.dumps(detail))
        return found

    def _remove(self, found: PersonData, feeds: list[Lease]) -> None:
        self._person.erase_digests(list(self._addresses(found)))
        self._person.erase_manifests()
        for folder in found.folders:
            _ensure(feeds)
            remove_folder(folder, below_root=IN_BATCH - 2)
        for batch in found.batches:
            _ensure(feeds)
            with self._ledger.leases.held(lease_of_batch(batch.id), seconds=LEASE_SECONDS) as lease:
                WorkArea(self._root, batch.content_key).discard()
                self._person.erase_batch(batch.id, lease)
        self._person.erase_feeds()

    def _folders(self) -> Iterator[UPath]:
        ignored = Ignored()
        found = days(self._root, ignored)
        if ignored.counts["not-regular"]:
            raise BatchError("file-not-regular", detail="a day folder is a link or the like")
        for day in found:
            folder = self._root / day.isoformat() / self._user_id
            if exists(folder, IN_BATCH - 2):
                yield folder

    def _addresses(self, found: PersonData) -> Iterator[str]:
        """Yield the files' addresses, by the batches' folders in the ledger and as they are found here."""
        names: dict[str, list[str]] = {}
        for folder in found.folders:
            with reading():
                listed = walked(folder, IN_BATCH - 2, levels=1)
            for path in listed:
                batch, _, name = path.partition("/")
                names.setdefault(f"{folder.parent.name}/{batch}", []).append(name)
                yield str(folder / batch / name)
        for row in found.batches:
            yield from (f"{row.folder}/{name}" for name in names.get(f"{row.day}/{row.batch_id}", ()))

    def _lease_names(self, found: PersonData) -> list[str]:
        of_batches = {
            name for row in found.batches for name in (lease_of_batch(row.id), device_lease_name(row))
        }
        return sorted({*of_batches, *self._person.feed_leases()})

    def _earlier(self) -> dict[int, dict[str, Any]]:
        """Return what earlier attempts that did not finish have recorded, by the number of the entry."""
        entries = {
            action.id: json.loads(action.detail or "{}")
            for action in self._ledger.actions.unfinished(ActionKind.ERASE)
        }
        return {
            number: detail
            for number, detail in entries.items()
            if detail.get("user") == short_hash(self._user_id)
        }


def _ensure(leases: list[Lease]) -> None:
    for lease in leases:
        lease.ensure(STEP_SECONDS)
