"""The simulator's own routes, for tests that run in another process; only this machine may use them.

- ``POST /simulator/faults`` adds a fault or a list of them (:class:`.faults.Fault` as JSON): 201
  ``{"ids": […]}``
- ``GET /simulator/faults``: ``{"faults": […], "counts": {label: struck}, "working": n}``; ``working`` counts
  the requests in progress, late work too: at 0 the world has settled
- ``DELETE /simulator/faults`` removes all faults, ``DELETE /simulator/faults/{id}`` one of them: 204
- ``POST /simulator/rules`` adds a validation rule or a list of them (:class:`.rules.Rule` as JSON): 204;
  ``DELETE /simulator/rules`` withdraws all of them: 204
- ``GET /simulator/requests``: ``[{"method", "route", "operation", "status", "fault"}, …]``
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from tidepool_simulator.exchange import Request, Response, Route, Router
from tidepool_simulator.faults import Fault, Faults
from tidepool_simulator.rules import Rule, Rules

_ROOT = "/simulator/"

Model = TypeVar("Model", bound=BaseModel)


class Control:
    """Answer what is asked of the simulator itself.

    :param requests: returns the list of requests.
    :param working: returns the number of requests in progress.
    """

    def __init__(
        self,
        faults: Faults,
        rules: Rules,
        requests: Callable[[], list[dict[str, Any]]],
        working: Callable[[], int],
    ) -> None:
        self._faults = faults
        self._rules = rules
        self._requests = requests
        self._working = working
        self._router = Router([
            Route("GET", "/simulator/faults", "control", self._list),
            Route("POST", "/simulator/faults", "control", self._add),
            Route("DELETE", "/simulator/faults", "control", self._clear),
            Route("DELETE", "/simulator/faults/{id}", "control", self._remove),
            Route("POST", "/simulator/rules", "control", self._add_rules),
            Route("DELETE", "/simulator/rules", "control", self._clear_rules),
            Route("GET", "/simulator/requests", "control", self._list_requests),
        ])  # fmt: skip

    def takes(self, request: Request) -> bool:
        """Whether a request is for the simulator and not for the Platform."""
        return request.path.startswith(_ROOT)

    def respond(self, request: Request, is_local: bool) -> Response:
        """Answer a request."""
        if not is_local:
            return _problem(403, "only this machine may ask the simulator")
        match = self._router.match(request.method, request.path)
        if match.route is None:
            return _problem(405 if match.known_path else 404, "no such route")
        return match.route.handler(request, *match.values)

    def _list(self, request: Request) -> Response:
        del request
        return Response.of_json(
            200,
            {
                "faults": self._faults.as_json(),
                "counts": dict(self._faults.counts),
                "working": self._working(),
            },
        )

    def _add(self, request: Request) -> Response:
        faults = _given(request, Fault)
        if isinstance(faults, Response):
            return faults
        return Response.of_json(201, {"ids": self._faults.add(*faults)})

    def _clear(self, request: Request) -> Response:
        del request
        self._faults.clear()
        return Response(204)

    def _remove(self, request: Request, fault_id: str) -> Response:
        del request
        if not fault_id.isdecimal():
            return _problem(404, "no such fault")
        self._faults.remove(int(fault_id))
        return Response(204)

    def _add_rules(self, request: Request) -> Response:
        rules = _given(request, Rule)
        if isinstance(rules, Response):
            return rules
        self._rules.add(*rules)
        return Response(204)

    def _clear_rules(self, request: Request) -> Response:
        del request
        self._rules.clear()
        return Response(204)

    def _list_requests(self, request: Request) -> Response:
        del request
        return Response.of_json(200, self._requests())


def _given(request: Request, model: type[Model]) -> list[Model] | Response:
    """Return what a body holds, one or a list; or the response that says what is wrong with it."""
    name = model.__name__.lower()
    try:
        given = json.loads(request.body)
        return [model.model_validate(item) for item in (given if isinstance(given, list) else [given])]
    except ValidationError as error:
        return _problem(
            400,
            "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()),
        )
    except ValueError:
        return _problem(400, f"the body must be a {name} or a list of {name}s, as JSON")


def _problem(status: int, message: str) -> Response:
    return Response.of_json(status, {"message": message})
