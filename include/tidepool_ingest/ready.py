"""What lies ready in staging, each manifest read once as long as its folder does not change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tidepool_ingest.errors import Disposition
from tidepool_ingest.ledger import FoundBatch, Ledger, ReadManifest
from tidepool_ingest.staged_batch import ApiHostOf, label_of, read_batch, unreadable_key
from tidepool_ingest.staging.batches import BatchFolder, MarkedFolder
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import read_manifest

READERS = 8
"""Manifests read at the same time."""

AT_ONCE = 500
"""Batches whose manifests are looked up, read and noted together."""


@dataclass(frozen=True)
class _Unreadable:
    """A batch that cannot be read; `prepare` meets the same error again, in the batch's own task.

    :param data_set_type: for which type of data set it is, as far as that can be told.
    """

    data_set_type: str


@contextmanager
def readers_at_work() -> Iterator[Executor]:
    """Have some threads that read for the length of a ``with`` block; an error does not wait for the rest."""
    readers = ThreadPoolExecutor(READERS)
    try:
        yield readers
    finally:
        readers.shutdown(cancel_futures=True)


def ready_batches(
    listed: Iterable[MarkedFolder], ledger: Ledger, api_host_of: ApiHostOf, readers: Executor
) -> Iterator[FoundBatch]:
    """Yield what the batches of some folders are, in their order.

    :param listed: the folders, with what changes when a file of theirs does.
    :param ledger: remembers what reading the manifests gave.
    :param api_host_of: see :data:`~tidepool_ingest.staged_batch.ApiHostOf`; asked by this thread only.
    :param readers: reads the manifests of those that are new.
    :raises BatchError: if storage does not answer.
    """
    folders = iter(listed)
    while part := list(islice(folders, AT_ONCE)):
        known = ledger.manifests.known({_address(folder): mark for folder, mark in part})
        new = [one for one in part if _address(one.folder) not in known]
        outcomes = list(readers.map(_reading_with(ledger), new))
        read = {
            _address(one.folder): outcome
            for one, outcome in zip(new, outcomes, strict=True)
            if isinstance(outcome, ReadManifest)
        }
        ledger.manifests.note({address: outcome for address, outcome in read.items() if outcome.mark})
        unreadable = {
            _address(one.folder): outcome
            for one, outcome in zip(new, outcomes, strict=True)
            if isinstance(outcome, _Unreadable)
        }
        for folder, _mark in part:
            address = _address(folder)
            yield _found(folder, unreadable.get(address) or (known | read)[address], api_host_of)


def _address(folder: BatchFolder) -> str:
    return str(folder.path)


def _reading_with(ledger: Ledger) -> Callable[[MarkedFolder], ReadManifest | _Unreadable]:
    def read(one: MarkedFolder) -> ReadManifest | _Unreadable:
        try:
            batch = read_batch(one.folder, ledger.file_digests)
        except BatchError as error:
            if error.disposition is Disposition.RETRIABLE:
                raise
            return _Unreadable(_type_of(one.folder))
        return ReadManifest(
            mark=one.mark,
            user_id=one.folder.user_id,
            content_key=batch.content_key,
            label=batch.label,
            connection=batch.manifest.connection,
            device_id=batch.manifest.device_id,
            data_set_type=batch.manifest.data_set_type,
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
                folder=_address(folder),
                **place,
            )
        except BatchError as error:
            if error.disposition is Disposition.RETRIABLE:
                raise
    return FoundBatch(
        api_host=api_host_of(None),
        content_key=unreadable_key(folder),
        label=label_of(folder, None),
        data_set_type=read.data_set_type,
        folder=_address(folder),
        **place,
    )
