"""Which batches travel together.

A task costs Airflow about half a second of a processor, a small batch much less. So where there are many, one
task works off a pack of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tidepool_ingest.ledger import BatchRow
from tidepool_ingest.options import BATCHES_A_PACK, BATCHES_ALONE

MAX_PACKS = 1_000
"""Packs a run. Source: Airflow refuses more than 1,024 mapped tasks (``max_map_length``)."""

Device = tuple[str, str, str | None]


def device_of(batch: BatchRow) -> Device:
    """Return what batches have in common whose order matters: host, user, and device or feed."""
    return batch.api_host, batch.user_id, None if batch.data_set_type == "continuous" else batch.device_id


def by_device(batches: Iterable[BatchRow]) -> list[list[BatchRow]]:
    """Put the batches of each device together, in the order in which they come."""
    found: dict[Device, list[BatchRow]] = {}
    for batch in batches:
        found.setdefault(device_of(batch), []).append(batch)
    return list(found.values())


def packs_of(
    batches: Sequence[BatchRow], *, alone: int = BATCHES_ALONE, size: int = BATCHES_A_PACK
) -> list[list[int]]:
    """Divide batches among tasks.

    The batches of one device stay in one pack: it works them off in their order, so that no newer one is
    closed before an older one.

    :param batches: in the order in which they should be uploaded.
    :param alone: up to so many, each is a pack of its own.
    :param size: batches a pack; more where one device has more, or where there would be too many packs.
    :return: the ledger's numbers of each pack's batches.
    """
    if len(batches) <= alone:
        return [[batch.id] for batch in batches]
    # Two packs that follow each other hold more than `size` together, or they would be one.
    size = max(size, -(-2 * len(batches) // MAX_PACKS))
    packs: list[list[int]] = [[]]
    for group in by_device(batches):
        if packs[-1] and len(packs[-1]) + len(group) > size:
            packs.append([])
        packs[-1] += [batch.id for batch in group]
    return packs


def label_of_pack(batches: Sequence[BatchRow]) -> str:
    """Return how logs and pages name a pack: how many batches, of which days."""
    days = sorted({batch.day for batch in batches})
    when = str(days[0]) if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"{len(batches)} batches of {when}"
