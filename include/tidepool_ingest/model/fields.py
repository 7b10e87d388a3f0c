"""The words in which the models state the Platform's rules.

A model is a class whose annotations are its specification: ``annotated_types`` for plain limits, and the
markers below, and :mod:`tidepool_ingest.model.conditions`, for what those cannot say. Nothing here judges;
:mod:`tidepool_ingest.model.specification` reads the annotations, and all else works from what it finds.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, ClassVar, Final, TypeAlias

from annotated_types import Len
from msgspec import Struct

from tidepool_ingest.model.gotime import (
    SURE_INSTANT,
    SURE_LOCAL_TIME,
    Instant,
    parse_instant,
    parse_local_time,
)
from tidepool_ingest.model.problems import NONE_OF_ANY, NOT_ALLOWED, OUT_OF_RANGE

Values: TypeAlias = Mapping[str, Any]
"""The parsed fields of an object, by Tidepool name; missing ones are absent."""
Report: TypeAlias = Callable[[str, str], None]
"""Notes a problem: code, and the field it is about (``""``: the object itself)."""
Range: TypeAlias = tuple[float, float]

JSON_SIZE_MAX: Final = 4 * 1024
"""Bytes, as Go writes it, of a payload, an annotation or any other free object (P: metadata/metadata.go)."""
FREE_OBJECTS_MAX: Final = 100
"""Free objects in a list, such as annotations (P: metadata/metadata.go)."""


class Record(ABC):  # noqa: B024 - there is none of it, and mypy takes no plain class for hashable
    """Base of all models: fields have Python names, in Tidepool's they are in camel case.

    Models have no instances. They are read once their types of data are met, which is why they are plain
    classes: pydantic would make something of each when it is defined.
    """

    kind_field: ClassVar[str | None] = None
    """The field that distinguishes kinds of one type, if there are several: ``deliveryType``, ``subType``."""
    glucose_units: ClassVar[tuple[str, ...] | None] = None
    """Path to the units of the object's glucose values; ``None``: those of the object around it."""
    identity: ClassVar[tuple[str, ...]] = ()
    """What a type of data adds to the identity of its records (P: IdentityFields below data/types/)."""
    rules: ClassVar[tuple[Rule, ...]] = ()
    """Rules about several fields together."""


class Rule(Struct, frozen=True):
    """A rule about several fields of one object.

    :param check: gets the parsed fields, the glucose units in force (``None``: unknown), and the report. Of a
        time or an object it may only ask whether it is there: the fast path does not parse those for it.
    :param any_of: the names of fields, if it keeps to asking for one of them.
    """

    check: Callable[[Values, str | None, Report], None]
    any_of: tuple[str, ...] = ()


def any_of(*names: str, at: str = "", code: str = NONE_OF_ANY) -> Rule:
    """Make the rule that at least one of the fields is there.

    :param names: Tidepool names.
    :param at: the field that the problem is reported at.
    :param code: the code it is reported with.
    """

    def check(values: Values, _units: str | None, report: Report) -> None:
        if not any(name in values for name in names):
            report(code, at)

    return Rule(check, names)


# --- Kinds of values that JSON has no type for ---


class Moment(Struct, frozen=True):
    """A text that is a time.

    :param parse: how Go would read it.
    :param sure: regular expression of what is certainly such a time and not the zero time.
    :param in_parse_stage: whether an unreadable one is a parse error, as the Platform's ``parser.Time`` has
        it, or only a validation error, as its ``AsTime`` has it.
    :param not_zero: whether 0001-01-01T00:00:00Z counts as empty.
    """

    parse: Callable[[str], Instant | None]
    sure: str
    in_parse_stage: bool = True
    not_zero: bool = False

    def is_zero(self, instant: Instant) -> bool:
        """Return whether the Platform treats the instant as "no time"."""
        return self.not_zero and instant.is_zero


AnyInstant = Annotated[str, Moment(parse_instant, SURE_INSTANT)]
"""An RFC 3339 time, whichever."""
PresentInstant = Annotated[str, Moment(parse_instant, SURE_INSTANT, not_zero=True)]
"""An RFC 3339 time other than 0001-01-01T00:00:00Z."""
InstantText = Annotated[str, Moment(parse_instant, SURE_INSTANT, in_parse_stage=False, not_zero=True)]
"""An RFC 3339 time that is kept as text."""
LocalInstant = Annotated[str, Moment(parse_local_time, SURE_LOCAL_TIME, not_zero=True)]
"""A time without zone, ``YYYY-MM-DDTHH:MM:SS``, that the Platform stores as if it were UTC."""
LocalTimeText = Annotated[str, Moment(parse_local_time, SURE_LOCAL_TIME, in_parse_stage=False)]
"""A time without zone, ``YYYY-MM-DDTHH:MM:SS``, that is kept as text."""


class Free(Struct, frozen=True):
    """An object of any content up to ``JSON_SIZE_MAX`` that is not empty.

    :param drops_null: whether fields that are ``null`` are dropped before anything is checked.
    """

    drops_null: bool = True


FreeObject = Annotated[dict[str, Any], Free()]
FreeObjects = Annotated[list[FreeObject], Len(1, FREE_OBJECTS_MAX)]


# --- Limits of one value ---


class Equals(Struct, frozen=True):
    """The only text allowed. Another one is "out of range" for the Platform, not "not allowed"."""

    text: str


class Pattern(Struct, frozen=True):
    """A regular expression that the whole text must match; ASCII only: Go's and Python's classes differ."""

    expression: str


class Known(Struct, frozen=True):
    """A text that must be in a list too long for ``Literal``.

    :param names: gives the list.
    """

    names: Callable[[], Collection[str]]


class Text(Struct, frozen=True):
    """A text with a grammar of its own.

    :param is_valid: returns whether it keeps it.
    """

    is_valid: Callable[[str], bool]


class BytesMax(Struct, frozen=True):
    """The most UTF-8 bytes of a text."""

    bytes: int


class Unique(Struct, frozen=True):
    """No text may be in the list twice."""


class Sorted(Struct, frozen=True):
    """The Platform stores the list sorted."""


class EmptyIsMissing(Struct, frozen=True):
    """The Platform treats an empty list as a missing one."""


class StoredAs(Struct, frozen=True):
    """The Platform stores one spelling instead of any other.

    :param text: that spelling.
    """

    text: str


class StoredUnder(Struct, frozen=True):
    """The Platform stores the field under another name.

    :param name: that name.
    """

    name: str


class SplitOff(Struct, frozen=True):
    """The Platform stores the embedded datum as a record of its own, and its id in its place.

    :param without_link: models of which it does not keep the id.
    """

    without_link: tuple[type[Record], ...] = ()


class ConvertedBy(Struct, frozen=True):
    """The Platform stores the number in mmol/L when a sibling field says that it is in mg/dL.

    :param field: the sibling's Tidepool name.
    """

    field: str


class Rising(Struct, frozen=True):
    """The items' values of this field begin at 0 and rise, up to a maximum.

    :param field: Tidepool name of the field in each item.
    :param maximum: the largest value allowed.
    """

    field: str
    maximum: int


class InGlucoseUnits(Struct, frozen=True, eq=False):
    """The limits depend on the glucose units in force; the Platform stores the value in mmol/L.

    :param ranges: smallest and largest value by units; ``None``: any value.
    :param among: the only values allowed, by units.
    """

    ranges: Mapping[str, Range] | None = None
    among: Mapping[str, tuple[float, ...]] | None = None

    def check(self, value: float, units: str | None) -> str | None:
        """Return the code of what is wrong with a value, or ``None``; in unknown units nothing is.

        :param value: the value.
        :param units: the units in force.
        """
        if units is None:
            return None
        if self.ranges is not None:
            low, high = self.ranges.get(units, (value, value))
            return None if low <= value <= high else OUT_OF_RANGE
        if self.among is not None:
            return None if value in self.among.get(units, (value,)) else NOT_ALLOWED
        return None
