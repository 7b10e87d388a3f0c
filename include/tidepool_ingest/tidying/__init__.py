"""What is over is tidied away: work areas of batches that are done, and rows that nobody needs any more."""

from __future__ import annotations

from tidepool_ingest.tidying.keeping import Keeping
from tidepool_ingest.tidying.step import TidiedAway, Tidying

__all__ = ["Keeping", "TidiedAway", "Tidying"]
