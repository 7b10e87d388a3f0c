"""Which errors are retried, and when, as Airflow calls the policy."""

from __future__ import annotations

import importlib
import json
import pkgutil
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator, ExceptionRetryPolicy, RetryAction

import tidepool_airflow
import tidepool_ingest
from tidepool_airflow.operators import (
    TidepoolPlanOperator,
    TidepoolPrepareOperator,
    TidepoolReportOperator,
    TidepoolUploadOperator,
)
from tidepool_airflow.retry import LONGEST_WAIT, RETRY_POLICY, TidepoolRetryPolicy
from tidepool_ingest.client import (
    TidepoolAuthenticationError,
    TidepoolBusyError,
    TidepoolConfigurationError,
    TidepoolPermissionError,
    TidepoolRejectedError,
    TidepoolUnreachableError,
)
from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.ledger.database import LeaseHeldError, LeaseLostError, LedgerUnavailableError
from tidepool_ingest.options import OptionsError
from tidepool_ingest.staging.errors import BatchError


def decided(error: BaseException, try_number: int = 1) -> Any:
    return RETRY_POLICY.evaluate(error, try_number, 3)


# ---------------------------------------------------------------------- what is not tried again


@pytest.mark.parametrize(
    "error",
    [
        TidepoolConfigurationError("use the Tidepool connection", fields=("login",)),
        TidepoolAuthenticationError("open a data set", status=401),
        TidepoolPermissionError("open a data set", status=403),
        TidepoolRejectedError("upload data", status=400),
        OptionsError("This run has parameters that do not exist: x.", "The valid ones are: y."),
        BatchError("connection-not-allowed"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_person_has_to_correct_fails_at_once_and_says_how(error: IngestError) -> None:
    decision = decided(error)

    assert decision.action is RetryAction.FAIL
    assert decision.reason == error.remedy != ""


def test_an_error_without_a_remedy_says_what_happened() -> None:
    assert decided(IngestError("It broke.")).reason == "It broke."


# ---------------------------------------------------------------------- what is


@pytest.mark.parametrize(
    "error",
    [
        TidepoolUnreachableError("close the data set", in_doubt=True),
        TidepoolBusyError("upload data", status=429),
        LedgerUnavailableError("OperationalError"),
        LeaseLostError("batch:1"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_may_succeed_later_is_tried_again_at_the_tasks_own_pace(error: IngestError) -> None:
    decision = decided(error)

    assert (decision.action, decision.retry_delay) == (RetryAction.RETRY, None)
    assert decision.reason == error.what


@pytest.mark.parametrize(
    ("asked", "waited"),
    [
        (17, timedelta(seconds=17)),
        (2.5, timedelta(seconds=2.5)),
        (0, timedelta(seconds=1)),
        (-5, timedelta(seconds=1)),
        (3600, timedelta(hours=1)),
        (86_400, LONGEST_WAIT),
        (1e300, LONGEST_WAIT),
        (float("inf"), LONGEST_WAIT),
        (float("nan"), timedelta(seconds=1)),
    ],
)
@pytest.mark.parametrize("kind", [TidepoolBusyError, TidepoolUnreachableError])
def test_a_wait_that_is_asked_for_is_kept_within_bounds(
    kind: type[TidepoolBusyError], asked: float, waited: timedelta
) -> None:
    decision = decided(kind("upload data", retry_after=asked))

    assert (decision.action, decision.retry_delay) == (RetryAction.RETRY, waited)


def test_another_tasks_lease_is_waited_for() -> None:
    assert decided(LeaseHeldError("batch:1", 42.0)).retry_delay == timedelta(seconds=42)


def test_an_error_that_crossed_a_process_is_still_known() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(TidepoolBusyError("upload data", status=429, retry_after=30)))

    assert decided(error).retry_delay == timedelta(seconds=30)


# ---------------------------------------------------------------------- errors of others


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), MemoryError(), OSError(28, "no space")])
def test_errors_of_others_follow_the_task(error: Exception) -> None:
    assert decided(error).action is RetryAction.DEFAULT


def test_rules_of_ones_own_decide_about_errors_of_others() -> None:
    from airflow.sdk import RetryRule

    policy = TidepoolRetryPolicy([RetryRule(exception=ValueError, action=RetryAction.FAIL)])

    assert policy.evaluate(ValueError("x"), 1, 3).action is RetryAction.FAIL
    assert policy.evaluate(TidepoolBusyError("upload data"), 1, 3).action is RetryAction.RETRY


def every_error() -> list[type[IngestError]]:
    """Return every class of error of the project that can be raised."""
    for package in (tidepool_ingest, tidepool_airflow):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__") and ".migrations" not in module.name:
                importlib.import_module(module.name)
    found, todo = [], [IngestError]
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        if kind.__module__.startswith(("tidepool_ingest", "tidepool_airflow")):
            found.append(kind)
    return found


def test_every_error_of_the_project_has_its_decision() -> None:
    kinds = every_error()
    assert {TidepoolBusyError, BatchError, LeaseHeldError} <= set(kinds)
    for kind in kinds:
        error = kind.__new__(kind)
        error.what, error.remedy = "It broke.", "Mend it."
        expected = RetryAction.RETRY if error.disposition is Disposition.RETRIABLE else RetryAction.FAIL
        assert decided(error).action is expected, kind


# ---------------------------------------------------------------------- on tasks and in serialized form


def test_the_policy_survives_serialization() -> None:
    written = json.loads(json.dumps(RETRY_POLICY.serialize()))
    restored = TidepoolRetryPolicy.deserialize(written)
    as_airflow_knows_it = ExceptionRetryPolicy.deserialize(written)

    assert type(restored) is TidepoolRetryPolicy
    assert restored.serialize() == as_airflow_knows_it.serialize() == written
    assert restored.evaluate(TidepoolBusyError("x", retry_after=9), 1, 3).retry_delay == timedelta(seconds=9)
    assert as_airflow_knows_it.rules[0].matches(TidepoolBusyError("x"))


STEPS: dict[type[BaseOperator], dict[str, Any]] = {
    TidepoolPlanOperator: {},
    TidepoolPrepareOperator: {"batches": [1]},
    TidepoolUploadOperator: {"batches": [1]},
    TidepoolReportOperator: {"packs": [1]},
}


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_every_step_has_the_policy_in_a_dag_of_ones_own(step: type[BaseOperator]) -> None:
    task = step(task_id="one", **STEPS[step])

    assert task.retry_policy is RETRY_POLICY
    assert task.has_retry_policy


@pytest.mark.parametrize("step", [TidepoolPrepareOperator, TidepoolUploadOperator], ids=lambda s: s.__name__)
def test_a_mapped_step_has_policy_and_label_too(step: type[BaseOperator]) -> None:
    with DAG("of_ones_own", schedule=None, default_args={"tidepool_conn_id": "clinic_a"}):
        mapped = step.partial(task_id="one").expand(batches=[[1], [2]])
    task = mapped.unmap({"batches": [2]})

    assert mapped.has_retry_policy
    assert mapped.map_index_template == task.map_index_template == "{{ label }}"
    assert task.retry_policy is RETRY_POLICY
    assert (task.batch, task.tidepool_conn_id) == (2, "clinic_a")


@pytest.mark.parametrize("given", [None, ExceptionRetryPolicy([])])
def test_a_policy_of_ones_own_wins(given: ExceptionRetryPolicy | None) -> None:
    assert TidepoolUploadOperator(task_id="one", batches=[1], retry_policy=given).retry_policy is given
    with DAG("of_ones_own", schedule=None, default_args={"retry_policy": given}):
        assert TidepoolUploadOperator(task_id="one", batches=[1]).retry_policy is given
