"""The schemas of what ``--json`` of the commands writes, as they are in ``docs/``."""

from __future__ import annotations

import json
import re
import types
from functools import cache
from inspect import cleandoc
from typing import Any, Final, Literal, Union, get_args, get_origin

from msgspec import NODEFAULT
from msgspec.structs import fields
from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.alias_generators import to_camel

from tidepool_ingest.cli.summaries import SUMMARIES
from tidepool_ingest.inspection.findings import DescribedModel


def schema_of(command: str) -> str:
    """Return the text of ``docs/<command>.schema.json``.

    :param command: a key of :data:`~tidepool_ingest.cli.summaries.SUMMARIES`.
    """
    schema = _as_pydantic(SUMMARIES[command]).model_json_schema(by_alias=True, mode="serialization")
    return json.dumps(schema, indent=2) + "\n"


def _describe(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """Put what a model's docstring says of each field where a JSON Schema has it."""
    said, *named = re.split(r"\n:param ", cleandoc(model.__doc__ or ""))
    schema["description"] = _plain(said)
    schema.pop("additionalProperties", None)  # a later version may have more of them
    for name, _, text in (field.partition(": ") for field in named):
        schema["properties"][to_camel(name)]["description"] = _plain(text)


def _plain(text: str) -> str:
    return " ".join(re.sub(r":class:`(\w+)`", r"\1", text).replace("``", "`").split())


_CONFIG: Final = ConfigDict(
    alias_generator=to_camel,
    extra="forbid",
    frozen=True,
    json_schema_extra=_describe,
    validate_by_alias=True,
    validate_by_name=True,
)


@cache
def _as_pydantic(model: type[DescribedModel]) -> type[BaseModel]:
    """Return the model as one of pydantic's, which makes schemas of them."""
    members: dict[str, Any] = {}
    for one in fields(model):
        if one.default_factory is not NODEFAULT and one.default_factory is not dict:
            default = Field(default_factory=one.default_factory)
        elif one.default_factory is dict:
            default = {}
        else:
            default = ... if one.default is NODEFAULT else one.default
        members[one.name] = (_converted(one.type), default)
    made: type[BaseModel] = create_model(model.__name__, __config__=_CONFIG, __doc__=model.__doc__, **members)
    return made


def _converted(annotation: Any) -> Any:
    """Return an annotation with each model in it as one of pydantic's."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is None:
        is_model = isinstance(annotation, type) and issubclass(annotation, DescribedModel)
        return _as_pydantic(annotation) if is_model else annotation
    if origin is Literal:
        return annotation
    converted = tuple(map(_converted, inner))
    return Union[converted] if origin in (Union, types.UnionType) else origin[converted]  # noqa: UP007
