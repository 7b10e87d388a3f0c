"""The maintenance job: bring to an end what was left unfinished, look again at what was verified."""

from __future__ import annotations

from tidepool_ingest.reconcile.counts import Reconciled
from tidepool_ingest.reconcile.step import Reconciliation

__all__ = ["Reconciled", "Reconciliation"]
