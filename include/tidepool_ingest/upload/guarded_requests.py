"""Every request of an upload goes through here: under its leases, throttled, until it is told to stop.

A request whose response was lost may be carried out later, after whatever has been done since. Two rules keep
that harmless: nothing further is done about a step in doubt until it can no longer be carried out, and a
lease on a batch or a device does not end before that either, however its holder ended. Whoever holds the
leases knows that no request of an earlier holder is in progress.

When Tidepool throttles one task, every task slows down. Its rate limits are not documented. A 429 means that
nothing was done; the pause it asks for is saved in the ledger, at which each task looks before a request,
though not more often than once a second.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from tidepool_ingest.client import TidepoolBusyError, TidepoolError, TidepoolUnreachableError
from tidepool_ingest.client.exchange import start_deadline
from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.ledger import Lease, RateLimits

Result = TypeVar("Result")

ROWS_BETWEEN_RENEWALS = 500
"""Rows of a read-back after which the leases are renewed."""

POLL_SECONDS = 0.2
"""How often a wait checks whether it has to stop."""

POLLS_AT_LEAST = 8
"""Read-backs, at least, while rows may still become visible; the pause between two of them grows."""

RECHECK_SECONDS = 10.0
"""A task that waits because Tidepool throttles it checks this often whether the throttle has been lifted."""

SPREAD = 0.25
"""Tasks that waited together resume spread over this share of the pause."""


@dataclass(frozen=True)
class Timeouts:
    """Bounds on the steps of an upload, in seconds unless stated otherwise.

    :param request: the longest a request may take in all. The gateway cuts off at 60 s; the rest is for the
        network.
    :param begin: how long after its leases were renewed a request may still be started: it may have to wait
        for a token. After that it is not sent.
    :param doubt: how long a request may still be carried out after its client has timed out. The Platform's
        own work on it ends soon after the gateway has cut it off at 60 s; this is twice that.
    :param lease: how long a lease on a batch or a device outlives a holder that died. At least ``request``
        and ``doubt`` of it remain when a request is sent that changes something: whatever a dead holder had
        requested is carried out by then, or never.
    :param listing: for how long what Tidepool has listed of a device is relied on: a close that comes later
        lists it again.
    :param close_turn: how long to wait for another batch of the same device to be closed and read back.
    :param slot: how long an upload waits for its turn among the batches of its device before it ends, to be
        started again later: a task that waits for longer gives its slot back.
    :param usual_close: about how long a batch takes once it is at work: one that waits for several is started
        again after that many times this, and after a minute at the latest.
    :param attempts: how often a step in doubt is resolved and tried again before Airflow's own retry
        takes over.
    :param pause: pause before a step is tried again, doubled each time.
    :param patience: the longest that a task waits by itself when Tidepool throttles it; for longer, Airflow's
        retry waits and the worker is free meanwhile.
    :param read_back: the longest that a read-back may send nothing, at its start or in between.
    :param read_rows: records per read-back request; a larger data set is read in windows of time. The
        gateway allows a response 60 s, and Tidepool's reading service 3 minutes.
    :param visible_wait: how long after one read-back another one has to show the same difference, with no
        more rows visible in between, before it counts: the Platform may still be working on the close, and
        may show rows some time after it has confirmed it.
    :param visible_poll: first pause between two such read-backs.
    """

    request: float = 150.0
    begin: float = 60.0
    doubt: float = 120.0
    lease: float = 300.0
    listing: float = 0.25
    close_turn: float = 600.0
    slot: float = 5.0
    usual_close: float = 3.0
    attempts: int = 3
    pause: float = 1.0
    patience: float = 60.0
    read_back: float = 200.0
    read_rows: int = 50_000
    visible_wait: float = 60.0
    visible_poll: float = 2.0


class GuardedRequests:
    """Guards the requests of one operation. Safe to use from several threads.

    :param timeouts: how long requests and doubts last.
    :param throttle: when the next request may be sent, for all tasks.
    :param leases: have to outlive each request, and the time that it may be in doubt.
    :param stops: any of them is set when the operation has to stop.
    :param doubt: shared with the other guards of the same operation.
    """

    def __init__(
        self,
        timeouts: Timeouts,
        throttle: Throttle,
        leases: tuple[Lease, ...],
        stops: tuple[threading.Event, ...],
        doubt: _Doubt | None = None,
    ) -> None:
        self._timeouts = timeouts
        self._throttle = throttle
        self._leases = leases
        self._stops = stops
        self._doubt = doubt or _Doubt()

    def with_leases(self, *leases: Lease) -> GuardedRequests:
        """Return the same guard under more leases."""
        return GuardedRequests(
            self._timeouts, self._throttle, (*self._leases, *leases), self._stops, self._doubt
        )

    def with_stop(self, stop: threading.Event) -> GuardedRequests:
        """Return the same guard with one more reason to stop."""
        return GuardedRequests(
            self._timeouts, self._throttle, self._leases, (*self._stops, stop), self._doubt
        )

    def check(self) -> None:
        """Make sure that another request may be started: nothing says stop, and the leases outlive it.

        :raises UploadStoppedError: the operation was told to stop.
        :raises LeaseLostError: another task has taken over.
        """
        if any(stop.is_set() for stop in self._stops):
            raise UploadStoppedError
        self._renew(self._timeouts.request)

    def _renew(self, seconds: float) -> None:
        for lease in self._leases:
            lease.ensure(seconds)

    def write(self, request: Callable[[], Result], intent: Callable[[], None] | None = None) -> Result:
        """Send a request that changes something, and return what it returns.

        :param request: sends it once; it may be called again after Tidepool has throttled it, which means
            that nothing was done.
        :param intent: records in the ledger that the request is about to be sent; called once nothing stands
            in its way.
        """

        def under_leases() -> Result:
            with self._covering():
                return request()

        return self.read(under_leases, intent)

    def read(self, request: Callable[[], Result], intent: Callable[[], None] | None = None) -> Result:
        """Send a request that does no harm if its response is lost, and return what it returns.

        :param request: sends it once; it may be called again after Tidepool has throttled it.
        :param intent: see :meth:`write`.
        """
        for attempt in range(self._timeouts.attempts):
            self.check()
            self._throttle.wait(self.wait)
            if intent is not None and attempt == 0:
                intent()
            try:
                return request()
            except TidepoolBusyError as error:
                is_short = self._throttle.slow_down(error)
                if attempt + 1 == self._timeouts.attempts or not is_short:
                    raise
        raise AssertionError("at least one attempt is made at a request")

    def read_until_visible(
        self,
        read: Callable[[], Result],
        *,
        is_settled: Callable[[Result], bool],
        amount: Callable[[Result], int],
    ) -> Result:
        """Read back until all is visible, or as long as rows may take to become so; return what came last.

        Tidepool may show rows some time after it has confirmed what makes them visible. So a difference
        counts only if a read-back shows it that began ``visible_wait`` after an earlier one did, and no more
        has become visible in between.

        :param read: reads back once.
        :param is_settled: whether waiting longer would not change anything.
        :param amount: grows as more becomes visible.
        :raises UploadStoppedError: the operation was told to stop meanwhile.
        """
        wait, pause = self._timeouts.visible_wait, self._timeouts.visible_poll
        most: int | None = None
        since = 0.0
        while True:
            began = time.monotonic()
            found = self.read(read)
            if is_settled(found):
                return found
            if most is None or amount(found) > most:
                most, since = amount(found), time.monotonic()
            elif began - since >= wait:
                return found
            self.wait(pause)
            pause = max(pause, min(pause * 2, wait / POLLS_AT_LEAST))

    def stream(self, rows: Iterable[Result]) -> Iterator[Result]:
        """Yield the rows of a read-back, or blocks of them, and renew the leases while they arrive.

        :param rows: the read-back, not started yet.
        :raises LeaseLostError: another task has taken over: what was read proves nothing.
        """
        self._renew(self._timeouts.read_back)
        seen = 0
        for row in rows:
            seen += len(row) if isinstance(row, list) else 1
            if seen >= ROWS_BETWEEN_RENEWALS:
                self._renew(self._timeouts.read_back)
                seen = 0
            yield row
        self._renew(self._timeouts.request)

    @contextmanager
    def _covering(self) -> Iterator[None]:
        """Let the leases outlive a request that changes something, and the time that it may be in doubt."""
        # Once more, since it may have waited; and for as long as the request can be carried out late.
        self._renew(self._timeouts.request + self._timeouts.doubt)
        try:
            with start_deadline(self._timeouts.begin, self._timeouts.request):
                yield
        except BaseException as error:
            # Anything but a response of Tidepool's, such as a signal, leaves the request in doubt too.
            if not isinstance(error, TidepoolError) or getattr(error, "in_doubt", False):
                self._doubt.until = time.monotonic() + self._timeouts.doubt
                for lease in self._leases:
                    lease.keep_for(self._timeouts.doubt)
            raise

    def pause(self, attempt: int, error: TidepoolUnreachableError) -> None:
        """Wait before a step is tried again: if it is in doubt, until it can no longer be carried out.

        :param attempt: how often it was tried before this time, from 0.
        :param error: what it ended with.
        :raises UploadStoppedError: the operation was told to stop meanwhile.
        """
        if error.in_doubt:
            self.wait_out_doubt()
        else:
            self.wait(self._timeouts.pause * 2**attempt)

    def wait_out_doubt(self) -> None:
        """Wait until no request of this operation can still be carried out.

        :raises UploadStoppedError: the operation was told to stop meanwhile.
        """
        remaining = self._doubt.until - time.monotonic()
        if remaining > 0:
            for lease in self._leases:
                lease.ensure(remaining + self._timeouts.request)
            self.wait(remaining)

    def wait(self, seconds: float) -> None:
        """Wait, unless told to stop.

        :param seconds: how long.
        :raises UploadStoppedError: the operation was told to stop.
        """
        ends = time.monotonic() + seconds
        while (remaining := ends - time.monotonic()) > 0:
            if any(stop.is_set() for stop in self._stops):
                raise UploadStoppedError
            time.sleep(min(remaining, POLL_SECONDS))


@dataclass
class _Doubt:
    """Until when a request may still be carried out, as a time of ``time.monotonic``."""

    until: float = 0.0


class Throttle:
    """How fast requests to one API host may follow each other. Safe to use from several threads.

    :param rate_limits: the pause that Tidepool asked for, shared by all tasks through the ledger.
    :param api_host: host of the Tidepool API.
    :param patience: the longest pause that is waited out here, in seconds; a longer one is left to
        Airflow's retry.
    """

    def __init__(self, rate_limits: RateLimits, api_host: str, patience: float) -> None:
        self._rate_limits = rate_limits
        self._api_host = api_host
        self._patience = patience

    def wait(self, wait: Callable[[float], None]) -> None:
        """Wait as long as Tidepool has asked all tasks to wait.

        :param wait: waits a number of seconds.
        :raises TidepoolBusyError: that is longer than ``patience``.
        """
        while (remaining := self._rate_limits.seconds_to_wait(self._api_host)) > 0:
            if remaining > self._patience:
                raise TidepoolBusyError("send a request", place=self._api_host, retry_after=remaining)
            self._wait_out(remaining, wait)

    def _wait_out(self, remaining: float, wait: Callable[[float], None]) -> None:
        """Wait for a throttle to be over, or for somebody to lift it."""
        pause = remaining * random.uniform(1.0, 1.0 + SPREAD)
        while pause > 0:
            step = min(pause, RECHECK_SECONDS)
            wait(step)
            pause -= step
            remaining -= step
            if remaining > 0 and self._rate_limits.seconds_remaining(self._api_host) == 0:
                return

    def slow_down(self, error: TidepoolBusyError) -> bool:
        """Save for all tasks the pause that Tidepool asks for; return whether it can be waited out here."""
        self._rate_limits.record(self._api_host, error.retry_after)
        return self._rate_limits.seconds_remaining(self._api_host) <= self._patience


class UploadStoppedError(IngestError):
    """The upload was told to stop: its task is being ended."""

    disposition: Disposition = Disposition.RETRIABLE
    code = "upload-stopped"
    sentence = "the upload was told to stop, and stopped between two requests"
    remedy = "Nothing is lost: the next try, or clearing the task, goes on from the ledger."
