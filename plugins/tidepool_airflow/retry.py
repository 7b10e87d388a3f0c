"""Which errors Airflow retries, and when."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule
from airflow.sdk.definitions.retry_policy import RetryDecision

from tidepool_ingest.errors import Disposition, IngestError

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

SHORTEST_WAIT = timedelta(seconds=1)

LONGEST_WAIT = timedelta(days=1)
"""No retry is delayed for longer; the connection bounds what Tidepool may ask for (`longest_pause`)."""


class TidepoolRetryPolicy(ExceptionRetryPolicy):
    """Retry what may succeed later, fail at once what cannot.

    An error that says how long to wait (``Retry-After``, another task's lease) is retried after that
    time; a fatal one, and one that a person has to correct in the data, fails with its remedy as the
    reason. Everything else follows the task's own ``retries`` and ``retry_delay``.
    """

    def __init__(
        self, rules: list[RetryRule] | None = None, default: RetryAction = RetryAction.DEFAULT
    ) -> None:
        super().__init__([RetryRule(exception=IngestError)] if rules is None else rules, default)

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Decide by the error's disposition.

        :param exception: what the task raised.
        :param try_number: the try that failed, from 1.
        :param max_tries: how many there may be.
        :param context: the task's context.
        """
        if not isinstance(exception, IngestError):
            return super().evaluate(exception, try_number, max_tries, context)
        if exception.disposition is not Disposition.RETRIABLE:
            return RetryDecision.fail(exception.remedy or exception.what)
        seconds: Any = getattr(exception, "retry_after", None)
        if seconds is None:
            return RetryDecision(RetryAction.RETRY, reason=exception.what)
        seconds = min(max(SHORTEST_WAIT.total_seconds(), float(seconds)), LONGEST_WAIT.total_seconds())
        return RetryDecision.retry(timedelta(seconds=seconds), exception.what)


RETRY_POLICY = TidepoolRetryPolicy()
"""The one that every operator has unless it is given another; it holds no state."""
