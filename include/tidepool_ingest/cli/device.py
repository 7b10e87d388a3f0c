"""The options that say what a batch is: the device that Tidepool is told of, and edits of records."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NoReturn

from tidepool_ingest.cli.reading import zones_of
from tidepool_ingest.model import masked_pointer, validate_data_set
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest_terms import (
    DEFAULT_CONTINUOUS_DEDUPLICATOR,
    DEFAULT_DEDUPLICATOR,
    StrictJsonError,
    strict_json,
)

if TYPE_CHECKING:
    from tidepool_ingest.staging.manifest import RecordEdits

_OF_DEVICE = (
    "device_id",
    "device_model",
    "device_serial_number",
    "device_manufacturer",
    "device_tag",
    "time_processing",
    "deduplicator",
)


def add_device(
    command: argparse.ArgumentParser, device_id: str = "for records that name no deviceId"
) -> None:
    """Add the options that say what Tidepool is told about the device.

    :param device_id: what ``--device-id`` is to the command.
    """
    device = command.add_argument_group("what Tidepool is told about the device")
    device.add_argument("--device-id", metavar="ID", help=device_id)
    device.add_argument("--device-model", metavar="NAME", help="as Tidepool and the report show it")
    device.add_argument("--device-serial-number", metavar="NUMBER", help="as printed on the device")
    device.add_argument(
        "--device-manufacturer", action="append", metavar="NAME", help="who made it; may be repeated"
    )
    device.add_argument(
        "--device-tag",
        action="append",
        metavar="TAG",
        help="activity-monitor, bgm, cgm or insulin-pump; may be repeated",
    )
    device.add_argument(
        "--time-processing", metavar="HOW", help="none, utc-bootstrapping or across-the-board-timezone"
    )
    device.add_argument(
        "--deduplicator",
        metavar="NAME",
        help=f"full name (default: {DEFAULT_DEDUPLICATOR}, and {DEFAULT_CONTINUOUS_DEDUPLICATOR} for a feed)",
    )


def add_edits(command: argparse.ArgumentParser) -> None:
    """Add the options that edit records."""
    edits = command.add_argument_group("edits that the manifest will ask for, each counted in the report")
    edits.add_argument(
        "--drop", action="append", default=[], metavar="FIELD", help="leave a field out; may be repeated"
    )
    edits.add_argument(
        "--set", action="append", default=[], metavar="FIELD=JSON", help="set a field; may be repeated"
    )
    edits.add_argument(
        "--glucose-units",
        choices=("mg/dL", "mmol/L"),
        help="the unit that glucose values are in, whatever their label",
    )


def data_set_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of the create body, which Tidepool would accept.

    :raises BatchError: ``stage-arguments``.
    """
    zones = zones_of(options)
    fields = {
        "deviceId": options.device_id,
        "deviceModel": options.device_model,
        "deviceSerialNumber": options.device_serial_number,
        "deviceManufacturers": options.device_manufacturer,
        "deviceTags": options.device_tag,
        "timezone": zones if zones is None or isinstance(zones, str) else zones[-1].zone,
        "timeProcessing": options.time_processing,
        "deduplicator": {"name": options.deduplicator} if options.deduplicator else None,
    }
    body = {name: value for name, value in fields.items() if value is not None}
    if problems := validate_data_set(body):
        reject(
            f"Tidepool would reject {', '.join(f'{code} at {masked_pointer(at)}' for code, at in problems)}"
        )
    return body


def says_device(options: argparse.Namespace) -> bool:
    """Return whether the command line says something about the device."""
    return any(getattr(options, name) is not None for name in _OF_DEVICE)


def says_edits(options: argparse.Namespace) -> bool:
    """Return whether the command line asks for edits."""
    return bool(options.drop or options.set or options.glucose_units)


def edits_of(options: argparse.Namespace) -> RecordEdits | None:
    """Return the edits that the command line asks for.

    :raises BatchError: ``stage-arguments``.
    """
    if not says_edits(options):
        return None
    # Loaded only here, as models are that few commands need.
    from pydantic import ValidationError

    from tidepool_ingest.staging.manifest import RecordEdits

    try:
        return RecordEdits(
            drop=tuple(options.drop),
            set_fields=dict(map(_assignment, options.set)),
            glucose_units=options.glucose_units,
        )
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if "drop" in problem["loc"]:
            reject("--drop takes the name of a field")
        reject(f"a manifest with these edits {problem['msg']}")


def _assignment(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    try:
        if not separator:
            raise StrictJsonError("it contains no =")
        return name, strict_json(value.encode(errors="surrogateescape"))
    except StrictJsonError as error:
        reject(f"--set takes FIELD=JSON, for example 'units=\"mg/dL\"'; here {error.detail}")


def reject(detail: str) -> NoReturn:
    """Say which argument cannot describe a batch.

    :raises BatchError: ``stage-arguments``.
    """
    raise BatchError("stage-arguments", detail=detail) from None
