"""The operators: the steps of an upload run, maintenance, and the actions that people request."""

from __future__ import annotations

from tidepool_airflow.operators.action import TidepoolActionOperator
from tidepool_airflow.operators.digest import TidepoolDigestOperator
from tidepool_airflow.operators.plan import TidepoolLeftOperator, TidepoolPlanOperator
from tidepool_airflow.operators.prepare import TidepoolPrepareOperator
from tidepool_airflow.operators.reconcile import TidepoolReconcileOperator
from tidepool_airflow.operators.report import TidepoolReportOperator
from tidepool_airflow.operators.upload import (
    TidepoolContinuousUploadOperator,
    TidepoolUploadOperator,
)

__all__ = [
    "TidepoolActionOperator",
    "TidepoolContinuousUploadOperator",
    "TidepoolDigestOperator",
    "TidepoolLeftOperator",
    "TidepoolPlanOperator",
    "TidepoolPrepareOperator",
    "TidepoolReconcileOperator",
    "TidepoolReportOperator",
    "TidepoolUploadOperator",
]
