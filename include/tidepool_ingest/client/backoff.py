"""Retries, for a short while, of requests that are safe to repeat; longer ones are up to Airflow."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
)

from tidepool_ingest.client.errors import (
    TidepoolBusyError,
    TidepoolError,
    TidepoolUnreachableError,
)

log = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True)
class BackOff:
    """Retry after an exponentially growing pause with jitter, or after the one that Tidepool asks for.

    Only for requests that change nothing (reads, tokens, the probe of a data set). A pause longer than
    ``longest`` is not waited for here: the error is raised and carries the pause.

    :param attempts: how many attempts there are in total.
    :param first: mean of the first pause, seconds; each further one is twice as long.
    :param longest: the longest pause, seconds.
    :param patience: no further attempt once this much has been spent, seconds.
    :param sleep: waits; tests pass one that does not.
    """

    attempts: int = 4
    first: float = 0.5
    longest: float = 8.0
    patience: float = 60.0
    sleep: Callable[[float], None] = time.sleep

    def __call__(self, attempt: Callable[[], Result]) -> Result:
        """Return what ``attempt`` returns, retrying while it raises a transient error."""
        retrying = Retrying(
            retry=retry_if_exception(self._is_transient),
            stop=stop_after_attempt(self.attempts) | stop_after_delay(self.patience),
            wait=self._pause,
            before_sleep=_log_pause,
            sleep=self.sleep,
            reraise=True,
        )
        return retrying(attempt)

    def _is_transient(self, error: BaseException) -> bool:
        if not isinstance(error, (TidepoolBusyError, TidepoolUnreachableError)):
            return False
        return (error.retry_after or 0.0) <= self.longest

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        requested = getattr(error, "retry_after", None) or 0.0
        pause = min(self.first * 2.0 ** (state.attempt_number - 1), self.longest)
        # Jitter keeps tasks that failed together from retrying together.
        return max(requested, pause * random.uniform(0.5, 1.5))


def _log_pause(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, TidepoolError):
        pause = state.next_action.sleep if state.next_action else 0.0
        log.info("%s: %s, trying again in %.1f s", error.operation, error.reason, pause)
