"""The kind of error that a guard raises."""

from __future__ import annotations

from tidepool_ingest.errors import Disposition, IngestError


class HeldError(IngestError):
    """The batch could be uploaded, but a person has to look at it first; nothing of it is left open."""

    disposition: Disposition = Disposition.DATA
