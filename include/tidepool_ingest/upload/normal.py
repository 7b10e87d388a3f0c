"""Upload a normal batch into a data set of its own, once: open, send, close, verify.

Each step is recorded in the ledger before it is taken, and its outcome after. After a crash or a lost
response, the next attempt therefore knows which step is in doubt, and how to resolve it:

* a creation in doubt left at most an empty set that no route can find: a new one is opened;
* a chunk in doubt is removed and sent again (:mod:`.sending`);
* a close in doubt is requested again (:mod:`.closing`);
* where none of this is safe, the whole set is deleted, and another one is opened.

Tidepool chooses the id of a data set. Where the connection asks for chosen ids, ours is recorded before the
request and sent with it: what became of a creation in doubt can then be looked up. Tidepool's documentation
forbids an id in the body; its servers accept one.

A lease holder that stalled past the end of its lease can no longer write to the ledger.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from hashlib import blake2b

from tidepool_ingest.client import TidepoolError, TidepoolNotFoundError, TidepoolUnreachableError
from tidepool_ingest.deep_json import loads
from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.guards import (
    HeldError,
    Mark,
    ReplacesLosesDaysError,
    SupersededBatchError,
    WithdrawnError,
    check_days_kept,
    with_mark,
)
from tidepool_ingest.ledger import (
    DEAD_STATES,
    BatchRow,
    BatchState,
    DataSetRow,
    DataSetState,
    FeedRow,
    Lease,
    lease_of_batch,
)
from tidepool_ingest.ledger.database import NewerFirstError
from tidepool_ingest.model.deduplicators import NORMAL
from tidepool_ingest.model.gotime import parse_instant
from tidepool_ingest.staging.work_area import Chunk, PreparedBatch
from tidepool_ingest.texts import counted
from tidepool_ingest.upload.adoption import adopt, compare_found, record_earlier
from tidepool_ingest.upload.attempt import UploadAttempt, begun
from tidepool_ingest.upload.closing import (
    check_beside_others,
    close_and_verify,
    is_clear_of_others,
    verify_again,
)
from tidepool_ingest.upload.context import LeasedBatch, UploadContext, UploadSummary, data_set_body
from tidepool_ingest.upload.deleting import delete_data_set, delete_replaced
from tidepool_ingest.upload.discovery import Choice, Listing, choose, listing_of
from tidepool_ingest.upload.feeds.resolver import Feed, check_data_set_type, known_feed, reserve_for_normal
from tidepool_ingest.upload.read_back import Comparison, VerificationError
from tidepool_ingest.upload.record_ids import ID_BYTES
from tidepool_ingest.upload.rejections import TooManyRejectedByTidepoolError
from tidepool_ingest.upload.sending import SERVER_FAILURE, Sending, StartOverError, begin_chunks

log = logging.getLogger(__name__)

DATA_SETS_PER_ATTEMPT = 2
"""How many data sets one attempt may open: the first, and one more if the first had to be discarded.

One that was discarded while a record is being isolated does not count.
"""

PREPARE_SECONDS = 30.0
"""After this it is looked again whether a newer batch is prepared, so that it can be adopted."""


def upload_normal(
    context: UploadContext, batch: BatchRow, *leases: Lease, plan: PreparedBatch | None = None
) -> UploadSummary:
    """Upload one batch, or one part of a batch, until it is verified; resume what an earlier attempt began.

    :param leases: have to last as long as its own: for a part, that of the whole batch.
    :param plan: its chunk plan, if it was just read.
    :raises LeaseHeldError: if another task is working on it.
    :raises HeldError: if a newer batch of the device was verified meanwhile; no data set is left open.
    :raises VerificationError: if what is visible still differs from what was sent.
    :raises UploadStoppedError: if it was told to stop.
    """
    prepared = plan or context.prepared(batch)
    check_data_set_type(data_set_body(prepared.data_set, context.settings)["dataSetType"], NORMAL)

    def attempt(lease: Lease) -> NormalAttempt:
        return NormalAttempt(LeasedBatch.of(context, batch, prepared, lease, *leases))

    with begun(context, lease_of_batch(batch.id), attempt) as upload:
        return upload.run()


def adopt_batch(context: UploadContext, batch: BatchRow) -> int:
    """Adopt what Tidepool has of a prepared batch, part by part if it is split; upload nothing.

    :param batch: no data set of it, or of a part of it, is in the ledger. It is verified from then on if all
        of it is there.
    :return: how many data sets were found.
    :raises FoundDiffersError: what Tidepool has differs; the batch is held.
    """
    parts = context.ledger.parts.of_batch(batch.id)
    if not parts:
        return int(adopt_normal(context, batch) is not None)
    with context.hold(lease_of_batch(batch.id)) as lease:
        found = sum(adopt_normal(context, part, lease) is not None for part in parts)
        if found == len(parts) and batch.replaces is None:
            context.ledger.parts.sum_up(batch.id, lease=lease)
        elif found:
            # Its own upload sends the others, and deletes what the batch replaces.
            context.ledger.batches.begin_upload(batch.id, lease=lease)
    return found


def adopt_normal(context: UploadContext, batch: BatchRow, *leases: Lease) -> UploadSummary | None:
    """Adopt what Tidepool has of a batch, or of one part of it; upload nothing.

    :param batch: no data set of it is in the ledger.
    :param leases: have to last as long as its own: for a part, that of the whole batch.
    :return: ``None`` if Tidepool has nothing of it.
    :raises FoundDiffersError: what Tidepool has differs; the batch is held.
    """
    prepared = context.prepared(batch)
    with context.hold(lease_of_batch(batch.id)) as lease:
        return NormalAttempt(LeasedBatch.of(context, batch, prepared, lease, *leases)).adopt()


class NormalAttempt(UploadAttempt):
    """Uploads a batch into a normal data set, and into another one if the first has to be discarded."""

    def __init__(self, leased: LeasedBatch) -> None:
        super().__init__(leased)
        self._feed = Feed(leased.batch.api_host, leased.batch.user_id, leased.body)
        self._reserved: FeedRow | None = None
        self._begun_chunks: Sequence[Chunk] = ()
        self._is_recorded = False
        self._is_clear = False
        self._listed_at: float | None = None

    def begin(self) -> None:
        """Do so, and look for others that use its program's name, or that it has to be compared with.

        :raises SplitBatchError: it is uploaded part by part.
        """
        leased = self._leased
        if leased.batch.part_of is None and leased.ledger.parts.of_batch(leased.batch.id):
            raise SplitBatchError
        super().begin()
        self._reserved = known_feed(leased.ledger, self._feed)
        self._is_clear = leased.batch.part_of is None and is_clear_of_others(leased)

    def _until_verified(self) -> UploadSummary:
        leased = self._leased
        reserve_for_normal(leased.context, self._feed, leased.requests, self._reserved)
        comparison: Comparison | None = None
        remaining = DATA_SETS_PER_ATTEMPT
        while remaining:
            rounds = self._isolation.rounds
            resumed = self._resume()
            data_set = resumed or self._begin()
            if isinstance(data_set, UploadSummary):
                return data_set
            try:
                comparison = self._send_and_close(data_set)
                if resumed is not None and not comparison.is_exact:
                    comparison = self._compare_beside(data_set) or comparison
            except _NothingRemainingError:
                self._discard(data_set)
                return self._nothing_remaining(str(data_set.data_set_id))
            except (HeldError, SupersededBatchError, WithdrawnError):
                self._discard(data_set)
                raise
            except StartOverError as reason:
                log.info("Deleting data set %s, to start over: %s.", data_set.data_set_id, reason)
            else:
                if comparison.is_exact and self._delete_replaced():
                    comparison = verify_again(leased, data_set, self._rejected.ordinals)
                if comparison.is_exact:
                    return self._verified(data_set, comparison)
                difference = VerificationError(comparison).what
                log.info("Deleting data set %s, to start over: %s", data_set.data_set_id, difference)
            self._discard(data_set)
            remaining -= self._isolation.rounds == rounds
        raise VerificationError(comparison or Comparison(self._expected_rows, 0))

    @property
    def _expected_rows(self) -> int:
        return self._leased.prepared.expected_rows - self._rejected.rows

    def _resume(self) -> DataSetRow | None:
        """Return the data set that an earlier attempt opened, if it can still be used."""
        latest = self._latest()
        if latest is None or latest.state in (DataSetState.VERIFIED, *DEAD_STATES):
            return None
        if latest.state is DataSetState.OPENING:
            resolve_creation(self._leased, latest)
            self._known = None
            return self._resume()
        if latest.state is DataSetState.DELETING:
            self._discard(latest)
            return None
        context = self._leased.context
        context.ledger.data_sets.set_origin(latest.id, context.origin, lease=self._leased.lease)
        context.on_open(str(latest.data_set_id))
        log.info("Resuming data set %s, which is %s.", latest.data_set_id, latest.state)
        return latest

    def _compare_beside(self, data_set: DataSetRow) -> Comparison | None:
        """Compare a resumed data set again, beside all that Tidepool lists: a restored ledger knows less.

        :return: ``None`` if Tidepool does not list it.
        """
        listing = listing_of(self._leased)
        marked = next((one for one in listing.of_part if one.id == data_set.data_set_id), None)
        return None if marked is None else compare_found(self._leased, marked, self._rejected.ordinals)

    def adopt(self) -> UploadSummary | None:
        """Adopt what Tidepool has; return ``None`` if that is nothing."""
        with self._failure_recorded():
            choice = choose(self._leased, listing_of(self._leased), self._rows())
            return None if choice.found is None else self._adopted(choice)

    def _begin(self) -> DataSetRow | UploadSummary:
        """Open a data set; return the outcome if there is no need to."""
        self._rejected.check()
        if self._rejected.is_all:
            return self._nothing_remaining("")
        self._check_days_kept()
        listing = listing_of(self._leased)
        choice = choose(self._leased, listing, self._rows())
        if choice.found is not None:
            return self._adopted(choice)
        self._listed_at = listing.asked_at
        if self._adopt_newer(listing) or not self._is_clear:
            check_beside_others(self._leased)
        record_earlier(self._leased, choice.earlier, self._expected_rows)
        return self._open(choice.generation)

    def _adopt_newer(self, listing: Listing) -> bool:
        """Adopt what Tidepool has of newer batches of the device, of which a lost ledger knew.

        Only then does the ledger know which values an older one may not hide.

        :return: whether there may be any.
        :raises NewerFirstError: one of them is still to be prepared, by a run that has yet to work on it.
        """
        context, ledger, batch = self._leased.context, self._leased.ledger, self._leased.batch
        others = listing.other_contents
        contents = {others[unknown] for unknown in others.keys() - ledger.data_sets.known(others)}
        if not contents:
            return False
        unknown = [
            row
            for row in ledger.devices.newer_to_be_started(batch)
            if Mark.of(row.content_key).content in contents
        ]
        unprepared = [row.id for row in unknown if row.state is BatchState.PLANNED]
        if waited_for := [turn.batch for turn in ledger.turns.of_batches(unprepared)]:
            raise NewerFirstError(lease_of_batch(waited_for[0]), PREPARE_SECONDS, waited_for)
        found_only = replace(context, options=replace(context.options, force=False), on_open=lambda _id: None)
        for row in unknown:
            if row.state is BatchState.PREPARED:
                try:
                    context.with_work_area(row, partial(adopt_batch, found_only, row))
                except IngestError as error:
                    if error.disposition is Disposition.RETRIABLE:
                        raise
                    log.info("%s is not adopted, as its own task will say: %s", row.label, error)
        return bool(unknown)

    def _adopted(self, choice: Choice) -> UploadSummary:
        """Adopt the data set that Tidepool already has."""
        leased = self._leased
        data_set, comparison = adopt(leased, choice, self._rejected, self._delete_replaced)
        leased.ledger.batches.mark_verified(leased.batch.id, lease=leased.lease)
        leased.context.on_open(str(data_set.data_set_id))
        log.info(
            "%s is verified in data set %s, which Tidepool already had.",
            leased.batch.label,
            data_set.data_set_id,
        )
        return self._summary(data_set, expected=comparison.expected, visible=comparison.visible)

    def _open(self, generation: int) -> DataSetRow:
        leased = self._leased
        self._known = None
        first = leased.prepared.chunks[: leased.context.options.at_once]
        opened = open_data_set(leased, self._expected_rows, generation, first)
        self._begun_chunks = first
        leased.context.on_open(str(opened.data_set_id))
        log.info("Opened data set %s.", opened.data_set_id)
        return opened

    def _send_and_close(self, data_set: DataSetRow) -> Comparison:
        if data_set.state is DataSetState.OPEN:
            if self._listed_at is None and self._leased.batch.part_of is not None:
                # An earlier attempt opened it: before any part is visible, it is asked again about all.
                check_beside_others(self._leased)
            try:
                sending = Sending(self._leased, data_set, self._rejected, self._isolation)
                begun, self._begun_chunks = self._begun_chunks, ()
                sending.send(self._leased.prepared.chunks, begun=begun)
            except TooManyRejectedByTidepoolError:
                self._rejected.finish()
                raise
            self._rejected.finish()
            self._rejected.check()  # an earlier attempt may have recorded too many already
            if self._rejected.is_all:
                raise _NothingRemainingError
            self._check_days_kept()
        return close_and_verify(
            self._leased, data_set, self._rejected.ordinals, self._read_back_under, self._listed_at
        )

    def _check_days_kept(self) -> None:
        """Hold a batch of which Tidepool has rejected all of a day, if the batch that it replaces has it.

        :raises ReplacesLosesDaysError: what it replaces would be lost.
        """
        leased = self._leased
        prepared, rejected = leased.prepared, self._rejected.ordinals
        is_meant = ReplacesLosesDaysError.code in prepared.meant_as
        if leased.batch.replaces is None or is_meant or not rejected:
            return
        kept = {day: dict(kinds) for day, kinds in prepared.days.items()}
        for chunk in prepared.chunks:
            last = chunk.first_record + chunk.records
            if any(chunk.first_record <= ordinal < last for ordinal in rejected):
                for ordinal, line in enumerate(leased.work.read_chunk(chunk), chunk.first_record):
                    if ordinal in rejected:
                        datum = loads(line)
                        instant = parse_instant(str(datum["time"]))
                        if instant is not None:
                            kept[instant.utc_date][str(datum["type"])] -= 1
        check_days_kept(leased.batch, leased.ledger, kept)

    def _delete_replaced(self) -> bool:
        """Delete what the batch replaces; a part leaves that to the whole batch, once that is visible."""
        leased = self._leased
        if leased.batch.part_of is not None:
            return False
        return delete_replaced(leased.context, leased.batch, leased.requests)

    def _read_back_under(self, data_set: DataSetRow, comparison: Comparison, device: Lease) -> None:
        """Record what was seen while the device is still ours, unless something is deleted after it."""
        batch = self._leased.batch
        if comparison.is_exact and (batch.replaces is None or batch.part_of is not None):
            self._record_seen(data_set, comparison, device)

    def _record_seen(self, data_set: DataSetRow, comparison: Comparison, *leases: Lease) -> None:
        self._record_verified(
            data_set,
            *leases,
            expected_rows=comparison.expected,
            visible_rows=comparison.visible,
            superseded_rows=comparison.superseded,
        )
        self._is_recorded = True

    def _verified(self, data_set: DataSetRow, comparison: Comparison) -> UploadSummary:
        leased = self._leased
        if not self._is_recorded:
            self._record_seen(data_set, comparison)
        log.info(
            "%s is verified: data set %s shows its %s, each once%s.",
            leased.batch.label,
            data_set.data_set_id,
            counted(comparison.visible, "row"),
            f", and {comparison.superseded} are superseded by a later upload"
            if comparison.superseded
            else "",
        )
        return self._summary(data_set, expected=comparison.expected, visible=comparison.visible)

    def _nothing_remaining(self, data_set_id: str) -> UploadSummary:
        """End a part of which Tidepool itself has rejected all records, within the share allowed."""
        leased = self._leased
        leased.ledger.batches.mark_nothing_accepted(leased.batch.id, lease=leased.lease)
        log.warning(
            "%s: Tidepool rejected all its records, so nothing remains. Look at the quarantine file for the "
            "reasons.",
            leased.batch.label,
        )
        return UploadSummary(data_set_id, DataSetState.DELETED, 0, 0, repairs=leased.counts.repairs)

    def _discard(self, data_set: DataSetRow) -> None:
        leased = self._leased
        leased.counts.repairs += 1
        self._known = None
        delete_data_set(leased.context, data_set, leased.lease, leased.requests)


class SplitBatchError(Exception):
    """The batch is split into parts: it has no data set of its own."""


class _NothingRemainingError(Exception):
    """No record of a part remains: Tidepool itself has rejected them all."""


# ---------------------------------------------------------------- a data set is opened


def open_data_set(
    leased: LeasedBatch, expected_rows: int, generation: int = 0, first: Sequence[Chunk] = ()
) -> DataSetRow:
    """Open another data set for a batch, and return it.

    :param expected_rows: rows that Tidepool will hold when it is complete.
    :param generation: what its mark says; see :class:`~tidepool_ingest.guards.marks.Mark`.
    :param first: chunks that are sent to it next; the intent is recorded with its id.
    """
    context, batch, requests = leased.context, leased.batch, leased.requests
    requests.check()
    row = leased.ledger.data_sets.begin_opening(
        batch.id,
        data_set_type=NORMAL,
        deduplicator=leased.deduplicator.name,
        expected_rows=expected_rows,
        origin=context.origin,
        generation=generation,
        lease=leased.lease,
        id_of=(lambda ordinal: chosen_id(batch, ordinal)) if context.settings.chosen_ids else None,
    )
    # With an id of ours, a creation carried out late would collide with what was done about it meanwhile.
    send = requests.read if row.data_set_id is None else requests.write
    body = with_mark(leased.body, leased.mark.again(generation).members())
    if row.data_set_id is not None:
        body["id"] = row.data_set_id
    try:
        opened = send(lambda: leased.client.open_data_set(batch.user_id, body))
    except TidepoolError as error:
        if not (isinstance(error, TidepoolUnreachableError) and error.in_doubt):
            leased.ledger.data_sets.mark_not_created(row.id, lease=leased.lease)
        raise
    with leased.ledger.database.together():
        row = leased.ledger.data_sets.mark_open(row.id, opened.data_set_id, lease=leased.lease)
        begin_chunks(leased, row, first)
    return row


def resolve_creation(leased: LeasedBatch, data_set: DataSetRow) -> None:
    """Find out what became of a creation in doubt, and record it: open, not there, or to be deleted.

    :param data_set: the one that was about to be opened.
    """
    data_sets = leased.ledger.data_sets
    if data_set.data_set_id is None:
        data_sets.mark_unreachable(data_set.id, lease=leased.lease)
        return
    leased.requests.wait_out_doubt()
    try:
        usable = leased.requests.read(lambda: leased.client.is_open(str(data_set.data_set_id)))
    except TidepoolNotFoundError:
        data_sets.mark_not_created(data_set.id, lease=leased.lease)
        return
    except TidepoolUnreachableError as error:
        if error.status != SERVER_FAILURE:
            raise
        usable = False
    (data_sets.mark_open if usable else data_sets.begin_delete)(data_set.id, lease=leased.lease)


def chosen_id(batch: BatchRow, ordinal: int) -> str:
    """Return the id of a data set: the same each time, but another one in another ledger.

    :param batch: the batch.
    :param ordinal: the data set's ordinal among the batch's, from 1.
    :return: 32 hex digits.
    """
    key = (batch.api_host, batch.content_key, batch.created_at.isoformat(), str(ordinal))
    return blake2b("\n".join(key).encode(), digest_size=ID_BYTES).hexdigest()
