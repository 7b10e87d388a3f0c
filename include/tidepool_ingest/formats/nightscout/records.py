"""Records as text: what all of them have, and how long it takes to write it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from tidepool_ingest.formats.nightscout.delivery import Basal
from tidepool_ingest.formats.nightscout.profiles import MG_PER_DL, Profiles, units_meant
from tidepool_ingest.formats.nightscout.times import OF_HOUR, REMEMBERED_MAX, Moments
from tidepool_ingest.formats.nightscout.values import (
    HOUR_MS,
    MINUTE_MS,
    Document,
    RefusedDocumentError,
    as_json,
    origin_id,
    text,
)
from tidepool_ingest.model.base import NOTE_LENGTH_MAX, NOTES_MAX
from tidepool_ingest.model.glucose import MMOL_PER_L

if TYPE_CHECKING:
    from pydantic import JsonValue

UNITS_UNKNOWN: Final = "staged-units-unknown"
"""Code of a glucose value that may be in either unit."""

MG_PER_DL_MIN: Final = 40
"""From here on a glucose value is in mg/dL: no person has so many mmol/L and lives."""
MMOL_PER_L_LIKELY: Final = 20
"""Up to here it is in mmol/L: no meter shows so few mg/dL."""


class _Hour(NamedTuple):
    """How records begin in an hour of UTC, but for minute and second.

    :param utc: the hour.
    :param device: what follows, with the hour that the person's clock shows.
    :param offset: what follows that.
    """

    utc: str
    device: str
    offset: str


class Writer:
    """Writes records.

    :param device_id: of all of them.
    :param profiles: by whose time zones a person's clock is known.
    """

    def __init__(self, device_id: str, profiles: Profiles) -> None:
        self._device = f'"deviceId":{as_json(device_id)}'
        self._profiles = profiles
        self._moments = Moments()
        self._hours: dict[int, _Hour | None] = {}

    def written(self, ms: int) -> str:
        """Return an instant as records have it."""
        return self._moments.written(ms)

    def head(self, kind: str, ms: int) -> str:
        """Return how a record begins: its type, its time and its device, without the closing brace.

        :param kind: the record's type.
        :param ms: when, in milliseconds since 1970.
        """
        number, rest = divmod(ms, HOUR_MS)
        try:
            hour = self._hours[number]
        except KeyError:
            hour = self._hour(number)
        if hour is None:
            return self._head(kind, ms)
        utc, device, offset = hour
        second, fraction = divmod(rest, 1000)
        shown = OF_HOUR[second]
        if fraction:
            return f'{{"type":"{kind}","time":"{utc}{shown}.{fraction:03}{device}{shown}{offset}'
        return f'{{"type":"{kind}","time":"{utc}{shown}{device}{shown}{offset}'

    def _hour(self, number: int) -> _Hour | None:
        """Return how records begin in an hour of UTC; ``None`` if that changes within it."""
        if len(self._hours) >= REMEMBERED_MAX:
            self._hours.clear()
        start = number * HOUR_MS
        found = None
        clock = self._profiles.clock_throughout(start, start + HOUR_MS)
        if clock is not None:
            offset = clock.throughout(start, start + HOUR_MS)
            if offset is not None and not offset % 60:
                utc, local = (self._moments.stamp(at)[:13] for at in (start, start + offset * MINUTE_MS))
                device = f'Z",{self._device},"deviceTime":"{local}'
                found = _Hour(utc, device, f'","timezoneOffset":{offset}')
        self._hours[number] = found
        return found

    def _head(self, kind: str, ms: int) -> str:
        clock = self._profiles.clock_at(ms)
        begins = f'{{"type":"{kind}","time":"{self._moments.written(ms)}",{self._device}'
        if clock is None:
            return begins
        offset = clock.offset(ms)
        shown = self._moments.stamp(ms + offset * MINUTE_MS)
        return f'{begins},"deviceTime":"{shown}","timezoneOffset":{offset}'

    def record(self, kind: str, ms: int, fields: Mapping[str, JsonValue], *names: str) -> bytes:
        """Return a record.

        :param kind: its type.
        :param ms: when, in milliseconds since 1970.
        :param fields: those of its type.
        :param names: what its ``origin.id`` is made of, after the type.
        """
        members = as_json(fields)[1:-1]
        return (
            f"{self.head(kind, ms)}{',' if members else ''}{members}"
            f',"origin":{{"id":{origin_id(kind, *names)}}}}}'
        ).encode()


def units_of(document: Document, values: Sequence[float], usual: str | None) -> str:
    """Return the unit of a document's glucose values.

    :param document: it may name one.
    :param values: the values.
    :param usual: the unit of the site's profiles, if all have one.
    :raises RefusedDocumentError: nothing tells.
    """
    said = units_meant(text(document, "units"))
    if said is not None:
        return said
    if any(value >= MG_PER_DL_MIN for value in values):
        return MG_PER_DL
    if usual is not None:
        return usual
    if all(value <= MMOL_PER_L_LIKELY for value in values):
        return MMOL_PER_L
    raise RefusedDocumentError(UNITS_UNKNOWN)


def notes_of(document: Document) -> list[JsonValue]:
    """Return a document's free text, in as many pieces as the Platform needs."""
    written = text(document, "notes")
    pieces = [written[at : at + NOTE_LENGTH_MAX] for at in range(0, len(written), NOTE_LENGTH_MAX)]
    return list(pieces[:NOTES_MAX])


class DocumentRecords:
    """The records of one document.

    :param writer: writes them.
    :param at: when it was, in milliseconds since 1970.
    :param name: of the document.
    :param notes: free text that goes along with the first record.
    """

    def __init__(self, writer: Writer, at: int, name: str, notes: list[JsonValue]) -> None:
        self._writer = writer
        self._name = name
        self.at = at
        self.notes = notes
        self.lines: list[bytes] = []

    def add(
        self, kind: str, fields: dict[str, JsonValue], *names: str, bolus: dict[str, JsonValue] | None = None
    ) -> None:
        """Add a record of the document's own time."""
        if self.notes and not self.lines:
            fields = {**fields, "notes": self.notes}
        line = self._writer.record(kind, self.at, fields, self._name, *names)
        if bolus:
            embedded = self._writer.record("bolus", self.at, bolus, self._name)
            line = line[:-1] + b',"bolus":' + embedded + b"}"
        self.lines.append(line)

    def add_basal(self, basal: Basal) -> None:
        """Add a record of basal delivery."""
        fields: dict[str, JsonValue] = {"deliveryType": basal.kind, "duration": basal.duration}
        if basal.kind != "suspend":
            fields["rate"] = basal.rate
        if basal.expected > basal.duration:
            fields["expectedDuration"] = basal.expected
        if basal.kind == "scheduled":
            if basal.name:
                fields["scheduleName"] = basal.name
            names: tuple[str, ...] = ("scheduled", self._writer.written(basal.start))
        else:
            names = (self._name, *([str(basal.piece)] if basal.piece else []))
        if basal.scheduled is not None:
            fields["suppressed"] = {
                "type": "basal",
                "deliveryType": "scheduled",
                "rate": basal.scheduled.units,
            }
            if basal.kind == "temp" and basal.factor is not None:
                fields["percent"] = basal.factor
        self.lines.append(self._writer.record("basal", basal.start, fields, *names))
