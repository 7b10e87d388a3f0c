"""Why a local run cannot start or go on."""

from __future__ import annotations

from tidepool_ingest.errors import IngestError


class LocalRunError(IngestError):
    """Something on this machine is in the way: a port, another run, a part that ended by itself."""
