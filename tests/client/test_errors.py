from __future__ import annotations

import copy
import pickle

import pytest

from tidepool_ingest.client import errors as module
from tidepool_ingest.client.errors import (
    Problem,
    TidepoolAuthenticationError,
    TidepoolBusyError,
    TidepoolConfigurationError,
    TidepoolDataSetClosedError,
    TidepoolError,
    TidepoolNotFoundError,
    TidepoolPermissionError,
    TidepoolRejectedError,
    TidepoolUnexpectedAnswerError,
    TidepoolUnreachableError,
)
from tidepool_ingest.errors import Disposition

from .wire import CANARY

EVERY = [
    TidepoolConfigurationError("connect", fields=("host",), reason="it is no host"),
    TidepoolAuthenticationError("log in", place="api.tidepool.org", status=401, codes=["unauthenticated"]),
    TidepoolPermissionError("upload data", status=403, codes=["unauthorized"], trace_id="abc"),
    TidepoolNotFoundError("get the data set", status=404),
    TidepoolDataSetClosedError("upload data", status=409, codes=["data-set-closed"]),
    TidepoolUnexpectedAnswerError("list data sets", status=418),
    TidepoolRejectedError("upload data", status=400, problems=[Problem(3, "value-not-exists", "/time")]),
    TidepoolBusyError("upload data", status=429, retry_after=7.5),
    TidepoolUnreachableError("upload data", in_doubt=True, retry_after=2.0, status=504),
]


def test_every_class_is_among_the_examples() -> None:
    classes = {
        each for each in vars(module).values() if isinstance(each, type) and issubclass(each, TidepoolError)
    }
    assert {type(error) for error in EVERY} == classes - {TidepoolError}


@pytest.mark.parametrize("error", EVERY, ids=lambda error: type(error).__name__)
def test_crosses_processes_whole(error: TidepoolError) -> None:
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)


@pytest.mark.parametrize("error", EVERY, ids=lambda error: type(error).__name__)
def test_says_what_happened_and_what_to_do(error: TidepoolError) -> None:
    assert str(error).startswith(f"Could not {error.operation}")
    assert error.reason in str(error)
    assert error.remedy
    assert str(error).endswith(error.remedy)
    assert error.code.startswith("tidepool-")


def test_dispositions() -> None:
    assert {type(error).__name__.removeprefix("Tidepool"): error.disposition for error in EVERY} == {
        "ConfigurationError": Disposition.FATAL,
        "AuthenticationError": Disposition.FATAL,
        "PermissionError": Disposition.FATAL,
        "NotFoundError": Disposition.FATAL,
        "DataSetClosedError": Disposition.FATAL,
        "UnexpectedAnswerError": Disposition.FATAL,
        "RejectedError": Disposition.DATA,
        "BusyError": Disposition.RETRIABLE,
        "UnreachableError": Disposition.RETRIABLE,
    }


def test_a_doubt_is_said() -> None:
    assert "may have been carried out" in str(TidepoolUnreachableError("upload data", in_doubt=True))
    assert "may have been carried out" not in str(TidepoolUnreachableError("upload data"))


def test_rejection_counts_by_code_and_names_positions() -> None:
    problems = [Problem(i, "value-out-of-range", "/value") for i in range(4)] + [
        Problem(1, "type-not-int", "/duration")
    ]
    error = TidepoolRejectedError("upload data", status=400, problems=problems)
    assert "value-out-of-range x4" in str(error)
    assert "type-not-int x1" in str(error)
    assert "/value" not in str(error)
    assert error.indexes == {0, 1, 2, 3}
    assert error.codes == ("value-out-of-range", "type-not-int")


def test_many_codes_do_not_fill_the_log() -> None:
    error = TidepoolRejectedError("upload data", problems=[Problem(i, f"code-{i}", "") for i in range(1000)])
    assert len(str(error)) < 500


def test_user_made_keys_stay_in_this_process() -> None:
    problem = Problem(7, "value-out-of-range", f"/basalSchedules/{CANARY}/2/rate")
    error = TidepoolRejectedError("upload data", problems=[problem])
    twin = pickle.loads(pickle.dumps(error))
    assert error.problems[0].pointer == f"/basalSchedules/{CANARY}/2/rate"
    assert twin.problems == (Problem(7, "value-out-of-range", "/basalSchedules/*/2/*"),)
    for text in (str(error), repr(error), repr(error.problems), repr(vars(twin)), str(pickle.dumps(error))):
        assert CANARY not in text


def test_without_names_keeps_plain_pointers() -> None:
    assert Problem(0, "c", "/value").without_names().pointer == "/value"
    assert Problem(0, "c", "").without_names().pointer == ""
    assert Problem(0, "c", "/annotations/3").without_names().pointer == "/annotations/3"
