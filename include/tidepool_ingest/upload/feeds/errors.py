"""What can be wrong with the continuous data set of a feed: one code, one sentence and one remedy each."""

from __future__ import annotations

from tidepool_ingest.errors import Disposition, IngestError

_ANOTHER_NAME = (
    "Find out who did that and whether the feed is to go on. If so, let the manifests name another "
    "dataSet.client.name, which begins a new data set; what is staged again for it"
)

FAULTS: dict[str, tuple[str, str]] = {
    "feed-no-client-name": (
        "nothing names the program that uploads, by which Tidepool finds a continuous data set",
        "Give the Tidepool connection a client name, or the manifest a dataSet.client.name.",
    ),
    "feed-client-name-shared": (
        "normal and continuous data sets of one user carry the same client name, by which programs look for "
        "the continuous one",
        "Let the manifests of one of the two name another dataSet.client.name.",
    ),
    "feed-ambiguous": (
        "Tidepool has several continuous data sets of this client name, and writing to another one than "
        "before would double everything",
        "Delete the data sets that are not to be used, or let the manifests name another "
        "dataSet.client.name.",
    ),
    "feed-deduplicator": (
        "the continuous data set of this client name has another deduplicator than the manifest asks for",
        "Let the manifest name the deduplicator that the data set has, or another dataSet.client.name.",
    ),
    "feed-closed": (
        "the continuous data set was closed, which only one of Tidepool's own services can do",
        f"{_ANOTHER_NAME} would be there twice, for the closed one stays visible.",
    ),
    "feed-deleted": (
        "the continuous data set was deleted, with all that it held; it would still take data and show them",
        f"{_ANOTHER_NAME} is uploaded once more.",
    ),
    "feed-missing": (
        "Tidepool does not list the continuous data set any more in which this feed was begun",
        "Check that the connection names the environment and the ledger belongs to it. "
        "Another dataSet.client.name begins a new data set.",
    ),
    "feed-is-not-normal": (
        "the batch is for a continuous data set, which is never closed: its data are visible at once",
        "Upload it with TidepoolContinuousUploadOperator, or the DAG tidepool_continuous_upload.",
    ),
    "feed-is-normal": (
        "the batch is for a normal data set, which has to be closed",
        "Upload it with TidepoolUploadOperator, or the DAG tidepool_normal_upload.",
    ),
    "continuous-never-closed": (
        "a continuous data set is never closed: its data are visible at once, and it stays open for more",
        "Leave the closing step out. To end a feed, stop staging batches for it.",
    ),
}
"""Every code of :class:`FeedError`."""


class FeedError(IngestError):
    """The continuous data set of a feed cannot be used.

    :param code: a key of ``FAULTS``.
    :param data_sets: ids of the data sets that it is about.
    """

    disposition: Disposition = Disposition.FATAL

    def __init__(self, code: str, *data_sets: str) -> None:
        what, remedy = FAULTS[code]
        about = f" (data set {', '.join(data_sets)})" if data_sets else ""
        super().__init__(f"{what[:1].upper()}{what[1:]}{about}.", remedy=remedy, code=code)
        self.data_sets = data_sets
