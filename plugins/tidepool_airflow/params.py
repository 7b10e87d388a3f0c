"""The trigger forms of the DAGs, made from what :mod:`tidepool_ingest.options` declares."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param

from tidepool_airflow import settings
from tidepool_ingest.options import (
    LOOK_BACK_DAYS,
    ActionOptions,
    Options,
    ReconcileOptions,
    RunOptions,
)

KEPT = ("type", "format", "minimum", "maximum", "enum", "values_display", "title", "section")
"""What a form takes over from the JSON schema of an option."""


def upload_params(look_back_days: int = LOOK_BACK_DAYS) -> dict[str, Param]:
    """Return the parameters of an upload run; their defaults are what a scheduled run uses.

    :param look_back_days: how many earlier day folders a scheduled run looks into.
    """
    allowed = settings.deployment().parallel_chunks
    return params_of(
        RunOptions,
        look_back_days={"default": look_back_days},
        parallel_chunks={
            "enum": [None, *range(1, allowed + 1)],
            "values_display": {"null": f"As many as the deployment allows: {allowed}"},
        },
    )


def action_params() -> dict[str, Param]:
    """Return the parameter of a run that does what somebody asked for on the uploads page."""
    return params_of(ActionOptions)


def reconcile_params() -> dict[str, Param]:
    """Return the parameters of a maintenance run; their defaults are what an hourly run uses."""
    return params_of(ReconcileOptions)


def params_of(options: type[Options], **deployment: dict[str, Any]) -> dict[str, Param]:
    """Return a form field for each option, in the order of the options.

    :param options: the options of a DAG.
    :param deployment: parts of their schemas that this deployment decides, by option.
    """
    schema = options.model_json_schema()
    definitions = schema.get("$defs", {})
    return {
        name: _param({**_resolved(option, definitions), **deployment.get(name, {})})
        for name, option in schema["properties"].items()
    }


def _resolved(option: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an option in one piece: what it refers to, and the alternatives of its type."""
    named = definitions[option["$ref"].rpartition("/")[2]] if "$ref" in option else {}
    choices = option.get("anyOf", [])
    merged = {key: value for choice in choices for key, value in choice.items()}
    types = {"type": ["null", *(choice["type"] for choice in choices if choice["type"] != "null")]}
    return {**named, **merged, **(types if choices else {}), **option}


def _param(option: dict[str, Any]) -> Param:
    kept = {key: option[key] for key in KEPT if key in option}
    if option["type"] == "array":
        # The form hands over null for an empty list.
        kept |= {"type": ["null", "array"], "items": {"type": option["items"]["type"]}}
    if "enum" in kept:
        # A drop-down list needs no bounds.
        kept = {key: value for key, value in kept.items() if key not in ("minimum", "maximum")}
    return Param(option["default"], description=option["description"], **kept)
