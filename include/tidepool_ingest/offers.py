"""What a person can do with an upload, by where it stands."""

from __future__ import annotations

from tidepool_ingest.ledger import BatchState, Upload, What

TRIED_AGAIN = (
    BatchState.PLANNED,
    BatchState.PREPARED,
    BatchState.UPLOADING,
    BatchState.HELD,
    BatchState.FAILED,
)
"""States from which a run of the batch's day goes on."""

TAKEN_BACK = (BatchState.UPLOADING, BatchState.VERIFIED)


def offers(upload: Upload) -> tuple[What, ...]:
    """Return what can be asked for.

    A continuous data set is shared by all batches of its feed: none of them can be taken back, nor told apart
    from what later ones have replaced.

    :param upload: the batch and its newest data set.
    """
    own_set = upload.data_set is not None and upload.data_set_type == "normal"
    offered = {
        What.RETRY: upload.state in TRIED_AGAIN,
        What.CHECK: own_set and upload.state is BatchState.VERIFIED,
        What.WITHDRAW: own_set and upload.state in TAKEN_BACK,
    }
    return tuple(what for what, possible in offered.items() if possible)
