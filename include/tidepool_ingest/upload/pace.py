"""How fast requests may follow each other: when Tidepool asks one task to slow down, every task does.

Tidepool's rate limits are not documented. A 429 says that nothing was done; what it asks for is noted in the
ledger, where each task looks before each of its requests.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from tidepool_ingest.ledger import SlowDowns
from tidepool_ingest.tidepool import TidepoolBusyError

SPREAD = 0.25
"""Tasks that waited together come back spread over this share of the pause."""


class Pace:
    """The pace of one API host. Safe to use from several threads.

    :param slow_downs: what Tidepool asked for, shared by all tasks through the ledger.
    :param api_host: host of the Tidepool API.
    :param patience: seconds that are waited here; a longer pause is Airflow's to wait for.
    """

    def __init__(self, slow_downs: SlowDowns, api_host: str, patience: float) -> None:
        self._slow_downs = slow_downs
        self._api_host = api_host
        self._patience = patience

    def keep(self, wait: Callable[[float], None]) -> None:
        """Wait as long as Tidepool wants nobody to send anything.

        :param wait: waits so many seconds.
        :raises TidepoolBusyError: for longer than we are willing to wait.
        """
        while (left := self._slow_downs.seconds_left(self._api_host)) > 0:
            if left > self._patience:
                raise TidepoolBusyError("send a request", place=self._api_host, retry_after=left)
            wait(left * random.uniform(1.0, 1.0 + SPREAD))

    def slow_down(self, error: TidepoolBusyError) -> bool:
        """Tell every task what Tidepool has just asked for; return whether it can be waited for here."""
        self._slow_downs.note(self._api_host, error.retry_after)
        return self._slow_downs.seconds_left(self._api_host) <= self._patience
