"""Step two of the pipeline: validate, edit, quarantine, chunk."""

from __future__ import annotations

from tidepool_ingest.prepare.step import ensure_prepared, prepare_batch, rebuild_work_area
from tidepool_ingest.prepare.summary import PrepareSummary

__all__ = ["PrepareSummary", "ensure_prepared", "prepare_batch", "rebuild_work_area"]
