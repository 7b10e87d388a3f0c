"""Which batch a manifest's ``replaces`` means, and whether that one can be replaced."""

from __future__ import annotations

from collections.abc import Sequence

from tidepool_ingest.ledger import BatchRow, BatchState, DataSetState, Ledger
from tidepool_ingest.staging.errors import BatchError


def replaced_by(row: BatchRow, name: str | None, ledger: Ledger) -> int | None:
    """Return the ledger's number of the batch that another one replaces.

    Only what is verified, of the same user and device and at the same Tidepool, can be replaced: otherwise
    nobody knows what would have to be deleted.

    :param row: the batch that replaces.
    :param name: the id of the batch it names, ``None`` when it names none.
    :param ledger: knows the user's batches.
    :raises BatchError: ``replaces-itself``, ``replaces-unknown``, ``replaces-other-device``,
        ``replaces-ambiguous`` or ``replaces-not-verified``.
    """
    if name is None:
        return None
    if name == row.batch_id:
        raise BatchError("replaces-itself")
    named = [
        one
        for one in ledger.batches.namesakes(row.api_host, row.user_id, name)
        if one.state is not BatchState.REPLACED and one.id != row.id
    ]
    if not named:
        raise BatchError("replaces-unknown")
    same_device = [one for one in named if one.device_id == row.device_id]
    if not same_device:
        raise BatchError("replaces-other-device")
    return _replaceable(row, same_device, ledger)


def _replaceable(row: BatchRow, named: Sequence[BatchRow], ledger: Ledger) -> int:
    """Return the one that is verified, or that this batch has begun to replace already."""
    numbers = {one.id: one.id for one in named}
    numbers |= {part.id: one.id for one in named for part in ledger.parts.of_batch(one.id)}
    verified = {
        numbers[one.batch]
        for one in ledger.data_sets.of_batches(list(numbers))
        if one.state is DataSetState.VERIFIED
    }
    for one in named:
        if one.state is BatchState.CORRECTED and row.replaces == one.id:
            return one.id
    candidates = [one.id for one in named if one.state is not BatchState.CORRECTED and one.id in verified]
    if len(candidates) > 1:
        raise BatchError("replaces-ambiguous")
    if candidates:
        return candidates[0]
    corrected = any(one.state is BatchState.CORRECTED for one in named)
    raise BatchError(
        "replaces-not-verified",
        detail="another batch has replaced it already" if corrected else None,
    )
