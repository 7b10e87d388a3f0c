"""What a prepared batch would change at Tidepool, found out without opening anything."""

from __future__ import annotations

from tidepool_ingest.comparison.result import COLUMNS, Compared, Comparisons
from tidepool_ingest.comparison.step import compare_batch

__all__ = ["COLUMNS", "Compared", "Comparisons", "compare_batch"]
