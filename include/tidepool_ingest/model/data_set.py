"""The data set: what a client sends to open one (P: data/data_set.go)."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from annotated_types import Interval, Len, MinLen

from tidepool_ingest.model.base import (
    CLOCK_DRIFT_OFFSET_MAX,
    DatumId,
    NotEmptyText,
    TimezoneName,
    TimezoneOffset,
)
from tidepool_ingest.model.fields import (
    AnyInstant,
    BytesMax,
    Free,
    FreeObject,
    FreeObjects,
    LocalTimeText,
    Pattern,
    Record,
    Sorted,
    Unique,
)
from tidepool_ingest.model.parsing import escape, object_parser
from tidepool_ingest.model.problems import JSON_MALFORMED, NOT_PARSED, Problem, Problems
from tidepool_ingest.model.specification import fields_of
from tidepool_ingest.model.storage import unstorable
from tidepool_ingest.model.validation import validate

VERSION_LENGTH_MIN: Final = 5
"""Characters."""
REVERSE_DOMAIN: Final = (
    r"^[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)+$"
)
"""P: net/net.go."""
REVERSE_DOMAIN_LENGTH_MAX: Final = 253
"""Bytes."""


class Client(Record):
    """The program that uploads."""

    name: NotEmptyText | None = None
    version: NotEmptyText | None = None
    private: Annotated[dict[str, Any], Free(drops_null=False)] | None = None


class DeduplicatorName(Record):
    """The deduplicator asked for; the Platform reads nothing but its name."""

    name: Annotated[str, Len(1), Pattern(REVERSE_DOMAIN), BytesMax(REVERSE_DOMAIN_LENGTH_MAX)] | None = None


class DataSet(Record):
    """The body of a create request. A field that is not listed here is an error, unlike in a datum.

    Whatever is sent as ``byUser``, ``createdTime``, ``createdUserId``, ``modifiedTime`` or ``type`` must be
    of the right type and is then replaced.
    """

    annotations: FreeObjects | None = None
    by_user: str | None = None
    client: Client | None = None
    clock_drift_offset: (
        Annotated[int, Interval(ge=-CLOCK_DRIFT_OFFSET_MAX, le=CLOCK_DRIFT_OFFSET_MAX)] | None
    ) = None
    computer_time: LocalTimeText | None = None
    conversion_offset: int | None = None
    created_time: AnyInstant | None = None
    created_user_id: str | None = None
    data_set_type: Literal["continuous", "normal"] | None = None
    deduplicator: DeduplicatorName | None = None
    deleted_time: AnyInstant | None = None
    deleted_user_id: str | None = None
    device_id: NotEmptyText | None = None
    device_manufacturers: Annotated[list[NotEmptyText], Len(1), Unique(), Sorted()] | None = None
    device_model: NotEmptyText | None = None
    device_serial_number: NotEmptyText | None = None
    device_tags: (
        Annotated[list[Literal["activity-monitor", "bgm", "cgm", "insulin-pump"]], Len(1), Unique(), Sorted()]
        | None
    ) = None
    device_time: LocalTimeText | None = None
    id: DatumId | None = None
    modified_time: AnyInstant | None = None
    modified_user_id: str | None = None
    payload: FreeObject | None = None
    time: AnyInstant | None = None
    time_processing: Literal["across-the-board-timezone", "none", "utc-bootstrapping"] | None = None
    timezone: TimezoneName | None = None
    timezone_offset: TimezoneOffset | None = None
    type: str | None = None
    upload_id: str | None = None
    version: Annotated[str, MinLen(VERSION_LENGTH_MIN)] | None = None


def validate_data_set(body: object) -> tuple[Problem, ...]:
    """Validate the body of a create request as the Platform does.

    ``()`` does not promise 201: the Platform answers 500 for a deduplicator name that it does not know, a
    missing one that the device does not imply, or an ``uploadId`` that is malformed or taken.

    :param body: the decoded body; ``None`` is accepted.
    :return: all problems in the Platform's order; empty when it is accepted.
    """
    if body is None:
        return ()
    if not isinstance(body, dict):
        return (Problem(JSON_MALFORMED, ""),)
    problems = Problems()
    parsed = object_parser(DataSet)(body, "", problems)
    known = {spec.name for spec in fields_of(DataSet)}
    problems.extend(Problem(NOT_PARSED, f"/{escape(name)}") for name in sorted(body.keys() - known))
    if not problems:
        validate(parsed, None, "", problems)
        problems.finish()
    return tuple(problems)


def data_set_problems(body: object) -> tuple[Problem, ...]:
    """Return why no data set should be asked for with this body.

    :param body: the decoded body.
    :return: the Platform's own problems; if it has none, what its storage could not take, for which it would
        answer 500 each time.
    """
    if problems := validate_data_set(body):
        return problems
    return tuple(unstorable(object_parser(DataSet)(body or {}, "", Problems())))
