"""Find out from Tidepool what was uploaded, where the ledger does not know it.

A ledger that was lost or restored from a backup, or that of a second deployment, knows nothing of a data set
that Tidepool has. Each data set of ours says by its mark (:mod:`tidepool_ingest.guards.marks`) what it was
opened for. So before one is opened for a batch, those of the device are listed; one that was opened for the
same content is adopted instead (:mod:`.adoption`). An open normal data set is not listed. Therefore they are
listed again right before the close, and once more after it: of two for one content, the one that was created
first stays, and whoever sees both deletes the other.

Uploading a content again on purpose, or undoing it, leaves a mark of a higher generation; the highest counts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import NoReturn

from tidepool_ingest.client import DataSet, TidepoolNotFoundError
from tidepool_ingest.guards import SupersededBatchError, WithdrawnError, check_doubling
from tidepool_ingest.guards.checks import of_other_devices
from tidepool_ingest.guards.marks import REPLACED, Mark
from tidepool_ingest.ledger import BatchRow, BatchState, DataSetRow, DataSetState
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.upload.context import LeasedBatch, UploadContext
from tidepool_ingest.upload.guarded_requests import GuardedRequests
from tidepool_ingest.upload.read_back import TRUNCATING
from tidepool_ingest.upload.sending import StartOverError

log = logging.getLogger(__name__)

LISTED_AT_ONCE = 1_000
"""Data sets per request: the most that the Platform allows, so that one is enough for nearly every device."""

UNKNOWN_DATA = ("found-differs", "parts-differ")
"""Reasons for which a batch stops while Tidepool may have data of it that the ledger does not know."""

CLOCKS_DIFFER = timedelta(seconds=1)
"""By how much the clocks of two of the Platform's servers may differ."""

NEVER = -1
"""Below every ``generation`` of a mark."""


@dataclass(frozen=True)
class MarkedSet:
    """A data set of ours, as Tidepool lists it.

    :param data_set: the data set.
    :param mark: its mark.
    """

    data_set: DataSet
    mark: Mark

    @property
    def id(self) -> str:
        """The id by which it is addressed."""
        return self.data_set.data_set_id

    @property
    def is_live(self) -> bool:
        """Whether it was opened for records, and shows those that nothing newer hides."""
        return not (self.data_set.deleted or self.mark.undone)

    @property
    def rank(self) -> tuple[int, datetime, str]:
        """The lowest of several for one content is the one that stays."""
        return -self.mark.generation, *creation_key(self.data_set)


def creation_key(data_set: DataSet) -> tuple[datetime, str]:
    """Return what data sets are ordered by: when they were created, then their ids."""
    return data_set.created_time or datetime.max.replace(tzinfo=UTC), data_set.data_set_id


def _is_before(moment: datetime | None, another: datetime | None) -> bool:
    """Return whether a moment was surely before another one, as the Platform's servers tell them."""
    return moment is not None and another is not None and moment + CLOCKS_DIFFER < another


@dataclass(frozen=True)
class Listing:
    """What Tidepool lists of a batch's device.

    :param mark: the mark of the batch's first upload.
    :param data_sets: closed ones, also deleted ones.
    :param asked_at: when it was asked for, by the clock of :func:`time.monotonic`.
    """

    mark: Mark
    data_sets: tuple[DataSet, ...]
    asked_at: float = field(default_factory=time.monotonic)

    @cached_property
    def marked(self) -> tuple[MarkedSet, ...]:
        """Those of ours, whatever they were opened for."""
        marks = ((data_set, Mark.found_in(data_set)) for data_set in self.data_sets)
        return tuple(MarkedSet(data_set, mark) for data_set, mark in marks if mark is not None)

    @cached_property
    def of_content(self) -> tuple[MarkedSet, ...]:
        """Those of the batch's content, of every part of it."""
        return tuple(marked for marked in self.marked if marked.mark.content == self.mark.content)

    @property
    def other_contents(self) -> dict[str, str]:
        """The contents, as marks have them, of live data sets of ours that hold another one, by id."""
        return {
            marked.id: marked.mark.content
            for marked in self.marked
            if marked.is_live and marked.mark.content != self.mark.content
        }

    @cached_property
    def live(self) -> tuple[MarkedSet, ...]:
        """Those of the content that hold records."""
        return tuple(marked for marked in self.of_content if marked.is_live)

    @cached_property
    def of_part(self) -> tuple[MarkedSet, ...]:
        """Those of them that hold the same records: the part's, or the batch's if it is not split."""
        same = [marked for marked in self.live if marked.mark.part == self.mark.part]
        return tuple(sorted(same, key=lambda marked: marked.rank))

    @cached_property
    def undone(self) -> Mark | None:
        """The newest mark which says that nothing of the content is to be shown."""
        marks = [marked.mark for marked in self.of_content if marked.mark.undone]
        return max(marks, key=lambda mark: mark.generation, default=None)

    @property
    def generation(self) -> int:
        """The highest of all marks, whatever they say."""
        return max((marked.mark.generation for marked in self.of_content), default=NEVER)

    def is_undone_after(self, generation: int) -> bool:
        """Return whether the content was undone, and not uploaded on purpose since then.

        :param generation: what the ledger knows to be the newest upload, whether it is listed or not.
        """
        newest = max((generation, *(marked.mark.generation for marked in self.live)))
        return self.undone is not None and self.undone.generation > newest

    def others_than(self, data_set: DataSet) -> dict[str, str]:
        """Return the deduplicators of the other data sets that are not deleted, by id.

        The Platform lists a data set once its close has hidden the equal rows of others, or deleted them.
        So another one that shows an equal row, or has deleted this data set, was closed later. Left out are
        those that were last changed before this one was created.
        """
        return {
            other.data_set_id: other.deduplicator
            for other in self.data_sets
            if not other.deleted and other.data_set_id != data_set.data_set_id
            if not _is_before(other.modified_time, data_set.created_time)
        }

    def truncated(self) -> Iterable[MarkedSet]:
        """Yield those of the part that a later upload of the device deleted, as its deduplicator does."""
        for marked in self.of_content:
            deleted = marked.data_set.deleted and not marked.mark.undone
            if deleted and marked.mark.part == self.mark.part:
                others = self.others_than(marked.data_set)
                if not TRUNCATING.isdisjoint(others.values()):
                    yield marked


def listing_of(leased: LeasedBatch) -> Listing:
    """Return what Tidepool lists of a batch's device, or of its program if it has no device.

    :param leased: the batch.
    """
    client_name = (leased.body.get("client") or {}).get("name")
    asked_at = time.monotonic()
    found = listed(leased.context, leased.batch, leased.requests, client_name=client_name)
    return Listing(leased.mark, found, asked_at)


def listed(
    context: UploadContext, batch: BatchRow, requests: GuardedRequests, *, client_name: str | None = None
) -> tuple[DataSet, ...]:
    """Return the closed data sets of a batch's device, deleted ones too, the newest first; all pages of them.

    :param client_name: without a device, those of this program; of every program if there is no name.
    """
    device_id = batch.device_id or None
    return tuple(
        requests.read(
            lambda: list(
                context.client.data_sets(
                    batch.user_id,
                    device_id=device_id,
                    client_name=None if device_id else client_name,
                    include_deleted=True,
                    page_size=LISTED_AT_ONCE,
                )
            )
        )
    )


# ---------------------------------------------------------------- before one is opened


@dataclass(frozen=True)
class Choice:
    """What is to be done where a data set would be opened.

    :param generation: what the mark says of the one to be opened.
    :param found: the one that is adopted instead.
    :param rivals: others for the same content, which give way to it.
    :param earlier: others from before the content was uploaded again on purpose; they stay.
    """

    generation: int
    found: MarkedSet | None = None
    rivals: tuple[MarkedSet, ...] = ()
    earlier: tuple[MarkedSet, ...] = ()


def choose(leased: LeasedBatch, listing: Listing, rows: Sequence[DataSetRow]) -> Choice:
    """Return whether to open a data set or to adopt one.

    :param leased: the batch; none of its data sets in the ledger can be resumed.
    :param listing: what Tidepool lists.
    :param rows: what the ledger has of the batch's data sets, oldest first.
    :raises DoublingError: the upload is forced, and records would show twice.
    :raises BatchError: ``parts-differ``: Tidepool has the same content split in another way.
    :raises WithdrawnError: somebody has undone its upload.
    :raises SupersededBatchError: another batch has replaced it.
    """
    latest = rows[-1] if rows else None
    reached = NEVER if latest is None else latest.generation or 0
    known = {row.data_set_id for row in rows}
    unknown = tuple(marked for marked in listing.of_part if marked.id not in known)
    undone = NEVER if listing.undone is None else listing.undone.generation
    if leased.context.options.force and _is_new_request(latest, undone=undone > reached):
        _check_doubling(leased, [marked for marked in listing.live if marked.id not in known])
        return Choice(max(reached, listing.generation) + 1, earlier=unknown)
    if listing.is_undone_after(reached):
        end_as_undone(leased, listing)
    wanted = max(reached, undone + 1)
    _check_cut(leased, [one for one in listing.live if one.id not in known and one.mark.generation >= wanted])
    candidates = [marked for marked in unknown if marked.mark.generation >= wanted] or [
        marked
        for marked in listing.truncated()
        if marked.id not in known and marked.mark.generation >= wanted
    ]
    if not candidates:
        return Choice(wanted)
    found = min(candidates, key=lambda marked: marked.rank)
    generation = found.mark.generation
    return Choice(
        generation,
        found,
        tuple(
            one
            for one in candidates
            if one is not found and one.mark.generation == generation and one.is_live
        ),
        tuple(one for one in unknown if one.mark.generation < generation),
    )


def _is_new_request(latest: DataSetRow | None, *, undone: bool) -> bool:
    """Return whether a forced upload begins here, rather than one that was begun before goes on."""
    return latest is None or latest.state is DataSetState.VERIFIED or undone


def _check_doubling(leased: LeasedBatch, unknown: Sequence[MarkedSet]) -> None:
    if unknown and not leased.context.options.allow_doubling:
        whole = leased.prepared.whole
        plan = None if whole is None else leased.work.beside(whole.content_key).load()
        warnings = (plan or leased.prepared).warnings
        check_doubling(leased.batch, leased.deduplicator, of_other_devices=of_other_devices(warnings))


def _check_cut(leased: LeasedBatch, unknown: Sequence[MarkedSet]) -> None:
    batch, whole = leased.batch, leased.prepared.whole
    cut: set[str | None] = {leased.mark.part}
    if whole is not None and batch.part_of is not None:
        parts = leased.ledger.parts.of_batch(batch.part_of)
        cut = {Mark.of(whole.content_key, part.content_key).part for part in parts}
    if any(marked.mark.part not in cut for marked in unknown):
        raise BatchError("parts-differ", batch=batch.label)


def end_as_undone(leased: LeasedBatch, listing: Listing) -> NoReturn:
    """Record that a batch was undone or replaced, as Tidepool says, and delete what is left of it.

    :raises WithdrawnError: somebody has undone its upload.
    :raises SupersededBatchError: another batch has replaced it.
    """
    batch = leased.batch
    is_replaced = listing.undone is not None and listing.undone.undone == REPLACED
    state = BatchState.REPLACED if is_replaced else BatchState.WITHDRAWN
    leased.ledger.parts.set_all(batch.part_of or batch.id, state, lease=leased.lease)
    delete_marked(leased.context, listing.live, leased.requests)
    raise (SupersededBatchError if is_replaced else WithdrawnError)(batch.label)


# ---------------------------------------------------------------- around the close


def check_still_missing(leased: LeasedBatch, data_set: DataSetRow) -> None:
    """Make sure, right before a close, that Tidepool does not have the content by now.

    What a close hides comes back when its data set is deleted, but not all of it if a newer one has hidden
    rows of that set meanwhile. So a data set that has to give way is best not closed at all.

    :param leased: the batch, under the lease on its device.
    :param data_set: its data set, open.
    :raises StartOverError: another data set for it was closed meanwhile: this one has to go.
    :raises WithdrawnError: somebody has undone the upload meanwhile.
    :raises SupersededBatchError: another batch has replaced it meanwhile.
    """
    listing = listing_of(leased)
    _check_not_undone(leased, data_set, listing)
    # One that a later upload has deleted counts too, unless it is ours: closing this one could delete that.
    truncated = {marked.id: marked for marked in listing.truncated()}
    for known in leased.ledger.data_sets.known(truncated):
        del truncated[known]
    if _rivals(data_set, (*listing.of_part, *truncated.values())):
        raise StartOverError("Tidepool has another one for the same content by now")


def settle(leased: LeasedBatch, data_set: DataSetRow) -> bool:
    """Let one of several data sets for the same content remain; return whether others had to go.

    :param leased: the batch, under the lease on its device.
    :param data_set: its data set, closed.
    :raises StartOverError: another one was there first, or was opened after an undo: this one has to go.
    :raises WithdrawnError: somebody has undone the upload meanwhile.
    :raises SupersededBatchError: another batch has replaced it meanwhile.
    """
    listing = listing_of(leased)
    _check_not_undone(leased, data_set, listing)
    rivals = _rivals(data_set, listing.of_part)
    if not rivals:
        return False
    shown = [one for one in listing.data_sets if one.data_set_id == data_set.data_set_id and not one.deleted]
    rank = -(data_set.generation or 0)
    if not shown or min(rivals, key=lambda one: one.rank).rank < (rank, *creation_key(shown[0])):
        raise StartOverError("Tidepool has another one for the same content, which was created first")
    delete_marked(leased.context, rivals, leased.requests)
    return True


def _check_not_undone(leased: LeasedBatch, data_set: DataSetRow, listing: Listing) -> None:
    generation = data_set.generation or 0
    if listing.is_undone_after(generation):
        end_as_undone(leased, listing)
    if listing.undone is not None and listing.undone.generation > generation:
        raise StartOverError("the content was undone and uploaded anew meanwhile")


def _rivals(data_set: DataSetRow, marked: Iterable[MarkedSet]) -> list[MarkedSet]:
    """Return those of some that are not this one, from the same upload on purpose or from a later one."""
    return [
        one
        for one in marked
        if one.id != data_set.data_set_id and one.mark.generation >= (data_set.generation or 0)
    ]


def successor_of(leased: LeasedBatch, data_set: DataSetRow, listing: Listing) -> MarkedSet | None:
    """Return the data set that took the place of a verified one, where the ledger does not know of it.

    :param leased: the batch.
    :param data_set: its verified data set, which does not show what it did.
    :param listing: what Tidepool lists.
    """
    known = {row.data_set_id for row in leased.ledger.data_sets.of_batch(leased.batch.id)}
    return next(
        (
            marked
            for marked in listing.of_part
            if marked.id not in known and marked.mark.generation >= (data_set.generation or 0)
        ),
        None,
    )


def delete_marked(context: UploadContext, marked: Iterable[MarkedSet], requests: GuardedRequests) -> int:
    """Delete data sets that the ledger does not know, and return how many there were.

    :param marked: the data sets; deleting one again is no error.
    :param requests: guards the requests.
    """
    number = 0
    for one in marked:
        log.info("Deleting data set %s, which another deployment or an older ledger opened.", one.id)
        requests.wait_out_doubt()
        try:
            requests.write(lambda one=one: context.client.delete_data_set(one.id))  # type: ignore[misc]
        except TidepoolNotFoundError:
            log.info("Data set %s was already gone.", one.id)
        number += 1
    return number
