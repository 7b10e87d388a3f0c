"""A verified batch that is cut into parts is read back again, part by part."""

from __future__ import annotations

import threading

from upath import UPath

from tidepool_ingest.ledger import BatchRow, Ledger
from tidepool_ingest.tidepool import ClientSettings, TidepoolClient
from tidepool_ingest.upload.caution import UploadStoppedError
from tidepool_ingest.upload.recheck import BatchRecheck, ChangedSinceError, Rechecked
from tidepool_ingest.upload.timing import Timing
from tidepool_ingest.upload.verify import Comparison


class PartsRecheck:
    """Reads the parts of one verified batch back again.

    :param looking: the look at each part, in their order.
    """

    def __init__(self, looking: list[BatchRecheck]) -> None:
        self._looking = looking
        self._stopping = threading.Event()

    def run(self) -> Rechecked | None:
        """Compare what each part shows with what was sent; nothing happens to one that is not verified.

        :raises ChangedSinceError: rows of a part are lost or double; the others were looked at all the same.
        :raises LeaseHeldError: if another task is at work on a part or its device.
        """
        found: list[Rechecked] = []
        changed: ChangedSinceError | None = None
        for one in self._looking:
            if self._stopping.is_set():
                raise UploadStoppedError
            try:
                right = one.run()
            except ChangedSinceError as error:
                changed = changed or error
            else:
                found += [] if right is None else [right]
        if changed is not None:
            raise changed
        if not found:
            return None
        seen = [one.comparison for one in found]
        summed = Comparison(
            sum(one.expected for one in seen),
            sum(one.visible for one in seen),
            superseded=sum(one.superseded for one in seen),
        )
        return Rechecked(found[-1].data_set_id, summed)

    def stop(self) -> None:
        """Let :meth:`run` end before its next request; quick, and safe to call from a signal handler."""
        self._stopping.set()
        for one in self._looking:
            one.stop()


def recheck_of(
    client: TidepoolClient,
    ledger: Ledger,
    batch: BatchRow,
    root: UPath,
    settings: ClientSettings,
    *,
    timing: Timing | None = None,
) -> BatchRecheck | PartsRecheck:
    """Return the later look at a verified batch, or at each of its parts; see :class:`BatchRecheck`."""
    parts = ledger.parts.of_batch(batch.id)
    looking = [BatchRecheck(client, ledger, one, root, settings, timing=timing) for one in (parts or [batch])]
    return PartsRecheck(looking) if parts else looking[0]
