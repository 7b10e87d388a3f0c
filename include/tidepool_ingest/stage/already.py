"""What is in staging already of what is about to be staged, so that nothing is there twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from typing import Final, TypeAlias

from tidepool_ingest.formats import read_manifest
from tidepool_ingest.staging.batches import LISTINGS_AT_ONCE, BatchFolder, batches_of, days
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import Manifest, content_key
from tidepool_ingest.staging.storage import StoragePath, sha256_of

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)

_Batch: TypeAlias = tuple[BatchFolder, Manifest]


class AlreadyStaged:
    """Finds batches with the content of new ones. It looks into staging when it is first asked about a user.

    Of a normal data set, the same content is one batch wherever it lies. To a feed, what was written before
    may be written again after something else: there, only its newest batch counts.

    :param root: the staging root.
    """

    def __init__(self, root: StoragePath) -> None:
        self._root = root
        self._batches: dict[str, list[_Batch]] = {}
        self.found: set[BatchFolder] = set()
        """The batches that were there."""
        self._days: list[date] = []
        self.is_new_root = False
        """Whether there was no staging root when this looked."""
        self.is_blind = False
        """Whether staging may be written, but not be listed: then nothing is found."""
        try:
            self._days = days(root)
        except BatchError as error:
            self.is_new_root = error.code == "staging-root-missing"
            self.is_blind = not self.is_new_root

    def find(self, manifest: Manifest) -> BatchFolder | None:
        """Return the batch that has the same content, and is to go the same way; ``None`` if there is none.

        :param manifest: of a new batch, with the digests of its files.
        """
        key = content_key(manifest, [str(file.sha256) for file in manifest.files])
        for folder, other in self._candidates(manifest):
            if (other.connection, other.replaces) != (manifest.connection, manifest.replaces):
                continue
            digests = _digests(folder, other, manifest)
            if digests is not None and content_key(other, digests) == key:
                self.found.add(folder)
                return folder
        return None

    def add(self, batches: Sequence[BatchFolder], manifests: Sequence[Manifest]) -> None:
        """Remember batches that were made.

        :param batches: their folders.
        :param manifests: what describes them.
        """
        for folder, manifest in zip(batches, manifests, strict=True):
            self._of(manifest.user_id).append((folder, manifest))

    def _candidates(self, manifest: Manifest) -> list[_Batch]:
        """Return the batches that may have the same content, the oldest first."""
        batches = self._of(manifest.user_id)
        if manifest.data_set_type == "normal":
            return [(folder, other) for folder, other in batches if other.data_set_type == "normal"]
        of_feed = [(folder, other) for folder, other in batches if other.client_name == manifest.client_name]
        return sorted(of_feed, key=lambda one: (one[0].day, one[1].staged_at or _LONG_AGO))[-1:]

    def _of(self, user_id: str) -> list[_Batch]:
        if user_id not in self._batches:
            try:
                with ThreadPoolExecutor(LISTINGS_AT_ONCE) as readers:
                    listed = readers.map(lambda day: batches_of(self._root, day, user_id), self._days)
                    folders = [folder for of_day in listed for folder in of_day]
            except BatchError:
                folders, self.is_blind = [], True
            self._batches[user_id] = list(_readable(folders))
        return self._batches[user_id]


def _readable(folders: Sequence[BatchFolder]) -> Iterator[_Batch]:
    """Yield the batches whose manifests can be read; of others, nobody knows what they hold."""
    for folder in folders:
        try:
            yield folder, read_manifest(folder.path, folder.user_id)
        except BatchError:
            continue


def _digests(folder: BatchFolder, other: Manifest, manifest: Manifest) -> list[str] | None:
    """Return the digests of a batch's files; ``None`` if it cannot hold the same."""
    if other.data_set != manifest.data_set or len(other.files) != len(manifest.files):
        return None
    try:
        return [file.sha256 or sha256_of(folder.path / file.name) for file in other.files]
    except BatchError:
        return None
