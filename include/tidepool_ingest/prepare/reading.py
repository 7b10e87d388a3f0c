"""The records of a batch as they would be uploaded: read by format, then edited as its manifest says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from tidepool_ingest.formats import PlainFiles, SourceReader
from tidepool_ingest.formats.reader import Block, Candidate, Device, ReadingContext
from tidepool_ingest.model import validate_lines
from tidepool_ingest.model.verdict import collector_paused
from tidepool_ingest.prepare.digests import content_digest
from tidepool_ingest.prepare.record_checks import RecordChecker
from tidepool_ingest.staging.source_file import SourceFile, files_of
from tidepool_ingest.staging.storage import StoragePath

if TYPE_CHECKING:
    from tidepool_ingest.staging.edits import Edits
    from tidepool_ingest.staging.manifest import Manifest, RecordEdits


class RecordReader:
    """Reads the records of some files; to be used in a ``with`` statement.

    :param files: the files, in their order.
    :param edits: the edits in the manifest.
    :param checker: what is checked beyond the Platform's own verdict.
    :param plain: looks for exports of the web page among the files, if they are to be looked for.
    :param context: what else the readers of the files may need to know.
    """

    def __init__(
        self,
        files: Sequence[SourceFile],
        edits: RecordEdits | None = None,
        checker: RecordChecker | None = None,
        *,
        plain: PlainFiles | None = None,
        context: ReadingContext | None = None,
    ) -> None:
        self._edits = _edits_of(edits) if edits else None
        self._uncounted = _edits_of(edits) if edits else None
        self._plain = plain or PlainFiles(())
        self._checker = checker or RecordChecker()
        units_are_given = bool(edits and edits.glucose_units)
        context = context or ReadingContext()
        self._source = SourceReader(
            files, replace(context, accepts=self._accepts, units_are_given=units_are_given)
        )

    @classmethod
    def of(cls, manifest: Manifest, folder: StoragePath) -> RecordReader:
        """Return the reader of a batch.

        :param manifest: its manifest.
        :param folder: where its files are.
        """
        files = files_of(manifest, folder)
        context = ReadingContext(
            timezone=manifest.timezone, device_id=manifest.device_id, meant_as=manifest.meant_as
        )
        checker = RecordChecker.of(manifest)
        return cls(files, manifest.edits, checker, plain=PlainFiles(files), context=context)

    def __enter__(self) -> Self:
        """Let the readers survey the files that they read twice.

        :raises BatchError: a file cannot be read.
        :raises FileHeldError: a person has to say what a file means.
        """
        self._source.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._source.__exit__(*error)

    @property
    def changes(self) -> Counter[str]:
        """How many records were changed, by field."""
        return self._source.changes + (self._edits.changes if self._edits else Counter[str]())

    @property
    def rows(self) -> Counter[int]:
        """How many rows were read, by number of the file."""
        return self._source.rows

    def devices(self) -> list[Device]:
        """Return which devices the files tell of; none where records name them."""
        return self._source.devices()

    @property
    def embedded(self) -> AbstractSet[int]:
        """Digests of the contents that are sent inside another record, and so not on their own."""
        return self._source.embedded

    def __iter__(self) -> Iterator[Block]:
        """Yield the blocks of all files, once, with edits made, and check each file against the manifest.

        :raises BatchError: a file cannot be read, or is not the one that the manifest means.
        :raises ExportKindError: a file is an export of Tidepool's web page, and its format says otherwise.
        """
        for block in self._source:
            self._plain.see(block)
            if self._edits is None:
                yield block
                continue
            with collector_paused():
                edited = [self._edits.apply(line) for line in block.lines]
            yield replace(block, lines=edited, staged=block.lines if block.staged is None else block.staged)
        self._plain.check()

    def _accepts(self, line: bytes) -> Candidate | None:
        text = line if self._uncounted is None else self._uncounted.apply(line)
        (validated,) = validate_lines([text])
        datum = None if validated.problems else validated.datum
        if datum is None or self._checker.check_record(datum, ()).rejected:
            return None
        return Candidate(text, content_digest(text, datum))


def _edits_of(edits: RecordEdits) -> Edits:
    # Loaded only here, for its patterns: most batches are sent as they are.
    from tidepool_ingest.staging.edits import Edits

    return Edits(edits)
