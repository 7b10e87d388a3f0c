"""The operators, one for each step of the job, and one for maintenance."""

from __future__ import annotations

from tidepool_airflow.operators.plan import TidepoolPlanOperator
from tidepool_airflow.operators.prepare import TidepoolPrepareOperator
from tidepool_airflow.operators.reconcile import TidepoolReconcileOperator
from tidepool_airflow.operators.report import TidepoolReportOperator
from tidepool_airflow.operators.upload import TidepoolContinuousUploadOperator, TidepoolUploadOperator

__all__ = [
    "TidepoolContinuousUploadOperator",
    "TidepoolPlanOperator",
    "TidepoolPrepareOperator",
    "TidepoolReconcileOperator",
    "TidepoolReportOperator",
    "TidepoolUploadOperator",
]
