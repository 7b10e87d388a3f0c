"""Step one: which staged batches a run takes.

The ledger decides what is done. It does so for each API host, user and content, so that a batch that was
tried out at integration first still counts as new for production.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import islice
from typing import Any

from upath import UPath

from tidepool_ingest.errors import Disposition
from tidepool_ingest.formats import read_manifest
from tidepool_ingest.ledger import (
    BatchRow,
    BatchState,
    FoundBatch,
    KnownBatch,
    Ledger,
    LedgerTextError,
    ReadManifest,
)
from tidepool_ingest.options import RunOptions
from tidepool_ingest.privacy import short_hash
from tidepool_ingest.staged_batch import (
    ApiHostOf,
    check_digests,
    folder_of,
    label_of_unreadable,
    read_batch,
    unreadable_key,
)
from tidepool_ingest.staging.batches import (
    BatchFolder,
    Ignored,
    ListedBatch,
    days,
    days_with_batches,
    list_batches,
)
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.texts import counted
from tidepool_ingest.vanished import end_vanished
from tidepool_ingest.window import Window

log = logging.getLogger(__name__)

READERS = 8
"""How many manifests are read at the same time."""

FOLDERS_PER_BATCH = 500
"""Batches whose manifests are looked up, read and saved together."""


@dataclass(frozen=True)
class _Unreadable:
    """A batch that cannot be read; `prepare` raises the same error again, in the batch's own task.

    :param data_set_type: for which type of data set it is, as far as that is known.
    """

    data_set_type: str


@contextmanager
def active_readers() -> Iterator[Executor]:
    """Provide reading threads for the length of a ``with`` block; an error does not wait for the rest."""
    readers = ThreadPoolExecutor(READERS)
    try:
        yield readers
    finally:
        readers.shutdown(cancel_futures=True)


def ready_batches(
    listed: Iterable[ListedBatch],
    ledger: Ledger,
    api_host_of: ApiHostOf,
    readers: Executor,
    connection: str | None = None,
) -> Iterator[FoundBatch]:
    """Yield the batches of folders, in their order.

    :param listed: the folders, with their fingerprints.
    :param ledger: caches what was read from the manifests.
    :param api_host_of: see :data:`~tidepool_ingest.staged_batch.ApiHostOf`; called by this thread only.
    :param readers: reads the manifests of new folders.
    :param connection: what is recorded of a batch whose manifest names none.
    :raises BatchError: if the storage does not answer.
    """
    folders = iter(listed)
    while part := list(islice(folders, FOLDERS_PER_BATCH)):
        known = ledger.manifests.known({_address(folder): fingerprint for folder, fingerprint in part})
        new = [entry for entry in part if _address(entry.folder) not in known]
        outcomes = list(readers.map(_reading_with(ledger), new))
        read = {
            _address(entry.folder): outcome
            for entry, outcome in zip(new, outcomes, strict=True)
            if isinstance(outcome, ReadManifest)
        }
        ledger.manifests.save({address: outcome for address, outcome in read.items() if outcome.fingerprint})
        unreadable = {
            _address(entry.folder): outcome
            for entry, outcome in zip(new, outcomes, strict=True)
            if isinstance(outcome, _Unreadable)
        }
        for folder, _fingerprint in part:
            address = _address(folder)
            found = _found(folder, unreadable.get(address) or (known | read)[address], api_host_of)
            yield found if found.connection else replace(found, connection=connection)


def _address(folder: BatchFolder) -> str:
    return str(folder.path)


def _reading_with(ledger: Ledger) -> Callable[[ListedBatch], ReadManifest | _Unreadable]:
    def read(listed: ListedBatch) -> ReadManifest | _Unreadable:
        try:
            batch = read_batch(listed.folder, ledger.file_digests)
        except (BatchError, LedgerTextError) as error:
            if error.disposition is Disposition.RETRIABLE:
                raise
            return _Unreadable(_type_of(listed.folder))
        return ReadManifest(
            fingerprint=listed.fingerprint,
            user_id=listed.folder.user_id,
            content_key=batch.content_key,
            label=batch.label,
            connection=batch.manifest.connection,
            device_id=batch.manifest.device_id,
            data_set_type=batch.manifest.data_set_type,
            staged_at=batch.manifest.staged_at,
        )

    return read


def _type_of(folder: BatchFolder) -> str:
    try:
        return read_manifest(folder.path, folder.user_id).data_set_type
    except BatchError:
        return "normal"


def _found(folder: BatchFolder, read: ReadManifest | _Unreadable, api_host_of: ApiHostOf) -> FoundBatch:
    place: dict[str, Any] = {"user_id": folder.user_id, "batch_id": folder.batch_id, "day": folder.day}
    if isinstance(read, ReadManifest):
        try:
            return FoundBatch(
                api_host=api_host_of(read.connection),
                content_key=read.content_key,
                label=read.label,
                connection=read.connection,
                device_id=read.device_id,
                data_set_type=read.data_set_type,
                staged_at=read.staged_at,
                folder=_address(folder),
                **place,
            )
        except BatchError as error:
            if error.disposition is Disposition.RETRIABLE:
                raise
    return FoundBatch(
        api_host=api_host_of(None),
        content_key=unreadable_key(folder),
        label=read.label if isinstance(read, ReadManifest) else label_of_unreadable(folder),
        data_set_type=read.data_set_type,
        folder=_address(folder),
        **place,
    )


MAX_BATCHES_A_RUN = 20_000
"""Most batches that one run takes, so that what it keeps in memory and XCom stays small."""

Identity = tuple[str, str]
"""API host and content key, which identify a batch in the ledger."""

RESTAGED = (BatchState.OVERWRITTEN, BatchState.GONE)
"""States of a batch that was not in staging any more when it was planned last."""

DAYS_NAMED = 14
"""How many day folders outside the window a summary names; it only counts the others."""


@dataclass
class Plan:
    """What a run will do, in numbers only.

    :param window: the days it looked into.
    :param rows: the batches that it takes, as the ledger has them, oldest first.
    :param done: ready batches that need no more work.
    :param declined: ready batches that a person has declined; only a run that names them takes them.
    :param dismissed: ready batches that a person has dismissed; only a run that names them takes them.
    :param older_than_uploaded: those of them for whose device a batch of a later day is verified.
    :param same_content: ready batches with the same content as another ready batch.
    :param other_type: ready batches for the other type of data set, which another DAG takes.
    :param deferred: ready batches beyond what one run can take.
    :param named: how many batches the run names, and takes alone; 0 if it takes those of its days.
    :param named_not_found: how many of them are not where the ledger knows them to be staged.
    :param users_not_found: how many of the people that the run is for have no ready batch in its days.
    :param ignored: entries of the window's folders that are not ready batches, by reason.
    :param days_outside: day folders outside the window whose ready batches wait for a run.
    """

    window: Window
    rows: list[BatchRow] = field(default_factory=list, repr=False)
    done: int = 0
    declined: int = 0
    dismissed: int = 0
    older_than_uploaded: int = 0
    same_content: int = 0
    other_type: int = 0
    deferred: int = 0
    named: int = 0
    named_not_found: int = 0
    users_not_found: int = 0
    ignored: dict[str, int] = field(default_factory=dict)
    days_outside: list[str] = field(default_factory=list)

    @property
    def batches(self) -> list[int]:
        """The ledger's numbers of the batches that it takes."""
        return [row.id for row in self.rows]

    def sentence(self) -> str:
        """Return the plan for a log: what the run takes, and what it leaves where it is, and why."""
        left = {
            f"{counted(self.done, 'batch')} done already": self.done,
            f"{counted(self.declined, 'batch')} that somebody has declined": self.declined,
            f"{counted(self.dismissed, 'batch')} that somebody has dismissed": self.dismissed,
            f"{counted(self.same_content, 'batch')} with the same content as another one": self.same_content,
            f"{counted(self.other_type, 'batch')} for the DAG of the other type of data set": self.other_type,
            f"{counted(self.deferred, 'batch')} for the next run": self.deferred,
            **{
                f"{counted(number, 'folder or file')} ({reason})": number
                for reason, number in sorted(self.ignored.items())
            },
        }
        if self.named:
            where = f"Of the {counted(self.named, 'upload')} that it names"
            left[f"{self.named_not_found} not staged where they were"] = self.named_not_found
        else:
            where = f"In the day folders of {self.window}"
        said = ", ".join(what for what, number in left.items() if number)
        taken = counted(len(self.rows), "batch") if self.rows else "no batch"
        return f"{where}, this run takes {taken}" + (f"; it leaves {said}." if said else ".")

    def users_remark(self, options: RunOptions) -> str:
        """Return what is to be said of people of the run who have no ready batch; empty if all have one."""
        if not self.users_not_found:
            return ""
        return (
            f"{self.users_not_found} of the {len(set(options.users))} people that `users` names have no "
            f"ready batch in {self.window}: check the ids or short hashes, and the days."
        )

    def named_remark(self) -> str:
        """Return what is to be said of uploads that the run names and that were not found; empty if none."""
        if not self.named_not_found:
            return ""
        return (
            f"{self.named_not_found} of the {self.named} uploads that `batches` names are not staged where "
            "they were: a run of the day that they are in now takes them."
        )

    def older_remark(self, options: RunOptions) -> str:
        """Return what is to be said of batches older than what is verified; empty if the run allows them."""
        if not self.older_than_uploaded or options.allow_older:
            return ""
        is_one = self.older_than_uploaded == 1
        these = "1 of these batches was" if is_one else f"{self.older_than_uploaded} of these batches were"
        return (
            f"{these} staged before others of their device that are verified already. Those whose values "
            "would take the place of different ones are held; the parameter `allow_older` lets them win."
        )

    def outside_remark(self) -> tuple[str, str]:
        """Return that ready batches wait outside the window, without a full stop; and the days, in a list."""
        days = ", ".join(self.days_outside[:DAYS_NAMED]) + (", …" if self.days_outside[DAYS_NAMED:] else "")
        number = counted(len(self.days_outside), "day folder")
        return f"Ready batches wait outside {self.window}, in {number}", days

    def summary(self) -> dict[str, Any]:
        """Return the plan's numbers for XCom."""
        return {
            "window": str(self.window),
            "batches": len(self.rows),
            "done": self.done,
            "rejected": self.declined,
            "dismissed": self.dismissed,
            "older_than_uploaded": self.older_than_uploaded,
            "same_content": self.same_content,
            "other_type": self.other_type,
            "left_for_next_run": self.deferred,
            "named": self.named,
            "named_not_found": self.named_not_found,
            "users_not_found": self.users_not_found,
            "ignored": self.ignored,
            "days_outside": self.days_outside[:DAYS_NAMED],
            "number_of_days_outside": len(self.days_outside),
        }


def plan_run(
    root: UPath,
    window: Window,
    *,
    ledger: Ledger,
    options: RunOptions,
    api_host_of: ApiHostOf,
    data_set_type: str | None = "normal",
    connection: str | None = None,
    only: BatchFolder | None = None,
) -> Plan:
    """Find the ready batches of a window that are not done, and register them in the ledger.

    A batch that cannot be read is taken as well, so that its own task fails and names the cause
    while every other batch goes on.

    :param root: the folder that contains the day folders.
    :param window: the days to look into.
    :param ledger: knows what is done.
    :param options: the run's parameters.
    :param api_host_of: see :data:`~tidepool_ingest.staged_batch.ApiHostOf`.
    :param data_set_type: ``normal`` or ``continuous``: which batches the run is for; ``None`` for both.
    :param connection: the run's own, if it is not the deployment's: it is recorded of batches whose manifest
        names none, for the maintenance and the actions of the uploads page.
    :param only: the only batch that it looks at, if it is for one; whatever a person has decided about it.
    :raises BatchError: ``staging-root-missing``, or if the storage does not answer.
    """
    plan = Plan(window)
    ignored = Ignored()
    users = set(options.users)
    found_users: set[str] = set()
    named = _Named(root, options.batches, ledger) if options.batches else None
    if named is not None:
        wanted: Iterable[ListedBatch] = named.listed()
    else:
        folders = list_batches(root, window.first_day, window.last_day, ignored)
        if only is not None:
            folders = (listed for listed in folders if listed.folder == only)
        wanted = (folder for folder in folders if not users or _wanted(folder.folder, users, found_users))
    with active_readers() as readers:
        found = list(ready_batches(wanted, ledger, api_host_of, readers, connection))
        known = _known(found, ledger)
        distinguished = list(_distinguished(root, found, known, ledger, readers))
    # In the order in which the batches of a device go up; as listed where none says when it was staged.
    distinguished.sort(key=lambda batch: batch.order_key[:2])
    if named is not None:
        distinguished = [batch for batch in distinguished if named.takes(batch, known.get(_identity(batch)))]
    numbers = named.numbers if named is not None else frozenset()
    if only is not None:
        numbers = frozenset(row.id for row in known.values())
    to_register, left_alone = _sorted_out(plan, distinguished, known, options, data_set_type, numbers)
    plan.rows = ledger.batches.register_all(to_register)
    # No run takes them, but the ledger has to know where they are.
    ledger.batches.register_all(left_alone)
    end_vanished(root, distinguished, known, ledger)
    plan.older_than_uploaded = _older_than_uploaded(to_register, ledger)
    if named is not None:
        plan.named, plan.named_not_found = len(named), named.not_found
        return plan
    plan.users_not_found = len(users - found_users)
    plan.ignored = dict(ignored.counts)
    plan.days_outside = [str(day) for day in _days_outside(root, window, ledger)]
    return plan


def _sorted_out(
    plan: Plan,
    found: Sequence[FoundBatch],
    known: Mapping[Identity, KnownBatch],
    options: RunOptions,
    data_set_type: str | None,
    named: frozenset[int],
) -> tuple[list[FoundBatch], list[FoundBatch]]:
    """Return the batches that a run takes, and those that a person has decided about and that have moved.

    :param plan: where the others are counted.
    :param named: numbers of the batches that the run names.
    """
    taken: set[Identity] = set()
    to_register: list[FoundBatch] = []
    left_alone: list[FoundBatch] = []
    for batch in found:
        identity = _identity(batch)
        row = known.get(identity)
        if data_set_type not in (None, batch.data_set_type):
            plan.other_type += 1
        elif row is not None and _is_done(row.state, options):
            plan.done += 1
        elif row is not None and row.is_decided and row.id not in named:
            plan.declined += row.dismissed is None
            plan.dismissed += row.dismissed is not None
            if identity not in taken and (row.folder != batch.folder or row.state in RESTAGED):
                left_alone.append(batch)
            taken.add(identity)
        elif identity in taken:
            plan.same_content += 1
        elif len(to_register) >= MAX_BATCHES_A_RUN:
            plan.deferred += 1
        else:
            taken.add(identity)
            to_register.append(batch)
    return to_register, left_alone


class _Named:
    """The batches that a run names: what stands in their folders now is taken, and nothing else.

    :param root: the staging root.
    :param numbers: their numbers in the ledger; of a part, its whole batch is meant.
    :param ledger: knows where they were staged.
    """

    def __init__(self, root: UPath, numbers: Sequence[int], ledger: Ledger) -> None:
        self._root = root
        known = ledger.batches.get_all(sorted(set(numbers)))
        self._unknown = len(set(numbers)) - len(known)
        self.numbers = frozenset(row.part_of or row.id for row in known)
        self._rows = ledger.batches.get_all(sorted(self.numbers))
        self._folders = {row.folder for row in self._rows}
        self._seen: set[tuple[date, str, str]] = set()

    def __len__(self) -> int:
        return len(self._rows) + self._unknown

    @property
    def not_found(self) -> int:
        """How many have no ready batch in their folder, once it was listed."""
        return self._unknown + sum(_place(row) not in self._seen for row in self._rows)

    def listed(self) -> Iterator[ListedBatch]:
        """Yield the ready batches in their folders."""
        places = {_place(row) for row in self._rows}
        for day in sorted({row.day for row in self._rows}):
            for listed in list_batches(self._root, day, day):
                if _place(listed.folder) in places:
                    self._seen.add(_place(listed.folder))
                    yield listed

    def takes(self, batch: FoundBatch, row: KnownBatch | None) -> bool:
        """Return whether a batch is one of them, or stands in the folder of one.

        :param batch: as it is in staging.
        :param row: what the ledger knows of its content.
        """
        return batch.folder in self._folders or any(
            row is not None and row.id == one.id for one in self._rows
        )


def _place(of: BatchRow | BatchFolder) -> tuple[date, str, str]:
    return of.day, of.user_id, of.batch_id


@dataclass(frozen=True)
class Unfinished:
    """Ready batches of one type of data set that are not done.

    :param batches: how many.
    :param days: how many day folders they lie in.
    """

    batches: int
    days: int


def unfinished(root: UPath, ledger: Ledger, api_host_of: ApiHostOf) -> dict[str, Unfinished]:
    """Return which ready batches of all days wait for a run, by type of data set; nothing is registered.

    :param root: the staging root.
    :param ledger: knows what is done.
    :param api_host_of: see :data:`~tidepool_ingest.staged_batch.ApiHostOf`.
    :raises BatchError: ``staging-root-missing``, or if the storage does not answer.
    """
    with active_readers() as readers:
        found = list(ready_batches(list_batches(root, date.min, date.max), ledger, api_host_of, readers))
    known = _known(found, ledger)
    by_type: dict[str, list[date]] = {}
    for batch in found:
        row = known.get(_identity(batch))
        if row is None or not (row.is_decided or _is_done(row.state, RunOptions())):
            by_type.setdefault(batch.data_set_type, []).append(batch.day)
    return {kind: Unfinished(len(days), len(set(days))) for kind, days in by_type.items()}


def _days_outside(root: UPath, window: Window, ledger: Ledger) -> list[date]:
    """Return the days outside a window whose ready batches wait for a run.

    Of a day that the ledger knows, it knows what waits.
    """
    known = set(ledger.batches.days())
    outside = [day for day in days(root) if day not in window]
    looked_into = days_with_batches(root, [day for day in outside if day not in known])
    waiting = known.intersection(outside) and ledger.batches.days_waiting()
    return sorted({*looked_into, *waiting.intersection(outside)})


def _is_done(state: BatchState, options: RunOptions) -> bool:
    """Return whether nothing remains to be done; a replaced batch never comes back."""
    return state.is_done and (state is BatchState.REPLACED or not options.force)


def _wanted(folder: BatchFolder, users: set[str], found_users: set[str]) -> bool:
    named = users.intersection((folder.user_id, short_hash(folder.user_id)))
    found_users |= named
    return bool(named)


def _identity(batch: FoundBatch) -> Identity:
    return batch.api_host, batch.content_key


def _known(found: list[FoundBatch], ledger: Ledger) -> dict[Identity, KnownBatch]:
    known: dict[Identity, KnownBatch] = {}
    for host in {batch.api_host for batch in found}:
        keys = [batch.content_key for batch in found if batch.api_host == host]
        known.update(((host, key), row) for key, row in ledger.batches.of_contents(host, keys).items())
    return known


def _older_than_uploaded(batches: list[FoundBatch], ledger: Ledger) -> int:
    """Count the batches for whose device a batch of a later day is verified."""
    newest: dict[tuple[str, str, str | None], date] = {}
    for host in {batch.api_host for batch in batches}:
        on_host = [batch for batch in batches if batch.api_host == host]
        verified = ledger.devices.newest_verified_days(
            host, sorted({batch.user_id for batch in on_host}), after=min(batch.day for batch in on_host)
        )
        newest.update(((host, *device), day) for device, day in verified.items())
    return sum(
        batch.device_id is not None and batch.day < newest.get(_device(batch), batch.day) for batch in batches
    )


def _device(batch: FoundBatch) -> tuple[str, str, str | None]:
    return batch.api_host, batch.user_id, batch.device_id


def _distinguished(
    root: UPath,
    found: list[FoundBatch],
    known: dict[Identity, KnownBatch],
    ledger: Ledger,
    readers: Executor,
) -> Iterator[FoundBatch]:
    """Yield the batches; one whose manifest wrongly gives it another's content key gets a key of its own."""
    folders_of: dict[Identity, set[str]] = {identity: {row.folder} for identity, row in known.items()}
    for batch in found:
        folders_of.setdefault(_identity(batch), set()).add(batch.folder)
    uncertain = {
        batch.folder: folder_of(root, batch.day, batch.user_id, batch.batch_id)
        for batch in found
        if len(folders_of[_identity(batch)]) > 1 and not _was_uploaded_from_folder(batch, known)
    }
    checked = readers.map(lambda folder: _has_stated_digests(folder, ledger), uncertain.values())
    mistaken = {address for address, is_right in zip(uncertain, checked, strict=True) if not is_right}
    for batch in found:
        if batch.folder in mistaken:
            yield replace(batch, content_key=unreadable_key(uncertain[batch.folder]))
        else:
            yield batch


def _was_uploaded_from_folder(batch: FoundBatch, known: dict[Identity, KnownBatch]) -> bool:
    row = known.get(_identity(batch))
    return row is not None and row.state.is_done and row.folder == batch.folder


def _has_stated_digests(folder: BatchFolder, ledger: Ledger) -> bool:
    try:
        check_digests(folder, ledger.file_digests)
    except BatchError as error:
        if error.disposition is Disposition.RETRIABLE:
            raise
        return False
    return True
