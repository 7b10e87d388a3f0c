"""Limits of a field that depend on another field of the same object.

Each condition says whether a value is valid (``check``), whether it may miss a field (``asks_for_missing``)
and which values it never minds (``sure_range``): the fast path asks only where one may have something to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from msgspec import Struct
from typing_extensions import override

from tidepool_ingest.model.fields import Range
from tidepool_ingest.model.problems import EXISTS, NOT_AFTER, NOT_EXISTS, OUT_OF_RANGE


class Opinion(NamedTuple):
    """What a condition thinks of a value.

    :param code: the problem's code; ``None``: no problem.
    :param goes_on: whether the field's other limits are checked, too.
    """

    code: str | None = None
    goes_on: bool = True


FINE: Final = Opinion()
UNCHECKED: Final = Opinion(goes_on=False)
"""No problem, and no further look at the field."""


class Condition(Struct, frozen=True, eq=False):
    """Base of the conditions. Each is equal to itself only: ``typing`` merges marks that are equal.

    :param field: Tidepool name of the other field, the sibling.
    """

    field: str

    def check(self, value: Any, sibling: Any) -> Opinion:
        """Check the field.

        :param value: its parsed value; ``None`` when missing.
        :param sibling: that of the other field.
        """
        raise NotImplementedError

    @property
    def asks_for_missing(self) -> bool:
        """Whether it may have something to say about a field that is missing."""
        return False

    @property
    def sure_range(self) -> Range | None:
        """A range in which every number is valid while the sibling is missing; ``None``: there is none."""
        return None

    @property
    def always_sure(self) -> bool:
        """Whether every number in that range is valid, whatever the sibling is."""
        return False


class When(Condition, frozen=True, eq=False):
    """The field belongs to certain values of a sibling and may not be there otherwise.

    :param among: the values it belongs to; empty: any.
    :param required: whether it must be there with them.
    :param checked_anyway: whether its own limits are checked even where it does not belong.
    """

    among: tuple[Any, ...] = ()
    required: bool = False
    checked_anyway: bool = False

    @property
    @override
    def asks_for_missing(self) -> bool:
        return self.required

    @override
    def check(self, value: Any, sibling: Any) -> Opinion:
        if sibling is not None and (not self.among or sibling in self.among):
            return Opinion(NOT_EXISTS) if self.required and value is None else FINE
        if value is None:
            return FINE if self.checked_anyway else UNCHECKED
        return Opinion(EXISTS, goes_on=self.checked_anyway)


class ByCase(Condition, frozen=True, eq=False):
    """The field is required for some values of a sibling, forbidden for others, and unchecked for the rest.

    :param required: values for which it must be there.
    :param forbidden: values for which it may not.
    """

    required: tuple[str, ...]
    forbidden: tuple[str, ...]

    @property
    @override
    def asks_for_missing(self) -> bool:
        return True

    @override
    def check(self, value: Any, sibling: Any) -> Opinion:
        if sibling in self.required:
            return Opinion(NOT_EXISTS) if value is None else FINE
        return Opinion(EXISTS if value is not None and sibling in self.forbidden else None, goes_on=False)


class NotWith(Condition, frozen=True, eq=False):
    """The field may not be there together with a sibling, and is not checked then."""

    @override
    def check(self, value: Any, sibling: Any) -> Opinion:
        if sibling is not None:
            return Opinion(EXISTS if value is not None else None, goes_on=False)
        return FINE


class RequiredAt(Condition, frozen=True, eq=False):
    """The field must be there when a sibling has a certain value, its smallest.

    :param number: the value.
    """

    number: float

    @property
    @override
    def asks_for_missing(self) -> bool:
        return True

    @override
    def check(self, value: Any, sibling: Any) -> Opinion:
        return Opinion(NOT_EXISTS) if value is None and sibling == self.number else FINE


class After(Condition, frozen=True, eq=False):
    """The time may not be before a sibling's, where that is there."""

    @override
    def check(self, value: Any, sibling: Any) -> Opinion:
        if value is None or sibling is None or value.moment >= sibling.moment:
            return FINE
        return Opinion(NOT_AFTER)


class From(Condition, frozen=True, eq=False):
    """The smallest value allowed is a sibling's, where that keeps the same limits.

    :param minimum: the smallest value of both.
    :param maximum: the largest value of both.
    """

    minimum: float
    maximum: float = float("inf")

    @property
    @override
    def sure_range(self) -> Range:
        return self.minimum, self.maximum

    @override
    def check(self, value: Any, sibling: Any) -> Opinion:
        if value is None:
            return FINE
        low = self.minimum
        if sibling is not None and low <= sibling <= self.maximum:
            low = sibling
        return FINE if low <= value <= self.maximum else Opinion(OUT_OF_RANGE)


class UpTo(Condition, frozen=True, eq=False):
    """The largest value allowed is a sibling's, where that keeps the same limits.

    :param minimum: the smallest value of both.
    :param maximum: the largest value of both.
    """

    minimum: float
    maximum: float

    @property
    @override
    def sure_range(self) -> Range:
        return self.minimum, self.maximum

    @override
    def check(self, value: Any, sibling: Any) -> Opinion:
        if value is None:
            return FINE
        high = self.maximum
        if sibling is not None and self.minimum <= sibling <= high:
            high = sibling
        return FINE if self.minimum <= value <= high else Opinion(OUT_OF_RANGE)


class ByUnits(Condition, frozen=True, eq=False):
    """The range depends on the units in a sibling field; in other units there is none.

    :param ranges: smallest and largest value by units.
    """

    ranges: Mapping[str, Range]

    @property
    @override
    def sure_range(self) -> Range | None:
        ranges = set(self.ranges.values())
        return ranges.pop() if len(ranges) == 1 else None

    @property
    @override
    def always_sure(self) -> bool:
        return True

    @override
    def check(self, value: Any, sibling: Any) -> Opinion:
        limits = self.ranges.get(sibling)
        if value is None or limits is None or limits[0] <= value <= limits[1]:
            return FINE
        return Opinion(OUT_OF_RANGE)
