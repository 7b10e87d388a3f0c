"""The DAGs that the pages in Airflow's UI know of."""

from __future__ import annotations

from typing import Final

UPLOAD_DAG: Final = "tidepool_normal_upload"
"""Who may see its runs sees the page; who may trigger it may act there."""

ACTION_DAG: Final = "tidepool_action"
"""Does what somebody has asked for on the page."""

DAG_OF_TYPE: Final = {"normal": UPLOAD_DAG, "continuous": "tidepool_continuous_upload"}
"""Which DAG uploads batches of a type of data set."""

BATCH_GROUP: Final = "batch"
"""The task group of the upload DAGs in which a plan's batches, or packs of them, are uploaded."""

RECONCILE_DAG: Final = "tidepool_reconcile"
"""Brings to an end what uploads have left unfinished."""
