"""Which batches are ready in staging: ``<root>/<YYYY-MM-DD>/<user id>/<batch id>/manifest.json``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from hashlib import blake2b, sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from tidepool_ingest.errors import Disposition
from tidepool_ingest.privacy import is_user_id, short_hash
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.local import NotRegularError
from tidepool_ingest.staging.manifest_terms import MANIFEST_NAME, is_batch_id
from tidepool_ingest.staging.storage import (
    IN_BATCH,
    StoragePath,
    entries_of,
    entries_of_root,
    exists,
    fingerprint,
    is_nowhere,
    local_path,
    reading,
    walked,
)

if TYPE_CHECKING:
    from upath import UPath

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_HIDDEN = (".", "_")
_MAX_EXAMPLES = 20

_NO_FOLDER = {"other": "not-regular", "closed": "not-permitted"}
"""Why what should be a day's, a user's or a batch's folder is none, by its type."""

_NOT_OPENED = ("file-not-regular", "file-not-permitted")
"""Errors about one entry of staging, in which no listing may end."""

LISTINGS_AT_ONCE = 16
"""Days that are listed at the same time; an object store takes some 50 ms for each request."""

Listed = Mapping[str, Mapping[str, Any]]
"""What a storage lists about each file of a day, by the file's name relative to the day's folder."""

DIGEST_BYTES = 16


@dataclass(frozen=True, order=True)
class BatchFolder:
    """A folder of staging that is, or can be, a batch.

    Ordered by day, user and batch id.

    :param day: the date folder it lies in.
    :param user_id: the user folder it lies in.
    :param batch_id: its own name.
    :param path: the folder.
    """

    day: date
    user_id: str = field(repr=False)
    batch_id: str = field(repr=False)
    path: StoragePath = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """The folder relative to the staging root; it holds the user id."""
        return f"{self.day.isoformat()}/{self.user_id}/{self.batch_id}"

    @property
    def label(self) -> str:
        """The short hash that stands for this folder in logs and task labels."""
        return short_hash(self.name)

    @classmethod
    def at(cls, root: StoragePath, name: str) -> BatchFolder:
        """Return the batch folder with a given :attr:`name`.

        :param root: the staging root.
        :param name: ``<YYYY-MM-DD>/<user id>/<batch id>``.
        :raises BatchError: ``batch-folder`` if the name does not have this form.
        """
        parts = name.split("/")
        day = _day_of(parts[0])
        if len(parts) != 3 or day is None or not is_user_id(parts[1]) or not is_batch_id(parts[2]):
            raise BatchError("batch-folder", batch=short_hash(name))
        return cls(day, parts[1], parts[2], root / parts[0] / parts[1] / parts[2])


@dataclass
class Ignored:
    """What staging holds besides ready batches, counted by reason.

    Reasons: ``not-a-day`` and ``loose-file`` (in the root), ``not-a-user``, ``not-a-batch``, ``not-regular``
    (a link, named pipe, socket or device in place of a folder), ``not-permitted`` (a folder that this account
    may not list), and ``no-manifest`` for a batch that is still being written.

    :param counts: how many folders or loose files for each reason.
    :param examples: short hash of the relative path of the first few, by reason.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        """Count one folder or file.

        :param reason: why it is not a batch.
        :param name: its path relative to the root.
        """
        self.counts[reason] += 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < _MAX_EXAMPLES:
            examples.append(short_hash(name))


class ListedBatch(NamedTuple):
    """A ready batch as a listing shows it.

    :param folder: the batch.
    :param fingerprint: changes when any of its files does; empty where the storage provides none.
    """

    folder: BatchFolder
    fingerprint: str


def find_batches(
    root: StoragePath, first_day: date, last_day: date, ignored: Ignored | None = None
) -> Iterator[BatchFolder]:
    """List the ready batches of some days as :func:`list_batches` does, without their fingerprints."""
    return (listed.folder for listed in list_batches(root, first_day, last_day, ignored))


def list_batches(
    root: StoragePath, first_day: date, last_day: date, ignored: Ignored | None = None
) -> Iterator[ListedBatch]:
    """List the ready batches of some days, ordered by day, user and batch id.

    One listing finds the days and one recursive listing each day's batches; object stores answer those
    in pages. No object is opened. Only one day's names are held at a time.

    :param root: the staging root.
    :param first_day: first date folder to look into.
    :param last_day: last one.
    :param ignored: collects what is not a ready batch.
    :raises BatchError: ``staging-root-missing`` or ``staging-unreadable``.
    """
    ignored = Ignored() if ignored is None else ignored
    for day in days(root, ignored):
        if first_day <= day <= last_day:
            listed = _list_day(root, day)
            fingerprints = _fingerprints(listed)
            for batch in sorted(_ready_among(listed, root, day, ignored)):
                yield ListedBatch(batch, fingerprints[batch.user_id, batch.batch_id])


def days(root: StoragePath, ignored: Ignored | None = None) -> list[date]:
    """Return the date folders of a staging root in order, by one listing.

    :param root: the staging root.
    :param ignored: collects what is not a date folder; names that begin with ``.`` or ``_`` are skipped.
    :raises BatchError: ``staging-root-missing`` or ``staging-unreadable``.
    """
    found = []
    for name, info in sorted(entries_of_root(root).items()):
        kind, day = info["type"], _day_of(name)
        if name.startswith(_HIDDEN):
            continue
        if day is not None and kind == "directory":
            found.append(day)
        elif ignored is not None and day is not None and kind in _NO_FOLDER:
            ignored.add(_NO_FOLDER[kind], name)
        elif ignored is not None:
            ignored.add("not-a-day" if kind == "directory" else "loose-file", name)
    return sorted(found)


def days_with_batches(root: StoragePath, among: Iterable[date] | None = None) -> list[date]:
    """Return the days that hold a ready batch, stopping at the first one of each day.

    Several days are listed at the same time; an object store takes three requests for each.

    :param root: the staging root.
    :param among: the days to list; all of them if left out.
    :raises BatchError: ``staging-unreadable``.
    """
    candidates = days(root) if among is None else list(among)
    with ThreadPoolExecutor(LISTINGS_AT_ONCE) as executor:
        holding = executor.map(lambda day: _has_batch(root / day.isoformat()), candidates)
        return [day for day, holds in zip(candidates, holding, strict=True) if holds]


def batches_of(root: StoragePath, day: date, user_id: str) -> list[BatchFolder]:
    """Return the ready batches of one user in one day folder.

    :param root: the staging root.
    :param day: the day.
    :param user_id: the user.
    :raises BatchError: ``staging-unreadable``.
    """
    folder = root / day.isoformat() / user_id
    on_disk = local_path(folder)
    if on_disk is not None and not on_disk.is_dir():
        return []  # the usual case, and looking this up is much faster than listing
    named = [name for name in _folders(folder, IN_BATCH - 2) if is_batch_id(name)]
    return [BatchFolder(day, user_id, name, folder / name) for name in named if _has_manifest(folder / name)]


def removed_folders(root: StoragePath, folders: Iterable[BatchFolder]) -> set[BatchFolder]:
    """Return those batch folders that are certainly not in staging any more.

    What cannot be listed counts as there. A staging root without any day is one whose share is not mounted.
    Of a day that the root does not list beside others, each folder is gone: object stores keep no empty ones.

    :param root: the staging root.
    :param folders: the folders in question.
    :raises BatchError: ``staging-unreadable`` if the root cannot be listed.
    """
    candidates = list(folders)
    if not candidates or not (listed := set(days(root))):
        return set()
    with ThreadPoolExecutor(LISTINGS_AT_ONCE) as executor:
        gone = executor.map(lambda folder: folder.day not in listed or _is_removed(folder.path), candidates)
        return {folder for folder, is_gone in zip(candidates, gone, strict=True) if is_gone}


def is_left(root: UPath, address: str) -> bool:
    """Return whether another staging root of the same storage is certainly not there any more.

    Of an object store that is a prefix without any object. An empty folder may be where a share is mounted.

    :param root: the staging root that is there.
    :param address: the other one's.
    """
    try:
        other = type(root)(address)
        return other.protocol == root.protocol and is_nowhere(other)
    except (BatchError, ValueError, RuntimeError):
        return False


def _is_removed(folder: StoragePath) -> bool:
    try:
        return not _list(folder, IN_BATCH - 1)
    except BatchError as error:
        if error.disposition is not Disposition.RETRIABLE and error.code not in _NOT_OPENED:
            raise
        return False


def _day_of(name: str) -> date | None:
    if not _DAY.fullmatch(name):
        return None
    try:
        return date.fromisoformat(name)
    except ValueError:
        return None


def _list(folder: StoragePath, below_root: int) -> list[tuple[str, str]]:
    """Return each entry's name and type; nothing if the folder does not exist, or is none."""
    with reading():
        try:
            entries = entries_of(folder, below_root)
        except (FileNotFoundError, NotRegularError):
            return []
    return sorted((name, info["type"]) for name, info in entries.items())


def file_names(folder: BatchFolder) -> list[str]:
    """Return the names of what lies in a batch folder, in order; none if it is not there.

    :param folder: the batch.
    :raises BatchError: ``staging-unreadable``, ``file-not-permitted``.
    """
    return [name for name, _kind in _list(folder.path, IN_BATCH - 1)]


def manifest_fingerprints(root: StoragePath, day: date) -> dict[BatchFolder, str]:
    """Return each ready batch of a day with its manifest's fingerprint, by one recursive listing.

    :param root: the staging root.
    :param day: the day.
    :raises BatchError: ``staging-unreadable``.
    """
    found = _list_day(root, day)
    return {
        batch: fingerprint(found[f"{batch.user_id}/{batch.batch_id}/{MANIFEST_NAME}"])
        for batch in _ready_among(found, root, day, Ignored())
    }


def _list_day(root: StoragePath, day: date) -> Listed:
    with reading():
        return walked(root / day.isoformat(), IN_BATCH - 3, levels=2)


def _fingerprints(files_of_day: Listed) -> dict[tuple[str, str], str]:
    """Return a digest of the names and fingerprints of each batch folder's files, by user and batch id."""
    files: dict[tuple[str, str], list[str]] = {}
    incomplete = set()
    for name, info in files_of_day.items():
        user_id, _, rest = name.partition("/")
        batch_id, _, file = rest.partition("/")
        if name.endswith("/"):
            continue
        mark = fingerprint(info)
        files.setdefault((user_id, batch_id), []).append(f"{file}\n{mark}")
        if mark.endswith(":"):
            incomplete.add((user_id, batch_id))
    return {
        key: "" if key in incomplete else sha256(_as_bytes(found)).hexdigest() for key, found in files.items()
    }


def _ready_among(
    files_of_day: Listed, root: StoragePath, day: date, ignored: Ignored
) -> Iterator[BatchFolder]:
    folder = root / day.isoformat()
    ready: dict[tuple[str, str], bool] = {}
    skipped: dict[str, str] = {}
    for name, info in files_of_day.items():
        parts = name.split("/")
        if any(part.startswith(_HIDDEN) for part in parts[:2]):
            continue
        if info["type"] in _NO_FOLDER and _belongs_to_a_folder(name):
            skipped[name] = _NO_FOLDER[info["type"]]
        elif len(parts) < 2 or not is_user_id(parts[0]):
            skipped[parts[0]] = "not-a-user"
        elif len(parts) < 3 or not is_batch_id(parts[1]):
            skipped["/".join(parts[:2])] = "not-a-batch"
        else:
            key = (parts[0], parts[1])
            ready[key] = ready.get(key, False) or parts[2:] == [MANIFEST_NAME]
    for path, reason in skipped.items():
        ignored.add(reason, f"{day.isoformat()}/{path}")
    for (user_id, batch_id), has_manifest in ready.items():
        batch = BatchFolder(day, user_id, batch_id, folder / user_id / batch_id)
        if has_manifest:
            yield batch
        else:
            ignored.add("no-manifest", batch.name)


def _has_batch(day_folder: StoragePath) -> bool:
    return any(
        _has_manifest(day_folder / user_id / batch_id)
        for user_id in _folders(day_folder, IN_BATCH - 3)
        if is_user_id(user_id)
        for batch_id in _folders(day_folder / user_id, IN_BATCH - 2)
        if is_batch_id(batch_id)
    )


def _belongs_to_a_folder(name: str) -> bool:
    """Return whether a name relative to a day is that of the day itself, a user or a batch."""
    user_id, *batch_id = name.split("/")
    return not name or (is_user_id(user_id) and len(batch_id) < 2 and all(map(is_batch_id, batch_id)))


def _folders(folder: StoragePath, below_root: int) -> list[str]:
    """Return the names of the folders in a folder; none of one that may not be listed."""
    try:
        return [name for name, kind in _list(folder, below_root) if kind == "directory"]
    except BatchError as error:
        if error.code not in _NOT_OPENED:
            raise
        return []


def _has_manifest(batch: StoragePath) -> bool:
    try:
        return exists(batch / MANIFEST_NAME, IN_BATCH)
    except BatchError as error:
        if error.code not in _NOT_OPENED:
            raise
        return False


class Arrivals:
    """Watches for new manifests. What was seen is kept by day, so that another process can continue.

    After such a handover only the digest of a day is known: if the day has changed, all its manifests count
    as new. That costs one run, which finds most of them done.

    :param root: the staging root.
    :param seen: digests of days that were seen before, as in :attr:`seen`.
    """

    def __init__(self, root: StoragePath, seen: Mapping[str, str] | None = None) -> None:
        self._root = root
        self._fingerprints: dict[date, frozenset[str]] = {}
        self.seen = dict(seen or {})
        """Digest of each day's manifests, by day: no names, and nothing that grows with their number."""

    def look(self, first_day: date, last_day: date) -> int:
        """Return how many manifests are new or rewritten since the last call; other days are forgotten.

        :param first_day: first date folder to look into.
        :param last_day: last one.
        :raises BatchError: if the storage cannot be read.
        """
        found = {day: self._fingerprints_of(day) for day in days(self._root) if first_day <= day <= last_day}
        digests = {str(day): _digest(manifests) for day, manifests in found.items()}
        arrived = sum(len(self._new(day, manifests, digests[str(day)])) for day, manifests in found.items())
        self._fingerprints, self.seen = found, digests
        return arrived

    def _fingerprints_of(self, day: date) -> frozenset[str]:
        found = manifest_fingerprints(self._root, day)
        return frozenset(_digest({f"{batch.name}\n{mark}"}) for batch, mark in found.items())

    def _new(self, day: date, manifests: frozenset[str], digest: str) -> frozenset[str]:
        if day in self._fingerprints:
            return manifests - self._fingerprints[day]
        return frozenset() if self.seen.get(str(day)) == digest else manifests


def _digest(texts: frozenset[str] | set[str]) -> str:
    return blake2b(_as_bytes(texts), digest_size=DIGEST_BYTES).hexdigest()


def _as_bytes(names: Iterable[str]) -> bytes:
    """Return names in order as one text to be digested; a local name that is not UTF-8 holds surrogates."""
    return "\n".join(sorted(names)).encode(errors="surrogatepass")
