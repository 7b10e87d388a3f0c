"""What holds a batch: checks before anything is sent, before a close, and before an upload is repeated.

One of them is about the order of a device's batches. Under a deduplicator that compares a device's data sets,
the one that is closed last wins, even if it is older. So a batch is not closed after a newer one that is
verified if its values would hide different values of that one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from functools import partial

from tidepool_ingest.errors import Disposition, HeldError, IngestError, meant_as, run_with
from tidepool_ingest.ledger import SUPERSEDED_STATES, BatchRow, BatchState, DataSetRow, DataSetState, Ledger
from tidepool_ingest.ledger.devices import SHOWN
from tidepool_ingest.model.deduplicators import CONTINUOUS, DEDUPLICATORS, AtClose, Deduplicator
from tidepool_ingest.model.problems import DEVICE_ID_DIFFERS
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.work_area import PreparedBatch

RETRY_SECONDS = 60.0
"""How long a batch waits before it checks again whether a newer one has finished."""

HIDEABLE = tuple(rules.name for rules in DEDUPLICATORS if rules.at_close is AtClose.ARCHIVES_EQUAL)
"""Deduplicators whose rows carry the hash by which a later close of the device hides them."""


class OlderThanUploadedError(HeldError):
    """Closing the batch would let older values win over newer ones.

    :param batch: the batch's label.
    :param newer: how many verified batches are newer.
    :param newest: staged day of the newest of them.
    """

    code = "older-than-uploaded"
    sentence = "newer batches of its device are verified, and its older values would take the place of theirs"
    remedy = "If its values are to win, run its day with `allow_older`; if not, take it out of staging."
    mends = run_with("allow_older")

    def __init__(self, batch: str, newer: int, newest: date) -> None:
        super().__init__(
            f"Batch {batch} is held: {self.sentence} ({newer} of them, the newest staged on {newest}). "
            "Nothing of it is left open."
        )
        self.particulars = f"{newer} newer, the newest staged on {newest}"
        self.batch = batch
        self.newer = newer
        self.newest = newest


class NewerAtCloseError(IngestError):
    """The close of a newer batch of the device is unfinished: whether that is visible has to be found out.

    :param batch: the batch's label.
    """

    disposition: Disposition = Disposition.RETRIABLE
    waits = True
    code = "newer-at-close"
    sentence = "the close of a newer batch of its device is not finished, and that batch may show already"
    remedy = "Nothing to do: the newer one's own retry, or the maintenance DAG, completes it."

    def __init__(self, batch: str) -> None:
        super().__init__(f"Batch {batch} waits: {self.sentence}.")
        self.retry_after = RETRY_SECONDS


def compares_days(deduplicator: Deduplicator) -> bool:
    """Return whether batches can affect each other only if they have records on the same day.

    Equal rows are on the same day; a deduplicator that deletes everything of the device ignores days.
    """
    return deduplicator.at_close is not AtClose.DELETES_ALL


Overwritten = Callable[[Mapping[int, date]], Iterable[int]]
"""Returns which of some newer batches, given with their staged days and the newest first, have values that
the close of a batch would hide behind other ones."""


def check_order(
    ledger: Ledger, batch: BatchRow, deduplicator: Deduplicator, overwritten: Overwritten = list
) -> None:
    """Hold a batch whose values would take the place of different ones of a newer batch that is verified.

    :param ledger: knows the batches of the device and the days of their records.
    :param batch: the batch, prepared.
    :param deduplicator: its data set's.
    :param overwritten: compares values; only asked where the days of records do not show that none is
        overwritten, nor the deduplicator that all are. Left out, any newer batch counts.
    :raises OlderThanUploadedError: a newer one is verified; the message has numbers and days only.
    :raises NewerAtCloseError: it is not known yet whether a newer one is visible.
    """
    if deduplicator.at_close is AtClose.NOTHING:
        return
    days = compares_days(deduplicator)
    newer = partial(ledger.devices.newer, batch, sharing_days=days, deduplicators=HIDEABLE if days else None)
    if not newer(SHOWN):
        return
    verified = newer([DataSetState.VERIFIED])
    if hidden := list(overwritten(verified) if verified and days else verified):
        raise OlderThanUploadedError(batch.label, len(hidden), max(verified[number] for number in hidden))
    if newer([DataSetState.CLOSING, DataSetState.CLOSED]):
        raise NewerAtCloseError(batch.label)


def is_in_order(ledger: Ledger, batch: BatchRow, deduplicator: Deduplicator) -> bool:
    """Return whether no newer batch of the device counts, whatever its values: the ledger alone tells.

    If not, :func:`check_order` looks closer.
    """
    try:
        check_order(ledger, batch, deduplicator)
    except (OlderThanUploadedError, NewerAtCloseError):
        return False
    return True


def of_other_devices(warnings: Mapping[str, Mapping[str, int]]) -> int:
    """Return how many accepted records are of another device than the data set.

    :param warnings: how many records got each warning, by type.
    """
    return sum(codes.get(DEVICE_ID_DIFFERS, 0) for codes in warnings.values())


class TruncateError(HeldError):
    """The batch's deduplicator deletes everything else of the device, and the run does not allow that.

    :param batch: the batch's label.
    """

    code = "truncate-not-allowed"
    sentence = (
        "its deduplicator deletes for good whatever else Tidepool has of this device, also what other "
        "programs have uploaded"
    )
    remedy = (
        "If that is meant, run its day with `allow_truncate`; if not, name another deduplicator in its "
        "manifest, or none for the usual one."
    )
    mends = run_with("allow_truncate")

    def __init__(self, batch: str) -> None:
        super().__init__(f"Batch {batch} is held: {self.sentence}. Nothing was opened.")
        self.batch = batch


class DoublingError(HeldError):
    """Uploading the batch again would show its records twice, and the run does not allow that.

    :param batch: the batch's label.
    :param records: how many of its records would be there twice; ``None`` for all of them.
    """

    code = "would-double"
    sentence = "it is verified already, and records would be there twice if it were uploaded again"
    remedy = (
        "Run without `force`. To correct it, stage a batch that names it in `replaces`; if twice is meant, "
        "add the parameter `allow_doubling`."
    )
    mends = run_with("force", "allow_doubling")

    def __init__(self, batch: str, records: int | None = None) -> None:
        which = (
            "all of them, for its deduplicator hides nothing of an older upload"
            if records is None
            else f"the {records} that are of another device than the data set"
        )
        super().__init__(f"Batch {batch} is held: {self.sentence}: {which}. Nothing was opened.")
        self.particulars = which
        self.batch = batch
        self.records = records


def check_truncate(batch: BatchRow, deduplicator: Deduplicator) -> None:
    """Hold a batch whose data set would delete everything else of its device.

    :raises TruncateError: always, under such a deduplicator.
    """
    if deduplicator.at_close is AtClose.DELETES_ALL:
        raise TruncateError(batch.label)


def check_doubling(batch: BatchRow, deduplicator: Deduplicator, *, of_other_devices: int) -> None:
    """Hold a verified batch that would be visible twice if it were uploaded again.

    :param batch: the batch, verified in a data set that stays.
    :param deduplicator: its data set's.
    :param of_other_devices: number of accepted records with another device id than the data set's, which a
        deduplicator that compares by device does not hide.
    :raises DoublingError: if records would be there twice.
    """
    if deduplicator.at_close is AtClose.NOTHING:
        raise DoublingError(batch.label)
    if deduplicator.at_close is AtClose.ARCHIVES_EQUAL and of_other_devices:
        raise DoublingError(batch.label, of_other_devices)


def replaced_by(row: BatchRow, name: str | None, ledger: Ledger) -> int | None:
    """Return the ledger's number of the batch that another one replaces.

    Only a verified batch of the same user and device, at the same API host, can be replaced: otherwise it is
    unknown what would have to be deleted.

    :param row: the replacing batch.
    :param name: the id of the batch that it names, if it names one.
    :param ledger: knows the user's batches.
    :raises BatchError: ``replaces-itself``, ``replaces-unknown``, ``replaces-other-device``,
        ``replaces-continuous``, ``replaces-ambiguous`` or ``replaces-not-verified``.
    """
    if name is None:
        return None
    if name == row.batch_id:
        raise BatchError("replaces-itself")
    named = [
        namesake
        for namesake in ledger.batches.namesakes(row.api_host, row.user_id, name)
        if namesake.state not in (BatchState.OVERWRITTEN, BatchState.GONE) and namesake.id != row.id
    ]
    if not named:
        raise BatchError("replaces-unknown")
    same_device = [batch for batch in named if batch.device_id == row.device_id]
    if not same_device:
        raise BatchError("replaces-other-device")
    same_type = [batch for batch in same_device if batch.data_set_type == row.data_set_type]
    if not same_type:
        raise BatchError("replaces-continuous")
    return _replaceable(row, same_type, ledger)


def _replaceable(row: BatchRow, named: Sequence[BatchRow], ledger: Ledger) -> int:
    """Return the one that is verified, or that this batch has already started to replace."""
    numbers = {batch.id: batch.id for batch in named}
    numbers |= {part.id: batch.id for batch in named for part in ledger.parts.of_batch(batch.id)}
    verified = {
        numbers[data_set.batch]
        for data_set in ledger.data_sets.of_batches(list(numbers))
        if data_set.state is DataSetState.VERIFIED
    }
    for batch in named:
        replaced_by_it = row.replaces == batch.id or not ledger.batches.knows_replacement_of(batch.id)
        if batch.state is BatchState.REPLACED and replaced_by_it:
            return batch.id  # Tidepool may say that it is replaced, but not by which batch
    candidates = [
        batch.id for batch in named if batch.state is not BatchState.REPLACED and batch.id in verified
    ]
    if len(candidates) > 1:
        raise BatchError("replaces-ambiguous")
    if candidates:
        return candidates[0]
    is_replaced = any(batch.state is BatchState.REPLACED for batch in named)
    raise BatchError(
        "replaces-not-verified",
        detail="another batch has replaced it already" if is_replaced else None,
    )


class RetractedFirstError(IngestError):
    """The batch that this one retracts is about to be uploaded: nothing of it can be retracted yet.

    :param batch: the batch's label.
    """

    disposition: Disposition = Disposition.RETRIABLE
    code = "retracted-first"
    sentence = "the batch that it retracts is about to be uploaded"
    remedy = (
        "Nothing to do: it is tried again. If that batch is not to be uploaded at all, remove both from "
        "staging."
    )

    def __init__(self, batch: str) -> None:
        super().__init__(f"Batch {batch} waits: {self.sentence}.")


def retracted_by(row: BatchRow, name: str | None, ledger: Ledger) -> int | None:
    """Return the ledger's number of the batch that another one of its feed retracts.

    :param row: the retracting batch.
    :param name: the id of the batch that it names, if it names one.
    :param ledger: knows the user's batches.
    :raises BatchError: ``retracts-unknown``, ``retracts-not-uploaded`` or ``retracts-ambiguous``.
    :raises RetractedFirstError: a run has prepared that batch, or is about to.
    """
    if name is None:
        return None
    named = [
        batch
        for batch in ledger.batches.namesakes(row.api_host, row.user_id, name)
        if batch.data_set_type == CONTINUOUS and batch.id != row.id
        if batch.state not in (BatchState.OVERWRITTEN, BatchState.GONE)
    ]
    if not named:
        raise BatchError("retracts-unknown")
    uploaded = {share.batch for share in ledger.data_sets.of_batches([batch.id for batch in named])}
    candidates = [batch for batch in named if batch.id in uploaded]
    if not candidates:
        if any(batch.state in (BatchState.PLANNED, BatchState.PREPARED) for batch in named):
            raise RetractedFirstError(row.label)
        raise BatchError("retracts-not-uploaded")
    if row.replaces in uploaded:
        return row.replaces
    shown = [batch for batch in candidates if batch.state is not BatchState.WITHDRAWN]
    if len(shown) > 1:
        raise BatchError("retracts-ambiguous")
    return (shown or candidates)[-1].id


class ReplacesLosesDaysError(HeldError):
    """The batch that this one replaces has records on days for which this one has none.

    :param batch: the batch's label.
    :param lost: on how many days, by type.
    :param days: how many days these are.
    :param of_days: on how many days the replaced batch has records.
    """

    code = "replaces-loses-days"
    sentence = "the batch that it replaces has records of days for which it has none of their type"
    remedy = (
        "Stage a file that covers every day of the old one. If these records are to go, say so in its "
        'manifest: `"meantAs": ["replaces-loses-days"]`. The uploads page shows the days of both batches.'
    )
    mends = meant_as("replaces-loses-days")

    def __init__(self, batch: str, lost: Mapping[str, int], days: int, of_days: int) -> None:
        named = ", ".join(f"{kind} on {number}" for kind, number in sorted(lost.items()))
        where = "its only day" if of_days == 1 else f"{days} of its {of_days} days"
        super().__init__(
            f"Batch {batch} is held: {self.sentence}, and they would be lost on {where} "
            f"({named}). Nothing of it is visible."
        )
        self.particulars = f"on {days} of its {of_days} days: {named}"
        self.batch = batch
        self.lost = dict(lost)
        self.days = days


def check_days_kept(
    batch: BatchRow, ledger: Ledger, days: Mapping[date, Mapping[str, int]] | None = None
) -> None:
    """Hold a batch that has no records of a type on a day of which the batch that it replaces has some.

    :param batch: the batch, prepared.
    :param ledger: knows the days of the accepted records of both.
    :param days: what the batch has by UTC day and type, if it is no longer what the ledger knows.
    :raises ReplacesLosesDaysError: there is one; the message has numbers only, no day of a record.
    """
    if batch.replaces is None or ledger.batches.get(batch.replaces).state is BatchState.REPLACED:
        return
    old = ledger.batch_days.of_batch(batch.replaces)
    new = ledger.batch_days.of_batch(batch.id) if days is None else days
    lost = {day: {kind for kind in kinds if not new.get(day, {}).get(kind)} for day, kinds in old.items()}
    if by_type := Counter(kind for kinds in lost.values() for kind in kinds):
        raise ReplacesLosesDaysError(batch.label, by_type, sum(map(bool, lost.values())), len(old))


class PreparedOtherwiseError(IngestError):
    """A batch was prepared again, under other rules than when it was uploaded.

    :param batch: the batch's label.
    """

    disposition: Disposition = Disposition.DATA
    code = "prepared-otherwise"
    sentence = (
        "its work area had been cleaned up, and it was prepared again by other rules than it was uploaded by"
    )
    remedy = "What Tidepool shows stays as it is. To upload the batch anew, run its day with `force`."
    mends = run_with("force")

    def __init__(self, batch: str) -> None:
        super().__init__(f"Batch {batch} cannot be compared with what Tidepool shows: {self.sentence}.")


def matches_sent_plan(prepared: PreparedBatch, data_set: DataSetRow | None, ledger: Ledger) -> bool | None:
    """Return whether a plan is the one by which a data set was sent, chunk by chunk.

    :param prepared: the plan.
    :param data_set: the newest data set of the batch.
    :param ledger: has the digest of each chunk that was sent.
    :return: ``None`` if nothing was sent.
    """
    if data_set is None:
        return None
    sent = {index: chunk.digest for index, chunk in ledger.data_sets.chunks_of(data_set.id).items()}
    return sent == {chunk.index: chunk.digest for chunk in prepared.chunks} if sent else None


class SupersededBatchError(IngestError):
    """Another batch has taken the place of this one, or nothing has.

    :param batch: the batch's label.
    """

    disposition: Disposition = Disposition.DATA
    code = "in-its-place"
    sentence = "another batch has been staged in its place"
    remedy = "Nothing to do, unless its own content is to be shown after all: then stage that as a new batch."

    def __init__(self, batch: str) -> None:
        super().__init__(f"Batch {batch} is not uploaded: {self.sentence}.")


class GoneError(SupersededBatchError):
    """The batch's folder was removed from staging before anything of it was uploaded.

    :param batch: the batch's label.
    """

    code = "gone"
    sentence = "its folder was removed from staging, and Tidepool holds nothing of it"
    remedy = "Nothing to do, unless it is to be uploaded after all: then stage it once more."


def check_not_superseded(batch: BatchRow) -> None:
    """Make sure that no other batch has taken the place of this one, and that it was not removed.

    :param batch: the batch as the ledger has it now.
    :raises SupersededBatchError: one has, or it was.
    """
    if batch.state is BatchState.GONE:
        raise GoneError(batch.label)
    if batch.state in SUPERSEDED_STATES:
        raise SupersededBatchError(batch.label)


class WithdrawnError(IngestError):
    """A person has withdrawn the batch, and the run does not say that it is to be uploaded again.

    :param batch: the batch's label.
    """

    disposition: Disposition = Disposition.DATA
    code = "withdrawn"
    sentence = "somebody has undone its upload"
    remedy = "Nothing to do, unless it is to be uploaded after all: then run its day with `force`."
    mends = run_with("force")

    def __init__(self, batch: str) -> None:
        super().__init__(f"Batch {batch} is not uploaded: {self.sentence}.")


def check_not_withdrawn(batch: BatchRow, *, force: bool) -> None:
    """Make sure that a batch is not withdrawn, unless the run uploads it again anyway.

    :param batch: the batch as the ledger has it now.
    :param force: whether the run uploads withdrawn batches again.
    :raises WithdrawnError: it is withdrawn.
    """
    if batch.state is BatchState.WITHDRAWN and not force:
        raise WithdrawnError(batch.label)
