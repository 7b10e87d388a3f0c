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

STOPPED = (BatchState.HELD, BatchState.FAILED)
"""States in which a batch that is cut into parts may show some of them all the same."""


def offers(upload: Upload) -> tuple[What, ...]:
    """Return what can be asked for.

    A continuous data set is shared by all batches of its feed: none of them can be taken back, nor told apart
    from what later ones have replaced. A part goes on, and is taken back, with the whole batch.

    :param upload: the batch and its newest data set.
    """
    if upload.data_set_type != "normal":
        return (What.RETRY,) if upload.state in TRIED_AGAIN else ()
    is_part = upload.part_of is not None
    shows = upload.data_set is not None or upload.begun
    offered = {
        What.RETRY: upload.state in TRIED_AGAIN and not is_part,
        What.CHECK: shows and upload.state is BatchState.VERIFIED,
        What.WITHDRAW: (shows and upload.state in TAKEN_BACK and not is_part)
        or (upload.begun and upload.state in STOPPED),
    }
    return tuple(what for what, possible in offered.items() if possible)
