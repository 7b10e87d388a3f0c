"""With what caution requests are sent.

A request whose answer was lost may be carried out later, after whatever has been done since. Two rules keep
that harmless: nothing further is done about a step in doubt before it can no longer be carried out, and a
claim on a batch or a device does not end before that either, however its holder ended. Whoever holds the
claims knows that no request of an earlier holder is under way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.ledger import Lease
from tidepool_ingest.tidepool import TidepoolBusyError, TidepoolError, TidepoolUnreachableError
from tidepool_ingest.tidepool.begin_by import begun_within
from tidepool_ingest.upload.pace import Pace
from tidepool_ingest.upload.timing import Timing

Result = TypeVar("Result")


class UploadStoppedError(IngestError):
    """The upload was told to stop: its task is being ended."""

    disposition: Disposition = Disposition.RETRIABLE

    def __init__(self) -> None:
        super().__init__(
            "The upload was told to stop, and stopped between two requests.",
            remedy="Nothing is lost: the next try, or clearing the task, goes on from the ledger.",
            code="upload-stopped",
        )


ROWS_BETWEEN_LOOKS = 500
"""Rows of a read-back after which the claims are looked at again."""

POLL_SECONDS = 0.2
"""How often a wait looks whether somebody said stop."""


@dataclass
class _Doubt:
    """Until when a request of the upload may still be carried out, by the clock of ``time.monotonic``."""

    until: float = 0.0


class Caution:
    """Covers the requests of one upload. Safe to use from several threads.

    :param timing: how long requests and doubts last.
    :param pace: when the next request may be sent.
    :param leases: claims that have to outlive each request, and the doubt that it may leave.
    :param stops: any of them is set when the upload has to stop.
    :param doubt: shared with others that cover requests of the same upload.
    """

    def __init__(
        self,
        timing: Timing,
        pace: Pace,
        leases: tuple[Lease, ...],
        stops: tuple[threading.Event, ...],
        doubt: _Doubt | None = None,
    ) -> None:
        self._timing = timing
        self._pace = pace
        self._leases = leases
        self._stops = stops
        self._doubt = doubt or _Doubt()

    def under(self, *leases: Lease) -> Caution:
        """Return the same caution under more claims."""
        return Caution(self._timing, self._pace, (*self._leases, *leases), self._stops, self._doubt)

    def until(self, stop: threading.Event) -> Caution:
        """Return the same caution with one more reason to stop."""
        return Caution(self._timing, self._pace, self._leases, (*self._stops, stop), self._doubt)

    def go_on(self) -> None:
        """Make sure that another request may be begun: nobody said stop, and the claims outlive it.

        :raises UploadStoppedError: somebody did.
        :raises LeaseLostError: another task has taken over.
        """
        if any(stop.is_set() for stop in self._stops):
            raise UploadStoppedError
        self._claim(self._timing.request)

    def _claim(self, seconds: float) -> None:
        for lease in self._leases:
            lease.ensure(seconds)

    def send(self, request: Callable[[], Result], intent: Callable[[], None] | None = None) -> Result:
        """Send a request that changes something, and return what it returns.

        :param request: sends it once; it may be called again after Tidepool has asked to slow down, which
            tells that nothing was done.
        :param intent: notes in the ledger that the request is about to be sent; called when nothing stands
            in its way any more.
        """

        def covered() -> Result:
            with self._covering():
                return request()

        return self.ask(covered, intent)

    def ask(self, request: Callable[[], Result], intent: Callable[[], None] | None = None) -> Result:
        """Send a request that leaves no harm when its answer is lost, and return what it returns.

        :param request: sends it once; it may be called again after Tidepool has asked to slow down.
        :param intent: see :meth:`send`.
        """
        for attempt in range(self._timing.attempts):
            self.go_on()
            self._pace.keep(self.wait)
            if intent is not None and attempt == 0:
                intent()
            try:
                return request()
            except TidepoolBusyError as error:
                bearable = self._pace.slow_down(error)
                if attempt + 1 == self._timing.attempts or not bearable:
                    raise
        raise AssertionError("an upload makes at least one attempt at a step")

    def watch(self, rows: Iterable[Result]) -> Iterator[Result]:
        """Yield what a read-back brings, and keep the claims while it comes.

        :param rows: the read-back, not begun yet.
        :raises LeaseLostError: another task has taken over: what is read says nothing any more.
        """
        self._claim(self._timing.read_back)
        for number, row in enumerate(rows, 1):
            if number % ROWS_BETWEEN_LOOKS == 0:
                self._claim(self._timing.read_back)
            yield row
        self._claim(self._timing.request)

    @contextmanager
    def _covering(self) -> Iterator[None]:
        """Cover a request that changes something: the claims outlive it, and its doubt if it leaves one."""
        # Once more, for it may have waited for its turn; and for as long as it can be carried out late.
        self._claim(self._timing.request + self._timing.doubt)
        try:
            with begun_within(self._timing.begin):
                yield
        except BaseException as error:
            # What is no answer of Tidepool's, a signal for example, leaves the request in doubt too.
            if not isinstance(error, TidepoolError) or getattr(error, "ambiguous", False):
                self._doubt.until = time.monotonic() + self._timing.doubt
                for lease in self._leases:
                    lease.keep_for(self._timing.doubt)
            raise

    def pause(self, attempt: int, error: TidepoolUnreachableError) -> None:
        """Wait before a step is tried again: if it is in doubt, until it can no longer be carried out.

        :param attempt: how often it was tried before this time, from 0.
        :param error: what it ended with.
        :raises UploadStoppedError: somebody said stop meanwhile.
        """
        if error.ambiguous:
            self.settle()
        else:
            self.wait(self._timing.pause * 2**attempt)

    def settle(self) -> None:
        """Wait until no request of this upload can be carried out any more.

        :raises UploadStoppedError: somebody said stop meanwhile.
        """
        left = self._doubt.until - time.monotonic()
        if left > 0:
            for lease in self._leases:
                lease.ensure(left + self._timing.request)
            self.wait(left)

    def wait(self, seconds: float) -> None:
        """Wait, unless somebody says stop.

        :param seconds: how long.
        :raises UploadStoppedError: somebody did.
        """
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            if any(stop.is_set() for stop in self._stops):
                raise UploadStoppedError
            time.sleep(min(left, POLL_SECONDS))
