"""Packs: many small batches that travel in one task, each on its own."""

from __future__ import annotations

from tidepool_ingest.packs.making import MAX_PACKS, label_of_pack, packs_of
from tidepool_ingest.packs.work import PackOutcome, PackStoppedError, PackWork

__all__ = ["MAX_PACKS", "PackOutcome", "PackStoppedError", "PackWork", "label_of_pack", "packs_of"]
