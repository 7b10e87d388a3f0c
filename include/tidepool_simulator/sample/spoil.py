"""Spoil a hundredth of the records on purpose, each in a way that has been seen in the field."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from tidepool_simulator.sample.notebook import Record

SHARE = 0.01
"""Share of a device's records that is spoiled."""


class SpoiledAs(Enum):
    """What is wrong with a spoiled record."""

    OUT_OF_RANGE = "value out of range"
    NO_TIME = "no time"
    NAIVE_TIME = "time without zone"
    ODD_ZONE = "zone without colon"
    WRONG_TYPE = "number as text"
    UNKNOWN_KIND = "unknown type"
    UNKNOWN_SUB_KIND = "unknown sub-type"
    UNKNOWN_UNITS = "unknown units"
    NO_DEVICE_ID = "no device id"
    CUT_OFF = "line cut off"
    NOT_AN_OBJECT = "not an object"
    NOT_A_NUMBER = "NaN"
    NOT_UTF8 = "not UTF-8"
    REPEATED = "identical to an earlier record"
    REPEATED_ID = "id of an earlier record"

    @property
    def rejected_by_tidepool(self) -> bool:
        """Whether the Platform's own validators reject such a record."""
        return self in _BY_TIDEPOOL

    @property
    def unreadable(self) -> bool:
        """Whether the record is not even one JSON text."""
        return self in _UNREADABLE


_UNREADABLE = {SpoiledAs.CUT_OFF, SpoiledAs.NOT_A_NUMBER, SpoiledAs.NOT_UTF8}
_BY_TIDEPOOL = (
    set(SpoiledAs)
    - _UNREADABLE
    - {
        SpoiledAs.NO_DEVICE_ID,
        SpoiledAs.REPEATED,
        SpoiledAs.REPEATED_ID,
    }
)


@dataclass(frozen=True)
class Spoiled:
    """A record spoiled on purpose: its place in the device's records, from 0, and what is wrong with it."""

    index: int
    how: SpoiledAs


def spoil(
    records: list[Record], chance: random.Random, whole_lines: bool
) -> tuple[list[bytes], list[Spoiled]]:
    """Return the records as JSON texts, a hundredth of them spoiled, and what was done where.

    Duplicates come in beside the records; all else takes a record's place, as it does in the field.

    :param records: a device's records in order of time.
    :param whole_lines: whether each record is a line of its own, so that a broken one breaks no other.
    """
    wanted = max(3, round(len(records) * SHARE))
    chosen = set(chance.sample(range(10, len(records)), wanted))
    kinds = _kinds(whole_lines)
    texts: list[bytes] = []
    spoiled: list[Spoiled] = []
    waiting: dict[int, bytes] = {}
    for place, record in enumerate(records):
        if place in waiting:
            spoiled.append(Spoiled(len(texts), SpoiledAs.REPEATED))
            texts.append(waiting.pop(place))
        if place not in chosen:
            texts.append(as_text(record))
            continue
        earlier = next(records[back] for back in range(place - 1, -1, -1) if back not in chosen)
        how, text = _spoil_one(record, earlier, kinds, chance)
        if how is SpoiledAs.REPEATED:
            # The record itself is right; its twin follows a little later.
            waiting[min(place + chance.randrange(1, 30), len(records) - 1)] = text
            texts.append(text)
            continue
        spoiled.append(Spoiled(len(texts), how))
        texts.append(text)
    for twin in waiting.values():
        spoiled.append(Spoiled(len(texts), SpoiledAs.REPEATED))
        texts.append(twin)
    return texts, spoiled


def as_text(record: object) -> bytes:
    """Return a record as compact JSON in UTF-8."""
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()


def _kinds(whole_lines: bool) -> Iterator[SpoiledAs]:
    """Yield the kinds in turn, so that even few spoiled records show many of them."""
    kinds = [how for how in SpoiledAs if whole_lines or how not in _UNREADABLE]
    while True:
        yield from kinds


def _spoil_one(
    record: Record, earlier: Record, kinds: Iterator[SpoiledAs], chance: random.Random
) -> tuple[SpoiledAs, bytes]:
    """Spoil a record in the next way that applies to it; return how and the text."""
    for how in kinds:
        if how is SpoiledAs.REPEATED:
            return how, as_text(record)
        if how is SpoiledAs.CUT_OFF:
            text = as_text(record)
            return how, text[: chance.randrange(len(text) // 4, len(text) - 1)]
        if how is SpoiledAs.NOT_UTF8:
            return how, as_text(record).replace(b'"deviceId":"', b'"deviceId":"\xff\xfe', 1)
        if how is SpoiledAs.NOT_AN_OBJECT:
            return how, as_text([record["type"], record["time"]])
        changed = _with_id_of(record, earlier) if how is SpoiledAs.REPEATED_ID else _CHANGES[how](record)
        if changed is not None:
            return how, as_text(changed)
    raise AssertionError("the kinds to spoil a record never end")


def _main_number(record: Record) -> str | None:
    """Return the name of the number a record is about."""
    return next((name for name in ("value", "rate", "normal", "extended", "volume") if name in record), None)


def _out_of_range(record: Record) -> Record | None:
    name = _main_number(record)
    # Far above every limit of the Platform: 1,000 mg/dL, 100 units, 1,000 units of priming.
    return None if name is None else record | {name: 1207.5}


def _wrong_type(record: Record) -> Record | None:
    name = _main_number(record)
    return None if name is None else record | {name: str(record[name])}


def _not_a_number(record: Record) -> Record | None:
    return record | {_main_number(record) or "value": float("nan")}


def _unknown_sub_kind(record: Record) -> Record | None:
    if record["type"] == "basal":
        return record | {"deliveryType": "injected"}
    if record["type"] in ("bolus", "smbg"):
        return record | {"subType": "injected"}
    if record["type"] == "deviceEvent":
        return record | {"subType": "sensorEvent"}
    return None


def _with_id_of(record: Record, earlier: Record) -> Record | None:
    return record | {"id": earlier["id"]} if "id" in earlier else None


def _unknown_units(record: Record) -> Record | None:
    return record | {"units": "mg%"} if isinstance(record.get("units"), str) else None


def _without(record: Record, name: str) -> Record:
    return {key: value for key, value in record.items() if key != name}


_CHANGES: dict[SpoiledAs, Callable[[Record], Record | None]] = {
    SpoiledAs.OUT_OF_RANGE: _out_of_range,
    SpoiledAs.NO_TIME: lambda record: _without(record, "time"),
    SpoiledAs.NAIVE_TIME: lambda record: record | {"time": record["deviceTime"]},
    SpoiledAs.ODD_ZONE: lambda record: record | {"time": record["time"].rstrip("Z") + "+0000"},
    SpoiledAs.WRONG_TYPE: _wrong_type,
    SpoiledAs.UNKNOWN_KIND: lambda record: record | {"type": "deviceStatus"},
    SpoiledAs.UNKNOWN_SUB_KIND: _unknown_sub_kind,
    SpoiledAs.UNKNOWN_UNITS: _unknown_units,
    SpoiledAs.NO_DEVICE_ID: lambda record: _without(record, "deviceId"),
    SpoiledAs.NOT_A_NUMBER: _not_a_number,
}
