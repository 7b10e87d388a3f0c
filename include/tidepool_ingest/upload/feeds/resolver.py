"""The one continuous data set of a feed: found by its client name or opened, then pinned in the ledger.

A feed is what one program uploads for one user. Nothing at Tidepool keeps two programs, or two tasks, from
opening two data sets of one name; everything would then be there twice. So a data set is found or opened
under the feed's lease, and when a response was lost, Tidepool's list is searched before another is opened:
unlike a normal data set, a continuous one is listed at once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tidepool_ingest.client import (
    DataSet,
    TidepoolClient,
    TidepoolPermissionError,
    TidepoolUnreachableError,
)
from tidepool_ingest.errors import Disposition, Fault, IngestError, as_sentence
from tidepool_ingest.guards.marks import CONVERTERS, FORMAT, KEY, with_mark
from tidepool_ingest.ledger import FeedRow, Lease, Ledger
from tidepool_ingest.ledger.feeds import lease_of_feed
from tidepool_ingest.model.deduplicators import CONTINUOUS, NORMAL, deduplicator_named
from tidepool_ingest.upload.context import UploadContext
from tidepool_ingest.upload.discovery import creation_key
from tidepool_ingest.upload.guarded_requests import GuardedRequests

log = logging.getLogger(__name__)

MARK: Final = {"format": FORMAT, "feed": True}
"""Says that a continuous data set is one of ours; see :mod:`tidepool_ingest.guards.marks`."""


@dataclass(frozen=True)
class Feed:
    """What one program uploads for one user.

    :param api_host: host of the Tidepool API.
    :param user_id: the Tidepool user.
    :param body: the body of the request that opens its data set, filled in.
    :param converters: which converters made the records that it would be opened for, by format, and in which
        version.
    """

    api_host: str
    user_id: str = field(repr=False)
    body: Mapping[str, Any] = field(repr=False)
    converters: Mapping[str, int] = field(default_factory=dict)

    @property
    def client_name(self) -> str:
        """The program's name.

        :raises FeedError: nothing names it.
        """
        name = (self.body.get("client") or {}).get("name")
        if not isinstance(name, str):
            raise FeedError("feed-no-client-name")
        return name

    @property
    def lease_name(self) -> str:
        """Name of the lease under which the feed is written to."""
        return lease_of_feed(self.api_host, self.user_id, self.client_name)


def continuous_data_set(context: UploadContext, feed: Feed) -> str:
    """Return the id of a feed's data set: found by its client name, or opened, once for all callers.

    :param feed: the feed.
    :raises FeedError: the data set cannot be used, or it is uncertain which one it is.
    """
    with context.hold(feed.lease_name, wait=context.timeouts.close_turn) as lease:
        return FeedResolver(context, feed, lease, context.guard(lease)).data_set()[1]


class FeedResolver:
    """Finds or opens the data set of one feed, as the holder of its lease.

    :param context: what it works with.
    :param feed: the feed.
    :param lease: the lease on it.
    :param requests: guards the requests.
    """

    def __init__(self, context: UploadContext, feed: Feed, lease: Lease, requests: GuardedRequests) -> None:
        self._client = context.client
        self._ledger = context.ledger
        self._attempts = context.timeouts.attempts
        self._feed = feed
        self._lease = lease
        self._requests = requests

    def data_set(self) -> tuple[FeedRow, str]:
        """Return the feed's row in the ledger and the id of its data set, which exists and takes data.

        :raises FeedError: the data set cannot be used, or it is uncertain which one it is.
        """
        feed = self._feed
        row = self._ledger.feeds.register(feed.api_host, feed.user_id, feed.client_name, CONTINUOUS)
        if row.data_set_type != CONTINUOUS:
            raise FeedError("feed-client-name-shared")
        listed = self._list()
        if row.data_set_id is not None:
            return row, self._check_pinned(row.data_set_id, listed)
        data_set_id = self._find(listed) or self._open()
        self._ledger.feeds.pin(row.id, data_set_id, str(feed.body["deduplicator"]["name"]), lease=self._lease)
        return row, data_set_id

    def _list(self) -> list[DataSet]:
        """Return Tidepool's data sets of this client name, including deleted ones, newest first."""
        feed = self._feed
        return self._requests.read(
            lambda: list(
                self._client.data_sets(feed.user_id, client_name=feed.client_name, include_deleted=True)
            )
        )

    def _check_pinned(self, data_set_id: str, listed: Sequence[DataSet]) -> str:
        """Make sure that the data set that the ledger knows can still be used, and return its id."""
        pinned_set = next((data_set for data_set in listed if data_set.data_set_id == data_set_id), None)
        if pinned_set is None:
            raise FeedError("feed-missing", data_set_id)
        if pinned_set.deleted:
            raise FeedError("feed-deleted", data_set_id)
        self._check(pinned_set)
        if others := [
            other.data_set_id for other in listed if other.data_set_id != data_set_id and not other.deleted
        ]:
            log.warning(
                "Tidepool has more data sets of this feed's client name, opened by others: %s. This feed "
                "stays in data set %s; records that another program uploads as well are there twice. Give "
                "each program a client name of its own.",
                ", ".join(others),
                data_set_id,
            )
        return data_set_id

    def _find(self, listed: Sequence[DataSet]) -> str | None:
        """Return the one continuous data set of this client name, if there is one."""
        existing = [data_set for data_set in listed if not data_set.deleted]
        if any(data_set.data_set_type != CONTINUOUS for data_set in existing):
            raise FeedError("feed-client-name-shared")
        if not existing:
            return None
        if len(existing) > 1:
            existing = [self._first_of(existing)]
        self._check(existing[0])
        data_set_id = existing[0].data_set_id
        if not self._requests.read(lambda: self._client.is_open(data_set_id)):
            raise FeedError("feed-closed", data_set_id)
        log.info("Found continuous data set %s.", data_set_id)
        return data_set_id

    def _first_of(self, existing: Sequence[DataSet]) -> DataSet:
        """Return the data set that was created first; delete the others if they are ours and hold nothing.

        Two deployments may open one each at the same time; the second is deleted while it is still empty.

        :raises FeedError: ``feed-ambiguous`` otherwise.
        """
        first, *others = sorted(existing, key=creation_key)
        for other in others:
            if not (_is_marked(first) and _is_marked(other)) or self._shows_anything(other):
                raise FeedError("feed-ambiguous", *(data_set.data_set_id for data_set in existing))
        for other in others:
            log.info(
                "Deleting continuous data set %s: it is empty, and an older one stays.", other.data_set_id
            )
            self._delete(other.data_set_id)
        return first

    def _shows_anything(self, data_set: DataSet) -> bool:
        rows = self._requests.read(
            lambda: list(self._client.read_data(self._feed.user_id, data_set_id=data_set.data_set_id))
        )
        return any(row.get("type") != "upload" for row in rows)

    def _delete(self, data_set_id: str) -> None:
        self._requests.write(lambda: self._client.delete_data_set(data_set_id))

    def _settled(self, opened: str) -> str:
        """Return the data set that stays, now that one was opened: the first that is ours."""
        listed = [one for one in self._list() if not one.deleted and _is_marked(one)]
        first = min(listed, key=creation_key, default=None)
        if first is None or first.data_set_id == opened:
            return opened
        self._check(first)
        log.info("Another deployment opened data set %s first: %s is deleted.", first.data_set_id, opened)
        self._delete(opened)
        return first.data_set_id

    def _check(self, data_set: DataSet) -> None:
        wanted = deduplicator_named(str(self._feed.body["deduplicator"]["name"]))
        if data_set.data_set_type != CONTINUOUS:
            raise FeedError("feed-client-name-shared", data_set.data_set_id)
        if deduplicator_named(data_set.deduplicator) is not wanted:
            raise FeedError("feed-deduplicator", data_set.data_set_id)

    def _open(self) -> str:
        """Open the data set; after each lost response, check first whether it is there."""
        feed = self._feed
        mark = {**MARK, **({CONVERTERS: dict(feed.converters)} if feed.converters else {})}
        for attempt in range(self._attempts):
            try:
                opened = self._requests.write(
                    lambda: self._client.open_data_set(feed.user_id, with_mark(feed.body, mark))
                )
            except TidepoolUnreachableError as error:
                if attempt + 1 == self._attempts:
                    raise
                self._requests.pause(attempt, error)
                if error.in_doubt and (found := self._find(self._list())):
                    return found
            else:
                log.info("Opened continuous data set %s.", opened.data_set_id)
                return self._settled(opened.data_set_id)
        raise AssertionError("at least one attempt is made at a request")


def _is_marked(data_set: DataSet) -> bool:
    members = data_set.private.get(KEY)
    return isinstance(members, Mapping) and members.get("feed") is True


def known_feed(ledger: Ledger, feed: Feed) -> FeedRow | None:
    """Return what the ledger knows of a feed, or of a program and user of normal data sets; if anything."""
    if not (feed.body.get("client") or {}).get("name"):
        return None
    return ledger.feeds.find(feed.api_host, feed.user_id, feed.client_name)


def reserve_for_normal(
    context: UploadContext, feed: Feed, requests: GuardedRequests, known: FeedRow | None
) -> None:
    """Make sure that no continuous data set has the client name of a normal one.

    The first time that a name is used for a user, Tidepool is asked; from then on the ledger knows.

    :param feed: the normal data set's program and user.
    :param known: what the ledger knows of it.
    :raises FeedError: one has.
    """
    if not (feed.body.get("client") or {}).get("name"):
        return
    if known is None:
        client, feeds = context.client, context.ledger.feeds
        listed = requests.read(lambda: list(client.data_sets(feed.user_id, client_name=feed.client_name)))
        if any(data_set.data_set_type == CONTINUOUS for data_set in listed):
            raise FeedError("feed-client-name-shared")
        known = feeds.register(feed.api_host, feed.user_id, feed.client_name, NORMAL)
    if known.data_set_type != NORMAL:
        raise FeedError("feed-client-name-shared")


def check_data_set_type(batch: str, wanted: str) -> None:
    """Make sure that a batch is uploaded in the way of its type of data set.

    :param batch: ``normal`` or ``continuous``: what the batch is for.
    :param wanted: the type that the caller uploads.
    :raises FeedError: they differ.
    """
    if batch != wanted:
        raise FeedError("feed-is-normal" if wanted == CONTINUOUS else "feed-is-not-normal")


def check_not_continuous(client: TidepoolClient, ledger: Ledger, data_set_id: str) -> None:
    """Make sure that a data set that is to be closed is not continuous.

    :param client: reads the data set, if the account may see it.
    :param ledger: knows the data sets of feeds.
    :raises FeedError: it is.
    """
    pinned = ledger.feeds.pinned(data_set_id) is not None
    if pinned or _is_continuous(client, data_set_id):
        raise FeedError("continuous-never-closed", data_set_id)


def _is_continuous(client: TidepoolClient, data_set_id: str) -> bool:
    try:
        return client.get_data_set(data_set_id).data_set_type == CONTINUOUS
    except TidepoolPermissionError:
        return False  # only its owner may read it; the close will show whether it is allowed


_ANOTHER_NAME = (
    "Find out who did that and whether the feed is to go on. If so, let the manifests name another "
    "dataSet.client.name, which starts a new data set; what is staged again for it"
)

FAULTS: dict[str, Fault] = {
    "feed-no-client-name": Fault(
        "nothing names the program that uploads, by which Tidepool finds a continuous data set",
        "Give the Tidepool connection a client name, or the manifest a dataSet.client.name.",
    ),
    "feed-client-name-shared": Fault(
        "normal and continuous data sets of one user carry the same client name, by which programs look for "
        "the continuous one",
        "Let the manifests of one of the two name another dataSet.client.name.",
    ),
    "feed-ambiguous": Fault(
        "Tidepool has several continuous data sets of this client name, and writing to another one than "
        "before would double everything",
        "Delete the data sets that are not to be used, or let the manifests name another "
        "dataSet.client.name.",
    ),
    "feed-deduplicator": Fault(
        "the continuous data set of this client name has another deduplicator than the manifest asks for",
        "Let the manifest name the deduplicator that the data set has, or another dataSet.client.name.",
    ),
    "feed-closed": Fault(
        "the continuous data set was closed, which only one of Tidepool's own services can do",
        f"{_ANOTHER_NAME} would be there twice, for the closed one stays visible.",
    ),
    "feed-deleted": Fault(
        "the continuous data set was deleted, with all that it held; it would still take data and show them",
        f"{_ANOTHER_NAME} is uploaded once more.",
    ),
    "feed-missing": Fault(
        "Tidepool no longer lists the continuous data set in which this feed was started",
        "Check that the connection names the environment and the ledger belongs to it. "
        "Another dataSet.client.name starts a new data set.",
    ),
    "feed-is-not-normal": Fault(
        "the batch is for a continuous data set, which is never closed: its data are visible at once",
        "Upload it with TidepoolContinuousUploadOperator, or the DAG tidepool_continuous_upload.",
    ),
    "feed-is-normal": Fault(
        "the batch is for a normal data set, which has to be closed",
        "Upload it with TidepoolUploadOperator, or the DAG tidepool_normal_upload.",
    ),
    "continuous-never-closed": Fault(
        "a continuous data set is never closed: its data are visible at once, and it stays open for more",
        "Leave the closing step out. To end a feed, stop staging batches for it.",
    ),
}
"""Every code of :class:`FeedError`."""


class FeedError(IngestError):
    """The continuous data set of a feed cannot be used.

    :param code: a key of ``faults``.
    :param data_sets: ids of the data sets that it is about.
    """

    disposition: Disposition = Disposition.FATAL
    faults = FAULTS

    def __init__(self, code: str, *data_sets: str) -> None:
        fault = FAULTS[code]
        about = f" (data set {', '.join(data_sets)})" if data_sets else ""
        super().__init__(as_sentence(fault.sentence + about), remedy=fault.remedy, code=code)
        self.particulars = about.strip(" ()")
        self.data_sets = data_sets
