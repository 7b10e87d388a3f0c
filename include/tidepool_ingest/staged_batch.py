"""A staged batch as a run finds it: its folder, its manifest, and the key of its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from tidepool_ingest.formats import FORMATS, read_manifest
from tidepool_ingest.ledger import FileDigests, check_found_texts
from tidepool_ingest.staging.batches import BatchFolder
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import Manifest, StagedFile, content_key
from tidepool_ingest.staging.storage import StoragePath, fingerprint, info_of, reading, sha256_of

if TYPE_CHECKING:
    from upath import UPath

ApiHostOf = Callable[[str | None], str]
"""Returns the API host of a connection that a manifest names, or of the run's own for ``None``.

Raises :class:`BatchError` for a connection that this deployment does not allow.
"""

MODEL_CHARACTERS = 40
"""Characters of a device model that a label shows."""


@dataclass(frozen=True)
class StagedBatch:
    """A batch whose manifest has been read.

    :param folder: where it is.
    :param manifest: what describes it.
    :param content_key: see :func:`~tidepool_ingest.staging.manifest.content_key`.
    """

    folder: BatchFolder
    manifest: Manifest
    content_key: str

    @property
    def label(self) -> str:
        """What logs, task labels and pages call it."""
        return label_of(self.folder, self.manifest.device_model)

    @property
    def device_key(self) -> str | None:
        """What tells the person's device where its ``deviceId`` does not: a digest of what stays.

        That is its serial number, whatever the file's format. Where the files of a format tell of no serial
        number, they are of one device a person, and the format stays. In feeds, the program counts as well:
        what another one has written is not replaced. ``None`` if nothing is known that would stay.
        """
        manifest = self.manifest
        told = {_what_stays(file, manifest.serial_number) for file in manifest.files}
        if len(told) != 1 or None in told:
            return None
        program = manifest.client_name if manifest.data_set_type == "continuous" else None
        known = json.dumps([self.folder.user_id, *told, program])
        return hashlib.sha256(known.encode()).hexdigest()

    @property
    def zones(self) -> str | None:
        """The zones that local times of its files are read in, as JSON; ``None`` if there are none.

        For each clock, it lists the zones that it was set to, each with the local time until which it was.
        A file whose records bring their own instants has none, whatever zone its data set names.
        """
        stated = [
            file.timezone or self.manifest.timezone
            for file in self.manifest.files
            if "timezone" in FORMATS[file.format].options
        ]
        clocks = {
            ((zone, ""),) if isinstance(zone, str) else tuple((one.zone, one.until or "") for one in zone)
            for zone in stated
            if zone is not None
        }
        return json.dumps(sorted(clocks), separators=(",", ":")) if clocks else None

    @property
    def formats(self) -> str:
        """The formats of its files, as JSON."""
        return json.dumps(sorted({file.format for file in self.manifest.files}), separators=(",", ":"))

    @property
    def device(self) -> str | None:
        """What its manifest calls its device, as JSON, cut as in a label; ``None`` if it says nothing.

        Never a serial number or a ``deviceId``: the uploads page shows it.
        """
        named = self.manifest.data_set.get("deviceManufacturers")
        makers = [_shown(name) for name in named if isinstance(name, str)] if isinstance(named, list) else []
        said = {
            "manufacturers": [maker for maker in makers if maker],
            "model": _shown(self.manifest.device_model),
        }
        known = {name: value for name, value in said.items() if value}
        return json.dumps(known, separators=(",", ":"), ensure_ascii=False) if known else None

    def ledger_texts(self) -> dict[str, str | None]:
        """Return what of it is written into the ledger as text that somebody else has chosen."""
        return {
            "user_id": self.folder.user_id,
            "batch_id": self.folder.batch_id,
            "folder": str(self.folder.path),
            "label": self.label,
            "connection": self.manifest.connection,
            "device_id": self.manifest.device_id,
            "client_name": self.manifest.client_name,
            "deduplicator": self.manifest.deduplicator_name,
        }


SERIAL_CHARACTERS = 4
"""Characters of a serial number, at least: what is shorter stands for no device in particular."""


def _what_stays(file: StagedFile, serial_number: str | None) -> tuple[str, str] | None:
    """Return what tells a person's device from others of the person, whatever its ``deviceId`` is."""
    reader = FORMATS[file.format]
    if reader.has_own_rows and "serial" not in reader.options:
        return "format", file.format
    written = file.serial or serial_number or ""
    serial = "".join(sign for sign in written if sign.isalnum()).casefold()
    # Zeros, or a word such as "unknown", are what programs write for want of a number.
    is_number = len(serial) >= SERIAL_CHARACTERS and len(set(serial)) > 1
    return ("serial", serial) if is_number and any(map(str.isdigit, serial)) else None


def read_batch(folder: BatchFolder, digests: FileDigests) -> StagedBatch:
    """Read the manifest of a batch folder and name its content.

    If the manifest omits the digest of a file, the file is read for it, once while it does not change.

    :param folder: the batch folder.
    :param digests: remembers digests that were read.
    :raises BatchError: if the manifest or a file cannot be read; it names the batch.
    :raises LedgerTextError: the ledger could not keep something of it. Here it stops one batch, and not those
        that are written with it.
    """
    try:
        manifest = read_manifest(folder.path, folder.user_id)
        keys = [
            _digest(folder.path / file.name, number, file, digests)
            for number, file in enumerate(manifest.files, 1)
        ]
    except BatchError as error:
        raise error.for_batch(named(folder)) from None
    batch = StagedBatch(folder, manifest, content_key(manifest, keys, folder.name))
    check_found_texts(batch.ledger_texts())
    return batch


def check_digests(folder: BatchFolder, digests: FileDigests) -> None:
    """Make sure that the files of a batch are those that its manifest names by sha256.

    Reading a batch for upload checks that anyway. This is for one that would be skipped as known: a
    manifest copied with its digests describes other data than it names.

    :param folder: the batch folder.
    :param digests: remembers digests that were read.
    :raises BatchError: ``file-sha256``, or what reading the batch raises; it names the batch.
    """
    try:
        for number, file in enumerate(read_manifest(folder.path, folder.user_id).files, 1):
            if file.sha256 not in (None, _read_digest(folder.path / file.name, number, digests)):
                raise BatchError("file-sha256", file_number=number)
    except BatchError as error:
        raise error.for_batch(named(folder)) from None


def label_of(folder: BatchFolder, device_model: str | None) -> str:
    """Return a batch's label: day, device model and short hash, never a person or a serial number."""
    return f"{folder.day} {_shown(device_model) or 'device'} {folder.label}"


def label_of_unreadable(folder: BatchFolder) -> str:
    """Return the label of a batch whose manifest cannot be read: its device is not known."""
    return f"{folder.day} folder {folder.label}"


def _shown(text: str | None) -> str:
    """Return what a label shows of a text of the manifest."""
    return "".join(sign for sign in text or "" if sign.isprintable())[:MODEL_CHARACTERS].strip()


def named(folder: BatchFolder) -> str:
    """Return how an error names a batch: day and short hash, by which `tidepool-ingest sessions` finds it."""
    return f"{folder.day}/{folder.label}"


def unreadable_key(folder: BatchFolder) -> str:
    """Return what stands for the content key of a batch that cannot be read."""
    return hashlib.sha256(f"unreadable\n{folder.name}".encode()).hexdigest()


def folder_of(root: UPath, day: date, user_id: str, batch_id: str) -> BatchFolder:
    """Return the folder of a batch as the ledger names it."""
    return BatchFolder.at(root, f"{day.isoformat()}/{user_id}/{batch_id}")


def _digest(path: StoragePath, number: int, file: StagedFile, digests: FileDigests) -> str:
    return _read_digest(path, number, digests) if file.sha256 is None else file.sha256


def _read_digest(path: StoragePath, number: int, digests: FileDigests) -> str:
    with reading(file_number=number):
        info = info_of(path)
    return digests.digest_of(str(path), fingerprint(info)[:255], lambda: sha256_of(path, file_number=number))
