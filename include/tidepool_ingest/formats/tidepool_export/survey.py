"""The first pass over the exported files of a batch: it finds what no single record shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidepool_ingest.digests import digest_of
from tidepool_ingest.formats.reader import Block, ReadingContext
from tidepool_ingest.formats.tidepool_export.cleaning import ExportCleaner, Links, keys_of, link_of
from tidepool_ingest.formats.tidepool_export.units import ClaimedUnits, kind_of
from tidepool_ingest.model import NotDecodableError, decode

ExportedFile = Callable[[], Iterable[Block]]
"""Opens an exported file from its beginning."""

See = Callable[[int, Mapping[str, Any], int], None]
"""Gets which of the files a record is in, the record, and its position in it."""


@dataclass(frozen=True)
class Survey:
    """What the first pass has found.

    :param mislabelled: kinds of records whose mg/dL values are really mmol/L.
    :param links: what to embed where; to be closed at the end.
    """

    mislabelled: frozenset[str]
    links: Links

    def cleaner(self) -> ExportCleaner:
        """Return the cleaner that uses it."""
        return ExportCleaner(self.mislabelled, self.links)


def survey(files: Sequence[ExportedFile], context: ReadingContext, see: See | None = None) -> Survey:
    """Read exported files: once, and once more if there are links.

    Wrong labels are not looked for if the manifest says which unit the values are in.

    :param files: the exported files of a batch.
    :param context: says which records would be accepted, once they are cleaned.
    :param see: gets each record of the first pass.
    """
    units, links = ClaimedUnits(), Links()
    for _line, datum in _records(files, see):
        units.see(datum)
        if key := link_of(kind_of(datum), datum):
            links.add(key)
    found = Survey(frozenset() if context.units_are_given else units.mislabelled(), links)
    if links:
        try:
            _follow(files, links, ExportCleaner(found.mislabelled), context)
        except BaseException:
            links.close()
            raise
    links.resolve()
    return found


def _follow(
    files: Sequence[ExportedFile],
    links: Links,
    cleaner: ExportCleaner,
    context: ReadingContext,
) -> None:
    """Offer to each link the acceptable records that contain it and that it leads to."""
    for line, datum in _records(files):
        kind = kind_of(datum)
        link = link_of(kind, datum)
        targets = [key for key in keys_of(kind, datum) if key in links]
        if link not in links and not targets:
            continue
        cleaned = cleaner.apply(line)
        accepted = context.accepts(cleaned)
        if accepted is None:
            continue
        if link is not None:
            links.offer_holder(link, digest_of(cleaned))
        for key in targets:
            links.offer_target(key, accepted.content, accepted.text)


def _records(
    files: Sequence[ExportedFile], see: See | None = None
) -> Iterator[tuple[bytes, Mapping[str, Any]]]:
    """Yield the records of all files that are JSON objects."""
    for number, read in enumerate(files):
        for block in read():
            for line, position in zip(block.lines, block.row_positions, strict=True):
                try:
                    datum = decode(line)
                except NotDecodableError:
                    continue
                if isinstance(datum, dict):
                    if see is not None:
                        see(number, datum, position)
                    yield line, datum
