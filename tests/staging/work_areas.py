"""A work area with something in it."""

from __future__ import annotations

from tidepool_ingest.staging.quarantine import Place
from tidepool_ingest.staging.work_area import PreparedBatch, WorkArea

KEY = "ab" * 32


def fill(area: WorkArea) -> PreparedBatch:
    area.begin()
    with area.accepted_writer() as accepted, area.quarantine_writer() as quarantine:
        accepted.write([b'{"v":6.10}', b'{"v":"\xc3\xa9"}'], plain=True)
        accepted.write([b'{"v":3}'])
        quarantine.add(Place(1, 2), [("value-not-exists", "/time")], b'{"v":4}')
        chunks = tuple(accepted.chunks)
    prepared = PreparedBatch(
        content_key=KEY,
        chunk_records=1000,
        data_set={},
        records=4,
        accepted={"cbg": 3},
        quarantined=1,
        chunks=chunks,
    )
    area.finish(prepared)
    return prepared
