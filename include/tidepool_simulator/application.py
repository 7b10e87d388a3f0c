"""From a connection to a request and from a response to a connection, with the faults between them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
from collections.abc import Coroutine, Iterator, MutableMapping
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from typing import Any

from tidepool_simulator.connection import Connection, Receive, Send
from tidepool_simulator.control import Control
from tidepool_simulator.exchange import Request, Response
from tidepool_simulator.faults import Fault, Faults, ResponseFault, Work
from tidepool_simulator.partial_writes import CutError, CutSteps, HeldSteps, Steps
from tidepool_simulator.platform import Located, Platform, status_response
from tidepool_simulator.responses import gateway_page
from tidepool_simulator.rules import Rules

_LOGGER = logging.getLogger(__name__)
_NO_FAULT = Fault()


@dataclass(frozen=True)
class Exchanged:
    """One request as the list of requests has it: no id, no body, no token.

    :param route: the pattern of the route, empty for an unknown path.
    :param status: None when no response was sent.
    :param fault: label of the fault that struck.
    """

    method: str
    route: str
    operation: str
    status: int | None
    fault: str | None


class Application:
    """The ASGI application.

    :param executor: threads in which requests are answered, so that a slow one holds up no other.
    :param latency: seconds of a round trip: half of it passes before a request is looked at, and no response
        leaves before the rest has passed, the work included.
    """

    def __init__(
        self,
        platform: Platform,
        faults: Faults,
        rules: Rules,
        executor: Executor,
        *,
        latency: float = 0.0,
    ) -> None:
        self.latency = latency
        self.requests: list[Exchanged] = []
        self._platform = platform
        self._faults = faults
        self._executor = executor
        self._control = Control(faults, rules, self._requests_as_json, lambda: self._working)
        self._stopping = threading.Event()
        self._closed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._late: set[asyncio.Task[Response | None]] = set()
        self._working = 0
        self._working_changed = threading.Condition()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            return
        connection = Connection(scope, receive, send, self._closed)
        request = await connection.request()
        if self._control.takes(request):
            await connection.send_response(self._control.respond(request, connection.is_local), request)
        else:
            await self._exchange(connection, request)

    def settle(self, seconds: float) -> bool:
        """Wait until nothing is in progress any more, no late work either.

        :param seconds: how long to wait at most.
        :return: whether nothing is.
        """
        with self._working_changed:
            return self._working_changed.wait_for(lambda: self._working == 0, timeout=seconds)

    def stop(self) -> None:
        """Drop what is held: late work is never done, hanging requests lose their connection."""
        self._stopping.set()
        self._loop.call_soon_threadsafe(self._closed.set)

    def _requests_as_json(self) -> list[dict[str, Any]]:
        return [asdict(exchanged) for exchanged in self.requests]

    async def _exchange(self, connection: Connection, request: Request) -> None:
        located = self._platform.locate(request)
        struck = self._faults.strike(
            located.operation, located.data_set, lambda: self._platform.user_of(located)
        )
        answered_at = self._loop.time() + self.latency + struck.latency
        with self._counted():
            await asyncio.sleep(self.latency / 2 + struck.latency)
            response = await self._work_with(struck.fault or _NO_FAULT, request, located)
        await asyncio.sleep(max(0.0, answered_at - self._loop.time()))
        self.requests.append(
            Exchanged(
                request.method,
                located.route,
                located.operation,
                None if response is None else response.status,
                None if struck.fault is None else struck.fault.label,
            )
        )
        await connection.send_faulty(struck.fault or _NO_FAULT, response, request)

    async def _work_with(self, fault: Fault, request: Request, located: Located) -> Response | None:
        """Do as much of a request as a fault allows; return what the client is to get, None for nothing."""
        response: Response | None = None
        if fault.work is Work.LATE:
            self._begin_late(
                self._work(request, located, HeldSteps(fault.steps, fault.delay, self._stopping))
            )
        elif fault.work is Work.PART:
            response = await self._work(request, located, CutSteps(fault.steps, fault.share))
            if response is not None:
                return response  # it was rejected, or had less to write than the fault lets pass
        elif fault.work is Work.ALL:
            if fault.shown_after and located.data_set is not None:
                self._platform.late.begin(located.data_set, fault.shown_after, gradually=fault.gradually)
            response = await self._work(request, located, Steps())
        if fault.answer in (ResponseFault.RESET, ResponseFault.HANG):
            return None
        if fault.status is not None:
            response = status_response(request, located.path, fault.status) or gateway_page(fault.status)
            if fault.retry_after is not None:
                response.headers.append(("retry-after", fault.retry_after))
        return response

    async def _work(self, request: Request, located: Located, steps: Steps) -> Response | None:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._executor, functools.partial(self._work_here, request, located, steps)
        )

    def _work_here(self, request: Request, located: Located, steps: Steps) -> Response | None:
        with steps.active():
            try:
                return self._platform.respond(request, located)
            except CutError:
                return None

    def _begin_late(self, work: Coroutine[Any, Any, Response | None]) -> None:
        """Start work that nobody waits for any more; it counts as in progress from now on."""
        counted = contextlib.ExitStack()
        counted.enter_context(self._counted())

        def ended(task: asyncio.Task[Response | None]) -> None:
            self._late.discard(task)
            counted.close()
            if not task.cancelled() and (error := task.exception()):
                _LOGGER.error("late work failed", exc_info=error)

        task = asyncio.ensure_future(work)
        self._late.add(task)
        task.add_done_callback(ended)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        with self._working_changed:
            self._working += 1
        try:
            yield
        finally:
            with self._working_changed:
                self._working -= 1
                self._working_changed.notify_all()
