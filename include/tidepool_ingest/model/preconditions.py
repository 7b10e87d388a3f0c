"""The preconditions under which no condition and no rule of a model applies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from tidepool_ingest.model.conditions import Vacuous
from tidepool_ingest.model.fields import Range, Record
from tidepool_ingest.model.specification import FieldSpec, fields_of


@dataclass
class Preconditions:
    """What must hold of an object so that each of its fields can be checked by itself.

    :param missing: fields that are missing.
    :param present: fields that are there.
    :param excluded: fields and values that they do not have.
    :param above: fields and values that they are above.
    :param ranges: fields and ranges that they are in.
    :param units_field: the required field that says in which units others are.
    :param by_units: fields and their ranges by those units.
    """

    missing: set[str] = field(default_factory=set)
    present: set[str] = field(default_factory=set)
    excluded: dict[str, set[Any]] = field(default_factory=dict)
    above: dict[str, float] = field(default_factory=dict)
    ranges: dict[str, Range] = field(default_factory=dict)
    units_field: str | None = None
    by_units: dict[str, Mapping[str, Range]] = field(default_factory=dict)

    def range_of(self, name: str, units: str | None) -> Range | None:
        """Return the range that a field has in the given units, if any."""
        if units is not None and name in self.by_units:
            return self.by_units[name].get(units)
        return self.ranges.get(name)


def vacuous_preconditions(model: type[Record]) -> Iterator[Preconditions]:
    """Find preconditions under which the model's conditions and rules are vacuous.

    :param model: the model.
    :return: those with as little as possible in the object first, then those with more in it.
    """
    if any(rule.vacuous_without is None for rule in model.rules):
        return
    specs = fields_of(model)
    vacuous_by_field = [
        (spec, condition.vacuous(spec.name)) for spec in specs for condition in spec.conditions
    ]
    may_be_full = any(vacuous.or_present for _, vacuous in vacuous_by_field)
    for prefers_present in (False, True) if may_be_full else (False,):
        for present in product(*(rule.vacuous_with for rule in model.rules)):
            found = _preconditions(model, vacuous_by_field, present, prefers_present=prefers_present)
            if found.missing.isdisjoint(found.present):
                yield found


def _preconditions(
    model: type[Record],
    vacuous_by_field: Iterable[tuple[FieldSpec, Vacuous]],
    present: Iterable[str],
    *,
    prefers_present: bool,
) -> Preconditions:
    found = Preconditions(present={spec.name for spec in fields_of(model) if spec.required})
    if (
        model.glucose_units is not None
        and len(model.glucose_units) == 1
        and model.glucose_units[0] in found.present
    ):
        found.units_field = model.glucose_units[0]
    found.present.update(present)
    for rule in model.rules:
        found.missing.update(rule.vacuous_without or ())
    for spec, vacuous in vacuous_by_field:
        if prefers_present and vacuous.or_present:
            found.present.update(vacuous.or_present)
        else:
            found.missing.update(vacuous.missing)
        if vacuous.excluded is not None:
            found.excluded.setdefault(vacuous.excluded[0], set()).update(vacuous.excluded[1])
        if vacuous.above is not None:
            found.above[vacuous.above[0]] = vacuous.above[1]
        if vacuous.within is not None:
            found.ranges[spec.name] = vacuous.within
        if vacuous.units is not None:
            _add_units(found, spec, *vacuous.units)
    return found


def _add_units(found: Preconditions, spec: FieldSpec, units_field: str, ranges: Mapping[str, Range]) -> None:
    if units_field in found.present and found.units_field in (None, units_field):
        found.units_field = units_field
        found.by_units[spec.name] = ranges
    else:
        # What is in the ranges of all units is in that of the units given, whichever they are.
        found.ranges[spec.name] = (
            max(low for low, _ in ranges.values()),
            min(high for _, high in ranges.values()),
        )
