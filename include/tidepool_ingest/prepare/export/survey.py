"""The first look over the exported files of a batch: what only the whole of it can tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidepool_ingest.digests import digest_of
from tidepool_ingest.model import NotDecodableError, decode, judge_lines
from tidepool_ingest.prepare.digests import content_digest
from tidepool_ingest.prepare.export.cleaning import ExportCleaner, Links, keys_of, link_of
from tidepool_ingest.prepare.export.units import ClaimedUnits, kind_of
from tidepool_ingest.prepare.record_checks import RecordChecker
from tidepool_ingest.staging.ndjson import Block

ExportedFile = Callable[[], Iterable[Block]]
"""Opens an exported file from its beginning."""


@dataclass(frozen=True)
class Survey:
    """What a first look has found out.

    :param mislabelled: kinds of records whose mg/dL values are mmol/L in truth.
    :param links: what to embed where; to be closed at the end.
    """

    mislabelled: frozenset[str]
    links: Links

    def cleaner(self) -> ExportCleaner:
        """Return what cleans the records, knowing all this."""
        return ExportCleaner(self.mislabelled, self.links)


def survey(
    files: Sequence[ExportedFile],
    *,
    edited: Callable[[bytes], bytes],
    checker: RecordChecker,
    relabels: bool,
) -> Survey:
    """Look over exported files: once, and once more if there are links.

    :param files: the exported files of a batch.
    :param edited: makes the edits that the manifest asks for, behind the cleaning.
    :param checker: what is looked at beyond the Platform's own verdict.
    :param relabels: whether to find labels that are wrong; not if the manifest says the units itself.
    """
    units, links = ClaimedUnits(), Links()
    for _line, datum in _records(files):
        units.see(datum)
        if key := link_of(kind_of(datum), datum):
            links.want(key)
    found = Survey(units.mislabelled() if relabels else frozenset(), links)
    if links:
        try:
            _follow(files, links, ExportCleaner(found.mislabelled), edited, checker)
        except BaseException:
            links.close()
            raise
    links.settle()
    return found


def _follow(
    files: Sequence[ExportedFile],
    links: Links,
    cleaner: ExportCleaner,
    edited: Callable[[bytes], bytes],
    checker: RecordChecker,
) -> None:
    """Offer to each link the acceptable records that hold it and that it leads to."""
    for line, datum in _records(files):
        kind = kind_of(datum)
        link = link_of(kind, datum)
        targets = [key for key in keys_of(kind, datum) if key in links]
        if link not in links and not targets:
            continue
        cleaned = cleaner.apply(line)
        text = edited(cleaned)
        ((sendable, problems),) = judge_lines([text])
        if problems or sendable is None or checker.look_at(sendable, ()).refused:
            continue
        if link is not None:
            links.offer_holder(link, digest_of(cleaned))
        for key in targets:
            links.offer_target(key, content_digest(text, sendable), text)


def _records(files: Sequence[ExportedFile]) -> Iterator[tuple[bytes, Mapping[str, Any]]]:
    """Yield the records of all files that are JSON objects."""
    for opened in files:
        for block in opened():
            for line in block.lines:
                try:
                    datum = decode(line)
                except NotDecodableError:
                    continue
                if isinstance(datum, dict):
                    yield line, datum
