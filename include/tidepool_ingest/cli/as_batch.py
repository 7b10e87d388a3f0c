"""What ``validate`` reads as a batch: a folder with a manifest, or files that the command line describes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tidepool_ingest.cli.arguments import CommandError, given_folder, given_path
from tidepool_ingest.cli.device import data_set_of, edits_of, says_device
from tidepool_ingest.cli.given import about
from tidepool_ingest.formats import FORMATS, RECORDS_FORMAT, read_manifest
from tidepool_ingest.formats.holds import FileHeldError
from tidepool_ingest.model import deduplicator_named
from tidepool_ingest.prepare.reading import RecordReader
from tidepool_ingest.prepare.record_checks import RecordChecker
from tidepool_ingest.prepare.step import checked_data_set
from tidepool_ingest.staged_batch import named
from tidepool_ingest.staging.batches import BatchFolder
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import Manifest, RecordChecks, RecordEdits, StagedFile
from tidepool_ingest.staging.storage import StoragePath, local_path


def described(options: argparse.Namespace) -> Manifest:
    """Return the manifest that the command line describes files with: by options, or like a batch.

    :raises IngestError: there is none like it, or `prepare` would take none like it.
    """
    edits, is_device = edits_of(options), says_device(options)
    if options.like is None:
        manifest = _made_manifest({"deviceId": _ANY_DEVICE} | data_set_of(options), edits)
        checked_data_set(manifest)
        return manifest
    if is_device or edits or options.timezone:
        raise CommandError(
            "--like says what the batch is.", "Leave the options of a device, a time zone and edits out."
        )
    batch = given_folder(given_path(options.like))
    with about(options.like, batch):
        manifest = read_manifest(batch, None)
        if any(FORMATS[file.format].has_own_rows for file in manifest.files):
            raise BatchError("stage-like-export")
        checked_data_set(manifest)
    return manifest


_ANY_DEVICE = "any"
"""Stands for the device that each record names, where the command line names none."""


def _made_manifest(fields: Mapping[str, Any], edits: RecordEdits | None) -> Manifest:
    """Return the manifest of a batch of some file with a data set of some fields."""
    file = StagedFile(name="records", format=RECORDS_FORMAT)
    return Manifest(user_id="0" * 10, data_set=dict(fields), files=(file,), edits=edits)


def checker_of_any(described: Manifest) -> RecordChecker:
    """Return what checks records that may be of any device, but have to name one."""
    deduplicator = deduplicator_named(described.deduplicator_name)
    return RecordChecker(
        RecordChecks(device_id_differs="ignore"),
        needs_device_id=deduplicator is not None and deduplicator.needs_datum_device_id,
        device_id=_ANY_DEVICE,
    )


@contextmanager
def reading_batch(path: StoragePath) -> Iterator[tuple[RecordReader, Manifest]]:
    """Provide what reads the records of a batch, once its manifest is one that `prepare` would take."""
    folder = _absolute(path)
    staged = _staged_at(folder)
    if staged is None:
        folder = given_folder(folder)
    try:
        manifest = read_manifest(folder, staged.user_id if staged else None)
        checked_data_set(manifest)
        with RecordReader.of(manifest, folder) as reader:
            yield reader, manifest
    except (BatchError, FileHeldError) as error:
        raise (error.for_batch(named(staged)) if staged else error) from None


def name_of(path: StoragePath) -> str:
    """Return what an error calls a batch."""
    staged = _staged_at(_absolute(path))
    return named(staged) if staged else "of this folder"


def _absolute(path: StoragePath) -> StoragePath:
    local = local_path(path)
    return path if local is None else local.absolute()


def _staged_at(folder: StoragePath) -> BatchFolder | None:
    """Return the batch folder if it is where staging has them, else ``None``."""
    day, user = folder.parent.parent, folder.parent
    try:
        return BatchFolder.at(day.parent, f"{day.name}/{user.name}/{folder.name}")
    except BatchError:
        return None
