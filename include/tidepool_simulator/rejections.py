"""Validation errors as the Platform words them.

The model says what is wrong where; titles, details and the ``meta`` are the wire's business. A ``detail``
quotes the offending value, as the Platform's does: whoever logs it, logs health data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tidepool_ingest.model import Problem
from tidepool_ingest.model.datum import parse_datum
from tidepool_ingest.model.problems import Problems
from tidepool_simulator.deep_json import dumps
from tidepool_simulator.exchange import Response

_TITLES: Mapping[str, str] = {
    "not-parsed": "not parsed",
    "type-not-array": "type is not array",
    "type-not-bool": "type is not bool",
    "type-not-float64": "type is not float64",
    "type-not-int": "type is not int",
    "type-not-object": "type is not object",
    "type-not-string": "type is not string",
    "type-not-time": "type is not time",
    "length-out-of-range": "length is out of range",
    "size-out-of-range": "size is out of range",
    "value-duplicate": "value is a duplicate",
    "value-empty": "value is empty",
    "value-exists": "value exists",
    "value-not-after": "value is not after the specified time",
    "value-not-allowed": "value is not one of the allowed values",
    "value-not-exists": "value does not exist",
    "value-not-parsable": "value is not a parsable time",
    "value-not-valid": "value is not valid",
    "value-out-of-range": "value is out of range",
    "values-not-exist-for-any": "values do not exist for any",
    "values-not-exist-for-one": "values do not exist for one",
}
_KIND_FIELDS: Mapping[str, str] = {"basal": "deliveryType", "bolus": "subType", "deviceEvent": "subType"}
"""The field beside ``type`` that says what kind of datum it is; it belongs to the ``meta``."""


class Rejection(NamedTuple):
    """One error of a validation.

    :param source: ``pointer`` into the body, or ``parameter`` of the query.
    :param meta: type of the datum; None where the Platform has none.
    """

    code: str
    source: dict[str, str]
    detail: str
    meta: dict[str, str] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the error as it stands in a response."""
        error: dict[str, Any] = {"code": self.code, "title": _TITLES[self.code], "detail": self.detail}
        if self.source:
            error["source"] = self.source
        return error | ({"meta": self.meta} if self.meta else {})


def rejected(rejections: Sequence[Rejection]) -> Response:
    """Answer a validation that failed: one error is the body itself, several stand in a list."""
    errors = [rejection.as_json() for rejection in rejections]
    return Response.of_json(400, errors[0] if len(errors) == 1 else {"errors": errors})


def of_body(body: Any, problems: Iterable[Problem]) -> list[Rejection]:
    """Word the problems of a body that is one object."""
    return [
        Rejection(
            problem.code, {"pointer": problem.pointer} if problem.pointer else {}, _detail(problem, body)
        )
        for problem in problems
    ]


def of_datum(index: int, datum: Any, problems: Iterable[Problem]) -> list[Rejection]:
    """Word the problems of the datum at an index of a posted array."""
    return [
        Rejection(
            problem.code,
            {"pointer": f"/{index}{problem.pointer}"},
            _detail(problem, datum),
            _meta(datum, problem),
        )
        for problem in problems
    ]


def of_parameter(code: str, name: str, value: str = "") -> Rejection:
    """Word what is wrong with a query parameter."""
    return Rejection(code, {"parameter": name}, f"{_TITLES[code]}: {json.dumps(value, ensure_ascii=False)}")


def is_parse_stage(datum: Any) -> bool:
    """Whether the problems of a datum come from parsing it: those hide all others of a request."""
    problems = Problems()
    parse_datum(datum, "", problems)
    problems.finish()
    return bool(problems)


def _meta(datum: Any, problem: Problem) -> dict[str, str] | None:
    field = _kind_field(datum)
    if not isinstance(datum, dict) or problem.pointer in ("", "/type", f"/{field}"):
        return None
    meta = {"type": str(datum.get("type"))}
    return meta | {field: str(datum.get(field))} if field else meta


def _kind_field(datum: Any) -> str | None:
    kind = datum.get("type") if isinstance(datum, dict) else None
    return _KIND_FIELDS.get(kind) if isinstance(kind, str) else None


def _detail(problem: Problem, body: Any) -> str:
    value = body
    for part in problem.pointer.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            value = None
    return f"{_TITLES[problem.code]}: {dumps(value)}"
