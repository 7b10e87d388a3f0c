"""The changes to records that a manifest asks for, made in their text and counted by field.

What an edit does not name stays byte for byte as staged: numbers keep their spelling, fields their order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from tidepool_ingest.deep_json import dumps, loads
from tidepool_ingest.staging.splice import (
    EACH,
    Cut,
    Member,
    cut_member,
    members,
    spliced,
    values_at,
    with_member,
)

if TYPE_CHECKING:
    from pydantic import JsonValue

    from tidepool_ingest.staging.manifest import RecordEdits
    from tidepool_ingest.staging.manifest_terms import GlucoseUnits

_LEVEL_ALERTS = ("urgentLow", "urgentLowPredicted", "low", "lowPredicted", "high", "highPredicted")
_RATE_ALERTS = ("fall", "rise")
_ALERTS = (("defaultAlerts",), ("scheduledAlerts", EACH, "alerts"))

VALUE_LABELS: dict[str, tuple[tuple[str, ...], ...]] = {
    "cbg": (("units",),),
    "smbg": (("units",),),
    "wizard": (("units",),),
    "deviceEvent/calibration": (("units",),),
    "deviceEvent/pumpSettingsOverride": (("units", "bg"),),
    "pumpSettings": (("units", "bg"),),
    "dosingDecision": (("units", "bg"),),
    "cgmSettings": (
        ("units",),
        *((*alerts, alert, "units") for alerts in _ALERTS for alert in _LEVEL_ALERTS),
    ),
}
"""Where each type of record labels the unit of its glucose values (Platform: the uses of
``data/blood/glucose`` under ``data/types``). Not here: ``bloodKetone``, whose mmol/L is not of glucose, and
``pumpSettings.display``, which says what the pump shows and labels no value."""

RATE_LABELS: dict[str, tuple[tuple[str, ...], ...]] = {
    "cbg": (("trendRateUnits",),),
    "cgmSettings": tuple((*alerts, alert, "units") for alerts in _ALERTS for alert in _RATE_ALERTS),
}
"""Where each type labels the unit of a glucose rate. The Platform reads such a label independently of
``units``, so that it may be right where the other is wrong; it is corrected as well, but only if it
names the same wrong unit."""

REQUIRED_LABELS = frozenset({"cbg", "smbg", "wizard", "deviceEvent/calibration"})
"""Types that must have ``units`` at their top; it is added where it is missing."""

_SPELLINGS = {"mg/dL": ("mg/dL", "mg/dl"), "mmol/L": ("mmol/L", "mmol/l")}
_PER_MINUTE = "/minute"
_SPACE = b" \t\r\n"
"""White space of JSON."""


class Edits:
    """Applies a manifest's edits to one record after the other.

    ``changes`` counts, for each field, the records in which it was changed; a relabelled unit is named by its
    path, such as ``units.bg``.

    :param wanted: the edits that the manifest asks for.
    """

    def __init__(self, wanted: RecordEdits) -> None:
        self.changes: Counter[str] = Counter()
        self._drop = frozenset(wanted.drop)
        self._set = {name: (_canonical(value), _json(value)) for name, value in wanted.set_fields.items()}
        self._units = wanted.glucose_units

    def apply(self, line: bytes) -> bytes:
        """Return the edited record; what is not a JSON object is returned unchanged, to be rejected later.

        :param line: the text of a record.
        """
        found = members(line)
        if found is None or not _is_all(found, line):
            return line
        last = {member.name: member for member in found}
        cuts = self._dropping(found) if not self._drop.isdisjoint(last) else []
        added: dict[str, bytes] = {}
        if self._set:
            self._setting(line, last, cuts, added)
        if self._units:
            self._relabelling(line, last, cuts, added, self._units)
        if cuts:
            line = spliced(line, cuts)
        for name, text in added.items():
            line = with_member(line, name, text)
        return line

    def _dropping(self, found: list[Member]) -> list[Cut]:
        """Return the cuts that take out the fields to be dropped, repeated ones too."""
        cuts: list[Cut] = []
        kept_before = False
        for index, member in enumerate(found):
            if member.name in self._drop:
                cuts.append(cut_member(found, index, kept_before))
            else:
                kept_before = True
        self.changes.update(self._drop & {member.name for member in found})
        return cuts

    def _setting(
        self, line: bytes, last: dict[str, Member], cuts: list[Cut], added: dict[str, bytes]
    ) -> None:
        """Give each field to be set its value, unless it has it."""
        for name, (canonical, text) in self._set.items():
            member = last.get(name)
            if member is None:
                added[name] = text
            elif _canonical(_loaded(_text(line, member))) != canonical:
                cuts.append(Cut(member.value_start, member.end, text))
            else:
                continue
            self.changes[name] += 1

    def _relabelling(
        self,
        line: bytes,
        last: dict[str, Member],
        cuts: list[Cut],
        added: dict[str, bytes],
        units: GlucoseUnits,
    ) -> None:
        """Correct the labels of glucose values and rates."""
        kind = _kind(line, last)
        if kind not in VALUE_LABELS:
            return
        wrong: set[str] = set()
        for path in VALUE_LABELS[kind]:
            self._correct(line, last, path, cuts, lambda label: _corrected_value(label, units, wrong))
        for path in RATE_LABELS.get(kind, ()):
            self._correct(line, last, path, cuts, lambda label: _corrected_rate(label, units, wrong))
        if kind in REQUIRED_LABELS:
            member = last.get("units")
            if member is None:
                added["units"] = _json(units)
            elif _text(line, member) == b"null":
                cuts.append(Cut(member.value_start, member.end, _json(units)))
            else:
                return
            self.changes["units"] += 1

    def _correct(
        self,
        line: bytes,
        last: dict[str, Member],
        path: tuple[str, ...],
        cuts: list[Cut],
        corrected: Callable[[str], str | None],
    ) -> None:
        """Correct the labels at one path of a record; they count once for the record."""
        member = last.get(path[0])
        if member is None:
            return
        before = len(cuts)
        for start, end in values_at(line, path[1:], member.value_start):
            label = _loaded(line[start:end])
            correction = corrected(label) if isinstance(label, str) else None
            if correction is not None:
                cuts.append(Cut(start, end, _json(correction)))
        if len(cuts) > before:
            self.changes[".".join(path)] += 1


def _is_all(found: list[Member], line: bytes) -> bool:
    """Return whether an object with these members is all that a line holds."""
    behind = line[found[-1].end :] if found else line.strip(_SPACE).removeprefix(b"{")
    return behind.strip(_SPACE) == b"}"


def _corrected_value(label: str, units: GlucoseUnits, wrong: set[str]) -> str | None:
    """Return the right label for a value, recording the wrong one; ``None`` if it is right."""
    if label in _SPELLINGS[units]:
        return None
    wrong.add(label.lower())
    return units


def _corrected_rate(label: str, units: GlucoseUnits, wrong: set[str]) -> str | None:
    """Return the right label for a rate when it names the same wrong unit as the record's values."""
    unit = label.removesuffix(_PER_MINUTE)
    return units + _PER_MINUTE if unit != label and unit.lower() in wrong else None


def _kind(line: bytes, last: dict[str, Member]) -> str | None:
    """Return type, and sub-type for device events, as the keys of ``VALUE_LABELS`` name them."""
    kind = _loaded(_text(line, last["type"])) if "type" in last else None
    if kind == "deviceEvent" and "subType" in last:
        return f"{kind}/{_loaded(_text(line, last['subType']))}"
    return kind if isinstance(kind, str) else None


def _text(line: bytes, member: Member) -> bytes:
    return line[member.value_start : member.end]


def _json(value: JsonValue) -> bytes:
    return dumps(value, separators=(",", ":")).encode()


def _canonical(value: JsonValue) -> str:
    return dumps(value, sort_keys=True)


def _loaded(text: bytes) -> JsonValue:
    """Return a value, or ``None`` if it is not JSON: the model rejects that later."""
    try:
        value: JsonValue = loads(text)
    except ValueError:
        return None
    return value
