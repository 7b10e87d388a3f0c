"""A giant batch is cut into parts: data sets of a size that closes and reads back in good time.

Each part gets a work area of its own, as whole as that of any batch, so that whatever comes after works on
parts as on batches. The batch's own plan is written when all of them are there: until then none counts.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress
from typing import Final

from tidepool_ingest.model.deduplicators import DEVICE_DEACTIVATE_HASH, NONE, NORMAL, deduplicator_named
from tidepool_ingest.prepare.chunking import Chunking
from tidepool_ingest.prepare.cutting import Cut, placed, where_to_cut
from tidepool_ingest.prepare.record_days import RecordDays
from tidepool_ingest.staging.chunk_plan import Part, PreparedBatch, Run, Whole
from tidepool_ingest.staging.manifest import Manifest
from tidepool_ingest.staging.work_area import WorkArea

log = logging.getLogger(__name__)

CUT_UNDER: Final = frozenset({DEVICE_DEACTIVATE_HASH.name, NONE.name})
"""Deduplicators under which a batch may be cut.

Under the one that truncates, the close of each part would delete the parts before it; the one that goes by
origins compares what lies in one data set.
"""


def may_be_cut(manifest: Manifest) -> bool:
    """Tell whether the records of a batch may go into several data sets."""
    deduplicator = deduplicator_named(manifest.deduplicator_name)
    return manifest.data_set_type == NORMAL and deduplicator is not None and deduplicator.name in CUT_UNDER


def cut_into_parts(work: WorkArea, prepared: PreparedBatch, limit: int) -> PreparedBatch:
    """Cut a batch into parts if it has more records than a part may hold, and return the plan that says so.

    Parts that are there already, from an interrupted attempt, are not written again: the same records are cut
    in the same places.

    :param work: the batch's work area with its accepted records; the plan is not written yet.
    :param prepared: the batch's plan, not cut.
    :param limit: records a part, at most.
    """
    prepared = prepared.model_copy(update={"part_records": limit})
    if prepared.travelling <= limit:
        return prepared
    cut = where_to_cut(work, prepared.chunks, limit)
    if len(cut.begins) == 1:
        log.warning("A batch of %d records stays whole: none can be told apart.", prepared.travelling)
        return prepared
    keys = [_key_of(prepared, cut, number) for number in range(len(cut.begins))]
    work.announce_parts(keys)
    parts = tuple(_part(work, prepared, cut, number, key) for number, key in enumerate(keys))
    filed = sum(part.records for part in parts), sum(part.expected_rows for part in parts)
    if filed != (prepared.travelling, prepared.expected_rows):
        raise AssertionError("the parts do not hold what the batch does")
    log.info("%d records are cut into %d parts.", prepared.travelling, len(parts))
    return prepared.model_copy(update={"parts": parts, "chunks": ()})


def _part(work: WorkArea, prepared: PreparedBatch, cut: Cut, number: int, key: str) -> Part:
    area = work.beside(key)
    plan = area.load()
    if plan is None or plan.chunk_records != prepared.chunk_records:
        plan = _filed(work, area, prepared, cut, number)
    return Part(
        content_key=key,
        records=plan.records,
        expected_rows=plan.expected_rows,
        chunks=plan.requests,
        size=plan.size,
    )


def _key_of(prepared: PreparedBatch, cut: Cut, number: int) -> str:
    """Return the content key of a part: another one for every other cut, and for other accepted records."""
    text = "\n".join(("part", prepared.content_key, cut.content, str(number), *cut.begins))
    return hashlib.sha256(text.encode()).hexdigest()


def _filed(work: WorkArea, area: WorkArea, prepared: PreparedBatch, cut: Cut, number: int) -> PreparedBatch:
    """Write the work area of one part."""
    begin, end = cut.window(number)
    days = RecordDays()
    records = rows = 0
    area.begin()
    with area.accepted_writer() as accepted:
        chunking = Chunking(accepted, prepared.chunk_records)
        for chunk in cut.chunks_of(number, prepared.chunks):
            found = placed(work, chunk)
            inside = [moment >= begin and (end is None or moment < end) for moment in found.moments]
            for run, left_out in _left_out(chunk.places, inside):
                chunking.places.add(run.file, run.position, run.records, left_out)
            kept = list(compress(found.lines, inside))
            chunking.add(kept, plain=chunk.plain)
            days.add(compress(found.times, inside), compress(found.kinds, inside))
            records += len(kept)
            rows += len(kept) + sum(len(others) for at, others in found.others.items() if inside[at])
        chunking.finish()
    plan = PreparedBatch(
        content_key=area.content_key,
        chunk_records=prepared.chunk_records,
        data_set=prepared.data_set,
        records=records,
        accepted=days.by_type(),
        days=days.by_day(),
        expected_rows=rows,
        chunks=tuple(accepted.chunks),
        whole=Whole(
            content_key=prepared.content_key,
            records=prepared.records,
            accepted=sum(prepared.accepted.values()),
            quarantined=prepared.quarantined,
            expected_rows=prepared.expected_rows,
        ),
    )
    area.finish(plan)
    return plan


def _left_out(places: Iterable[Run], inside: Sequence[bool]) -> Iterator[tuple[Run, list[int]]]:
    """Yield each run of staged places with the indexes in it of records that go to other parts."""
    first = 0
    for run in places:
        yield run, [at for at in range(run.records) if not inside[first + at]]
        first += run.records
