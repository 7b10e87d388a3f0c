"""What is said of records that the Platform's validators accept."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from tests.factories import DEVICE, NONE, alarm, bolus, cbg, readings, wizard
from tests.world import World
from tidepool_ingest.model import Problem, validate_datum
from tidepool_ingest.model.fast_path import outline_of
from tidepool_ingest.prepare import record_checks
from tidepool_ingest.prepare.record_checks import MAX_SOURCES, Findings, RecordChecker
from tidepool_ingest.staging.manifest import RecordChecks

BY_DEVICE = {"needs_device_id": True, "device_id": DEVICE}


def look(
    datum: dict[str, Any], *embedded: str, checks: dict[str, Any] | None = None, **about: Any
) -> Findings:
    checker = RecordChecker(RecordChecks.model_validate(checks or {}), **about)
    return checker.check_record(datum, embedded)


def warned(code: str, pointer: str) -> Findings:
    return Findings(warned=(Problem(code, pointer),))


def refused(code: str, pointer: str) -> Findings:
    return Findings(rejected=(Problem(code, pointer),))


# ---------------------------------------------------------------- times


@pytest.mark.parametrize(
    "time", ["2026-03-05T10:00:00Z", "2026-03-05T10:00:00.5Z", "2026-03-05T10:00:00+00:00"]
)
def test_a_time_that_tidepool_writes_with_z_is_utc(time: str) -> None:
    assert look(cbg(1, time=time)) == Findings()


@pytest.mark.parametrize("time", ["2026-03-05T10:00:00+01:00", "2026-03-05T10:00:00-00:30"])
def test_a_time_with_an_offset_is_reported(time: str) -> None:
    assert look(cbg(1, time=time)) == warned("staged-time-not-utc", "/time")


# ---------------------------------------------------------------- devices


def test_another_device_under_a_hash_deduplicator_is_reported() -> None:
    assert look(cbg(1, deviceId="other"), **BY_DEVICE) == warned("staged-device-id-differs", "/deviceId")
    assert look(cbg(1, deviceId="other"), device_id=DEVICE) == Findings()


def test_a_missing_device_is_never_a_mere_warning() -> None:
    without = {name: value for name, value in cbg(1).items() if name != "deviceId"}
    ignored = {"device-id-differs": "ignore", "time-not-utc": "ignore", "units-mixed": "ignore"}
    for checks in ({}, ignored):
        assert look(without, checks=checks, **BY_DEVICE) == refused("staged-device-id-missing", "/deviceId")
    assert look(without) == Findings()


@pytest.mark.parametrize(("record", "field"), [(wizard(1), "bolus"), (alarm(1), "status")])
def test_embedded_data_are_looked_at_too(record: dict[str, Any], field: str) -> None:
    inner = {**record[field], "time": "2026-03-05T10:00:00+01:00", "deviceId": "other"}
    found = look({**record, field: inner}, field, **BY_DEVICE)
    assert found.warned == (
        Problem("staged-device-id-differs", f"/{field}/deviceId"),
        Problem("staged-time-not-utc", f"/{field}/time"),
    )
    del inner["deviceId"]
    found = look({**record, field: inner}, field, **BY_DEVICE)
    assert found.rejected == (Problem("staged-device-id-missing", f"/{field}/deviceId"),)


# ---------------------------------------------------------------- units


def test_the_first_reading_of_a_device_decides_its_unit() -> None:
    checker = RecordChecker()
    calibration = {**cbg(3, 120, units="mg/dl"), "type": "deviceEvent", "subType": "calibration"}
    found = [
        checker.check_record(datum, ()).warned
        for datum in (
            cbg(1),
            cbg(2, units="mmol/l"),
            cbg(3, 120, units="mg/dL"),
            calibration,
            cbg(4, 120, units="mg/dL", deviceId="other"),
            cbg(5, 120, units="mg/dl", deviceId="other"),
            cbg(6, deviceId="other"),
            {
                "type": "bloodKetone",
                "time": cbg(7)["time"],
                "units": "mmol/L",
                "value": 1,
                "deviceId": "other",
            },
            {**wizard(8), "units": "mg/dL"},
        )
    ]
    mixed = (Problem("staged-units-mixed", "/units"),)
    assert found == [(), (), mixed, mixed, (), (), mixed, (), ()]


def test_only_so_many_devices_are_told_apart() -> None:
    checker = RecordChecker()
    for number in range(MAX_SOURCES + 1):
        assert checker.check_record(cbg(1, deviceId=f"d{number}"), ()) == Findings()
    assert checker.check_record(cbg(2, 120, units="mg/dL", deviceId="d0"), ()).warned
    assert checker.check_record(cbg(2, 120, units="mg/dL", deviceId=f"d{MAX_SOURCES}"), ()) == Findings()


# ---------------------------------------------------------------- what the device's clock showed

UTC_TIME = "2026-03-05T10:00:00Z"
CLOCKS: list[tuple[dict[str, Any], bool]] = [
    ({"deviceTime": "2026-03-05T02:00:00", "timezoneOffset": -480}, True),
    ({"deviceTime": "2026-03-06T02:00:00", "timezoneOffset": -480}, True),
    ({"deviceTime": "2026-03-06T02:00:01", "timezoneOffset": -480}, False),
    ({"deviceTime": "2026-03-04T02:00:00", "timezoneOffset": -480}, True),
    ({"deviceTime": "2026-03-04T01:59:59", "timezoneOffset": -480}, False),
    ({"deviceTime": "2026-03-12T10:00:00", "timezoneOffset": 0}, False),
    ({"deviceTime": "2026-03-12T10:00:00", "timezoneOffset": 0, "conversionOffset": 604_800_000}, True),
    ({"deviceTime": "2026-03-05T10:00:00", "timezoneOffset": 0, "conversionOffset": 86_400_001}, False),
    ({"deviceTime": "2026-03-06T10:00:05", "timezoneOffset": 0.0, "clockDriftOffset": 5_000.0}, True),
    ({"deviceTime": "2026-03-06T10:00:05", "timezoneOffset": 0, "clockDriftOffset": 4_999}, False),
    ({"deviceTime": "2026-03-07T00:00:00"}, True),
    ({"deviceTime": "2026-03-07T00:00:00.001"}, False),
    ({"deviceTime": "2026-03-03T20:00:00", "timezoneOffset": None}, True),
    ({"deviceTime": "2026-03-03T19:59:59"}, False),
    ({"deviceTime": "2026-03-12T10:00:00", "conversionOffset": 604_800_000}, True),
    ({"deviceTime": "2026-03-05T5:00:00", "time": "2026-03-05T5:00:00Z", "timezoneOffset": 0}, True),
    ({"deviceTime": "0000-01-01T00:00:00", "time": "0000-01-02T00:00:00Z", "timezoneOffset": 0}, True),
    ({"deviceTime": "2026-03-05T10:00:00", "timezoneOffset": 0, "conversionOffset": 1e300}, False),
    ({"timezoneOffset": -480}, True),
]


def needing(checker: RecordChecker, data: Sequence[dict[str, Any] | None]) -> list[int]:
    """Return which of some decoded records need checking."""
    return checker.needing_check([None if datum is None else outline_of(datum) for datum in data])


@pytest.mark.parametrize(("change", "is_right"), CLOCKS)
def test_a_device_time_more_than_a_day_off_is_reported(change: dict[str, Any], is_right: bool) -> None:
    datum = cbg(1, time=UTC_TIME) | change
    assert validate_datum(datum) == ()
    found = Findings() if is_right else warned("staged-device-time-differs", "/deviceTime")

    checker = RecordChecker()
    assert checker.check_record(datum, ()) == found
    plain = needing(checker, [datum]) == []
    assert plain <= is_right
    embedding = {**wizard(1), "bolus": {**bolus(1), "time": UTC_TIME} | change}
    assert bool(look(embedding, "bolus").warned) is not is_right


def test_the_quick_look_finds_every_device_time_that_differs() -> None:
    rng = random.Random(7)
    checker = RecordChecker()
    checker.check_record(cbg(1), ())
    found = 0
    for _ in range(40):
        block: list[dict[str, Any]] = []
        for _ in range(50):
            local = f"2026-03-0{rng.randint(1, 4)}T{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:00"
            offsets = {
                "timezoneOffset": rng.choice([None, -480, 0, 720, 60.0]),
                "conversionOffset": rng.choice([None, 0, 3_600_000, -86_400_000]),
                "clockDriftOffset": rng.choice([None, 0, -1_800_000]),
            }
            time = f"2026-03-0{rng.randint(1, 4)}T{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:30Z"
            block.append(cbg(1, time=time, deviceTime=local, **offsets))
        wrong = {index for index, datum in enumerate(block) if checker.check_record(datum, ()).warned}
        assert wrong <= set(needing(checker, block)) != set(range(50))
        found += len(wrong)
    assert 400 < found < 1_600


def test_hours_that_were_seen_are_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    checker = RecordChecker()
    checker.check_record(cbg(1), ())
    right = cbg(1, time=UTC_TIME, deviceTime="2026-03-05T02:59:59", timezoneOffset=-480)
    wrong = right | {"deviceTime": "2026-03-12T02:00:00"}
    assert needing(checker, [right, wrong, right]) == [1]

    monkeypatch.setattr(record_checks, "_always_go_together", lambda hours: hours[0].startswith("x"))
    assert needing(checker, [right, wrong, right]) == [1]
    monkeypatch.setattr(record_checks, "_MAX_HOURS", 1)
    assert needing(checker, [wrong]) == [0]
    assert needing(checker, [right]) == [0]


# ---------------------------------------------------------------- the quick look


@pytest.mark.parametrize(
    ("change", "plain"),
    [
        ({}, True),
        ({"units": "mmol/l"}, True),
        ({"units": "mg/dL", "value": 120}, False),
        ({"deviceId": "other"}, False),
        ({"time": "2026-03-05T10:00:00+01:00"}, False),
        ({"id": "a" * 32}, False),
        ({"type": "wizard"}, False),
        ({"type": "deviceEvent"}, False),
    ],
)
@pytest.mark.parametrize("about", [BY_DEVICE, {}])
def test_the_quick_look_passes_only_what_the_full_one_says_nothing_of(
    change: dict[str, Any], plain: bool, about: dict[str, Any]
) -> None:
    checker = RecordChecker(**about)
    assert needing(checker, [cbg(1), cbg(2)]) == [0, 1]
    checker.check_record(cbg(1), ())
    datum = {**cbg(2), **change}
    assert needing(checker, [cbg(3), datum, cbg(4)]) == ([] if plain else [1])
    assert needing(checker, [None, cbg(3)]) == [0]
    if plain:
        assert checker.check_record(datum, ()) == Findings()


@pytest.mark.parametrize("about", [BY_DEVICE, {}])
def test_a_device_without_readings_passes_the_quick_look_as_well(about: dict[str, Any]) -> None:
    checker = RecordChecker(**about)
    other = bolus(1, deviceId="other")
    assert needing(checker, [bolus(1)]) == [0]
    if about:
        checker.check_record(other, ())  # not of the data set's device: it does not become the usual one
    checker.check_record(bolus(1), ())
    assert needing(checker, [bolus(2), other, cbg(3)]) == [1, 2]
    checker.check_record(cbg(3, 120, units="mg/dL"), ())
    assert needing(checker, [bolus(4), cbg(5, 120, units="mg/dL"), cbg(6)]) == [2]
    assert checker.check_record(cbg(6), ()).warned == (Problem("staged-units-mixed", "/units"),)


# ---------------------------------------------------------------- through prepare


def test_warnings_are_counted_and_the_records_are_uploaded(world: World) -> None:
    late = cbg(100, time="2026-03-05T10:00:00+01:00")
    number = world.ready([*readings(5), late, cbg(101, deviceId="other"), cbg(102, 120, units="mg/dL")])

    prepared = world.prepared(number)
    assert prepared.warnings == {
        "cbg": {"staged-time-not-utc": 1, "staged-device-id-differs": 1, "staged-units-mixed": 1}
    }
    assert (sum(prepared.accepted.values()), prepared.quarantined) == (8, 0)
    world.upload(number)
    assert len(world.visible()) == 8


@pytest.mark.parametrize(
    ("check", "record", "code"),
    [
        ("time-not-utc", cbg(100, time="2026-03-05T10:00:00+01:00"), "staged-time-not-utc"),
        ("device-id-differs", bolus(100, deviceId="other"), "staged-device-id-differs"),
        ("units-mixed", cbg(100, 120, units="mg/dL"), "staged-units-mixed"),
        (
            "device-time-differs",
            cbg(100, deviceTime="2026-03-09T00:00:00", timezoneOffset=0),
            "staged-device-time-differs",
        ),
    ],
)
def test_each_check_can_refuse_or_be_switched_off(
    world: World, check: str, record: dict[str, Any], code: str
) -> None:
    records = [*readings(20), record]
    number = world.ready(records, batch="refusing", checks={check: "refuse"})
    assert world.refused(number) == [(20, [code])]
    assert world.prepared(number).warnings == {}

    number = world.ready(records, batch="ignoring", checks={check: "ignore"})
    assert world.refused(number) == []
    assert world.prepared(number).warnings == {}


def test_what_refuses_is_part_of_what_the_batch_is(world: World) -> None:
    records = readings(3)
    world.stage(records, checks={"time-not-utc": "ignore"})
    (first,) = world.plan().batches
    world.stage(records)
    assert world.plan().batches == [first]
    world.stage(records, checks={"time-not-utc": "refuse"})
    assert world.plan().batches != [first]


def test_without_a_hash_no_device_is_missed(world: World) -> None:
    record = {name: value for name, value in cbg(1).items() if name != "deviceId"}
    number = world.ready([record], data_set={"deduplicator": {"name": NONE}})
    assert (world.refused(number), world.prepared(number).warnings) == ([], {})
