"""Data that came out of Tidepool, made fit to go into it again: the format ``tidepool-export``.

An export shows records as the Platform keeps them: with what it has added to each, with links where a bolus
or status was once embedded, and, in old exports, with mmol/L values under a label that says mg/dL. A first
look over all of a batch's exported files finds out what only the whole can tell (:mod:`.survey`); then each
record is cleaned on its own (:mod:`.cleaning`) and goes the way of any other.
"""

from __future__ import annotations

from tidepool_ingest.prepare.export.cleaning import ExportCleaner
from tidepool_ingest.prepare.export.survey import ExportedFile, Survey, survey

__all__ = ["ExportCleaner", "ExportedFile", "Survey", "survey"]
