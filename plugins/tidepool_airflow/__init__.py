"""Tidepool uploads in Airflow.

The names in this module's ``__all__`` are for authors of DAGs; they keep their meaning within a major
version, and everything else may change.

* DAGs: :func:`tidepool_dags` makes all of them in a team's own DAG folder; :func:`normal_upload_dag`,
  :func:`continuous_upload_dag`, :func:`on_arrival_dag`, :func:`reconcile_dag`, :func:`action_dag` and
  :func:`digest_dag` make one each.
* Hook: :class:`TidepoolHook` is Tidepool behind an Airflow connection, call by call.
* Operators: :class:`TidepoolPlanOperator`, :class:`TidepoolPrepareOperator`, :class:`TidepoolUploadOperator`
  or :class:`TidepoolContinuousUploadOperator`, :class:`TidepoolLeftOperator` and
  :class:`TidepoolReportOperator` are the steps of an upload run; :class:`TidepoolReconcileOperator` is the
  maintenance, :class:`TidepoolActionOperator` carries out what people request on the uploads page, and
  :class:`TidepoolDigestOperator` sends a digest of what needs attention.
* Notices: :class:`TidepoolFailureNotifier`, for ``on_failure_callback`` of the last task of a run.
* Links: :class:`TidepoolUploadLink`, :class:`TidepoolQuarantineLink` and :class:`TidepoolDataSetLink` are for
  ``operator_extra_links`` of an operator with an attribute ``batch`` or ``data_set_url``.
* Parameters: :func:`upload_params`, :func:`reconcile_params` and :func:`action_params` are the trigger forms,
  for ``params`` of a DAG with these operators.
* Assets: ``STAGED`` and ``UPLOADS``, for ``schedule`` of a DAG; ``UPLOADS`` is also for ``outlets`` of the
  report task.
* Retries: :class:`TidepoolRetryPolicy`; ``RETRY_POLICY`` is the operators' default.

Each is imported when it is first used, so that importing this module costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidepool_airflow.assets import STAGED, UPLOADS
    from tidepool_airflow.dag_factory import (
        action_dag,
        continuous_upload_dag,
        digest_dag,
        normal_upload_dag,
        on_arrival_dag,
        reconcile_dag,
        tidepool_dags,
    )
    from tidepool_airflow.hook import TidepoolHook
    from tidepool_airflow.links import TidepoolDataSetLink, TidepoolQuarantineLink, TidepoolUploadLink
    from tidepool_airflow.notices import TidepoolFailureNotifier
    from tidepool_airflow.operators import (
        TidepoolActionOperator,
        TidepoolContinuousUploadOperator,
        TidepoolDigestOperator,
        TidepoolLeftOperator,
        TidepoolPlanOperator,
        TidepoolPrepareOperator,
        TidepoolReconcileOperator,
        TidepoolReportOperator,
        TidepoolUploadOperator,
    )
    from tidepool_airflow.params import action_params, reconcile_params, upload_params
    from tidepool_airflow.retry import RETRY_POLICY, TidepoolRetryPolicy

__all__ = [
    "RETRY_POLICY",
    "STAGED",
    "UPLOADS",
    "TidepoolActionOperator",
    "TidepoolContinuousUploadOperator",
    "TidepoolDataSetLink",
    "TidepoolDigestOperator",
    "TidepoolFailureNotifier",
    "TidepoolHook",
    "TidepoolLeftOperator",
    "TidepoolPlanOperator",
    "TidepoolPrepareOperator",
    "TidepoolQuarantineLink",
    "TidepoolReconcileOperator",
    "TidepoolReportOperator",
    "TidepoolRetryPolicy",
    "TidepoolUploadLink",
    "TidepoolUploadOperator",
    "action_dag",
    "action_params",
    "continuous_upload_dag",
    "digest_dag",
    "normal_upload_dag",
    "on_arrival_dag",
    "reconcile_dag",
    "reconcile_params",
    "tidepool_dags",
    "upload_params",
]

_MODULES = {
    "_dag": "dag_factory",
    "_dags": "dag_factory",
    "Hook": "hook",
    "Operator": "operators",
    "Notifier": "notices",
    "Link": "links",
    "_params": "params",
    "Policy": "retry",
    "_POLICY": "retry",
}
"""The module that defines a public name, by the end of the name; all others are assets."""


def __getattr__(name: str) -> Any:
    """Return a public name from the module that defines it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = next((module for end, module in _MODULES.items() if name.endswith(end)), "assets")
    return getattr(import_module(f"{__name__}.{module}"), name)
