"""The changes to records on their way: exported ones are cleaned, then the manifest's edits are made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Self

from upath import UPath

from tidepool_ingest.prepare.export import ExportedFile, Survey, survey
from tidepool_ingest.prepare.record_checks import RecordChecker
from tidepool_ingest.staging.edits import Edits
from tidepool_ingest.staging.manifest import TIDEPOOL_EXPORT, DataFormat, Manifest, RecordEdits
from tidepool_ingest.staging.ndjson import Block
from tidepool_ingest.staging.records import open_file


class Editing:
    """Makes the changes to records; to be used in a ``with`` statement.

    :param edits: what the manifest asks for.
    :param exported: the exported files; they are read here a first time, twice if they hold links.
    :param checker: what is looked at beyond the Platform's own verdict.
    """

    def __init__(
        self,
        edits: RecordEdits | None = None,
        exported: Sequence[ExportedFile] = (),
        checker: RecordChecker | None = None,
    ) -> None:
        self._edits = Edits(edits) if edits else None
        self._survey: Survey | None = None
        if exported:
            uncounted = Edits(edits or RecordEdits())
            self._survey = survey(
                exported,
                edited=uncounted.apply,
                checker=checker or RecordChecker(),
                relabels=not (edits and edits.glucose_units),
            )
        self._cleaner = self._survey.cleaner() if self._survey else None

    @classmethod
    def of(cls, manifest: Manifest, folder: UPath) -> Editing:
        """Return the editing of a batch.

        :param manifest: its manifest.
        :param folder: where its files are.
        :raises BatchError: an exported file cannot be read.
        """
        files = enumerate(manifest.files, 1)
        exported = [
            partial(open_file, folder, file, number)
            for number, file in files
            if file.format == TIDEPOOL_EXPORT
        ]
        return cls(manifest.edits, exported, RecordChecker.of(manifest))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._survey is not None:
            self._survey.links.close()

    @property
    def changes(self) -> Counter[str]:
        """How many records were changed, by field."""
        changes: Counter[str] = Counter()
        for maker in (self._cleaner, self._edits):
            if maker is not None:
                changes += maker.changes
        return changes

    @property
    def inside(self) -> AbstractSet[int]:
        """Digests of the contents that travel inside another record and so not alone."""
        return self._survey.links.inside if self._survey else frozenset()

    def lines(self, block: Block, file_format: DataFormat) -> list[bytes]:
        """Return the records of a block as they would be uploaded.

        :param block: records as staged.
        :param file_format: the format of their file.
        """
        lines = block.lines
        if self._cleaner and file_format == TIDEPOOL_EXPORT:
            lines = [self._cleaner.apply(line) for line in lines]
        return [self._edits.apply(line) for line in lines] if self._edits else lines
