"""Batches, each beside the newest data set that was begun for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, func, select

from tidepool_ingest.ledger.schema import batches, data_sets


def with_newest_set(of_batch: Sequence[str], of_data_set: Sequence[str]) -> Select[Any]:
    """Select batches as ``batch``, the newest data set of each as ``data_set_id`` and ``data_set_state``.

    :param of_batch: further columns of the batch.
    :param of_data_set: further columns of the data set; empty where none was begun.
    """
    others = data_sets.alias()
    newest = select(func.max(others.c.ordinal)).where(others.c.batch == batches.c.id).scalar_subquery()
    return select(
        batches.c.id.label("batch"),
        *(batches.c[name] for name in of_batch),
        data_sets.c.upload_id.label("data_set_id"),
        data_sets.c.state.label("data_set_state"),
        *(data_sets.c[name] for name in of_data_set),
    ).select_from(
        batches.outerjoin(data_sets, (data_sets.c.batch == batches.c.id) & (data_sets.c.ordinal == newest))
    )
