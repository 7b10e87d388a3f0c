"""The checker finds what is lost, doubled, altered or left behind, and nothing where nothing is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.simulator.sample.two_sides import DAY, DEVICE, USER, Record, TwoSides, kept, smbg
from tidepool_simulator.sample.checker.__main__ import main, table

READINGS = [smbg(minute) for minute in range(10)]

BOLUS = {
    "type": "bolus",
    "subType": "normal",
    "normal": 2.5,
    "time": "2026-11-19T08:00:00Z",
    "deviceId": DEVICE,
}
WIZARD = {
    "type": "wizard",
    "time": "2026-11-19T08:00:00Z",
    "deviceId": DEVICE,
    "units": "mg/dL",
    "bgInput": 180,
    "bgTarget": {"low": 100, "high": 120},
    "insulinSensitivity": 40,
    "carbInput": 30,
    "recommended": {"carb": 2, "correction": 0.5, "net": 2.5},
    "bolus": BOLUS,
}
KEPT_WIZARD = WIZARD | {
    "units": "mmol/L",
    "bgInput": 9.99135,
    "bgTarget": {"low": 5.55075, "high": 6.6609},
    "insulinSensitivity": 2.2203,
    "bolus": "b" * 32,
}


@pytest.fixture
def world(tmp_path: Path) -> TwoSides:
    return TwoSides(tmp_path)


@pytest.fixture
def uploaded(world: TwoSides) -> TwoSides:
    """Ten readings, staged and visible."""
    world.stage(READINGS)
    world.open_set()
    world.put(*(kept(reading) for reading in READINGS[:5]))
    return world


def test_nothing_wrong(world: TwoSides) -> None:
    world.stage(READINGS)
    world.open_set()
    world.put(*map(kept, READINGS))
    result = world.check()
    (entry,) = result.sets
    assert result.ok
    assert (entry.user_id, entry.device_id, entry.data_set_id, entry.state) == (
        USER,
        DEVICE,
        "set-1",
        "closed",
    )
    assert (result.staged, result.visible, entry.batches) == (10, 10, [f"{DAY}/{USER}/one"])


def test_lost(uploaded: TwoSides) -> None:
    uploaded.put(*(kept(reading) for reading in READINGS[6:]))
    result = uploaded.check()
    assert not result.ok
    assert (result.lost, result.double, result.foreign) == (1, 0, 0)
    assert result.sets[0].lost_places == [(1, 5)]


def test_double(uploaded: TwoSides) -> None:
    uploaded.put(*(kept(reading) for reading in READINGS[5:]), kept(READINGS[7], id="1" * 32))
    result = uploaded.check()
    assert not result.ok
    assert (result.lost, result.double, result.foreign) == (0, 1, 0)
    assert result.sets[0].double_places == [(1, 7)]


@pytest.mark.parametrize(
    "change",
    [
        {"value": 6.6054},
        {"time": "2026-11-19T08:09:00.001Z"},
        {"time": "2026-11-19T08:09:00.000+01:00"},
        {"deviceId": "Meter-2"},
        {"subType": "linked"},
        {"timezoneOffset": 60},
        {"annotations": [{"code": "bg/out-of-range"}]},
        {"payload": {"log": 1}},
        {"notes": ["before lunch"]},
        {"type": "cbg"},
    ],
)
def test_altered(uploaded: TwoSides, change: Record) -> None:
    uploaded.put(*(kept(reading) for reading in READINGS[5:9]), kept(READINGS[9]) | change)
    result = uploaded.check()
    assert not result.ok
    assert (result.lost, result.double, result.foreign) == (1, 0, 1)
    assert result.sets[0].lost_places == [(1, 9)]


@pytest.mark.parametrize(
    "spelling",
    [
        {"time": "2026-11-19T09:09:00+01:00"},
        {"time": "2026-11-19T08:09:00Z"},
        {"note": "a field that Tidepool drops"},
        {"payload": None},
        {"units": "mg/dl"},
        {"value": 119.0},
    ],
)
def test_other_spellings_are_the_same(uploaded: TwoSides, spelling: Record) -> None:
    uploaded.stage([READINGS[9] | spelling], "two")
    uploaded.put(*(kept(reading) for reading in READINGS[5:]))
    assert uploaded.check().ok


@pytest.mark.parametrize(
    ("staged", "stored", "change"),
    [
        (BOLUS, BOLUS, {"normal": 2.6}),
        (
            BOLUS | {"subType": "square", "extended": 2, "duration": 3600000},
            BOLUS | {"subType": "square", "extended": 2, "duration": 3600000},
            {"duration": 3600001},
        ),
        (
            {"type": "basal", "deliveryType": "temp", "rate": 0.5, "percent": 0.5, "duration": 1800000}
            | {"suppressed": {"type": "basal", "deliveryType": "scheduled", "rate": 1.0}},
            {"type": "basal", "deliveryType": "temp", "rate": 0.5, "percent": 0.5, "duration": 1800000}
            | {"suppressed": {"type": "basal", "deliveryType": "scheduled", "rate": 1.0}},
            {"suppressed": {"type": "basal", "deliveryType": "scheduled", "rate": 1.1}},
        ),
        (
            {
                "type": "pumpSettings",
                "basalSchedules": {"day": [{"start": 0, "rate": 1}]},
                "activeSchedule": "day",
            },
            {
                "type": "pumpSettings",
                "basalSchedules": {"day": [{"start": 0, "rate": 1}]},
                "activeSchedule": "day",
            },
            {"basalSchedules": {"day": [{"start": 0, "rate": 1.05}]}},
        ),
        (WIZARD | {"bolus": None}, KEPT_WIZARD, {"recommended": {"carb": 2, "correction": 0.5, "net": 2.4}}),
        (
            {"type": "food", "nutrition": {"carbohydrate": {"net": 20, "units": "grams"}}},
            {"type": "food", "nutrition": {"carbohydrate": {"net": 20, "units": "grams"}}},
            {"nutrition": {"carbohydrate": {"net": 21, "units": "grams"}}},
        ),
        (
            {"type": "insulin", "dose": {"total": 8, "units": "Units"}},
            {"type": "insulin", "dose": {"total": 8, "units": "Units"}},
            {"dose": {"total": 9, "units": "Units"}},
        ),
    ],
)
def test_altered_doses(world: TwoSides, staged: Record, stored: Record, change: Record) -> None:
    base = {"time": "2026-11-19T08:00:00Z", "deviceId": DEVICE}
    world.stage([base | staged])
    world.open_set()
    world.put(base | stored)
    assert world.check().ok
    world.open_set("set-2")
    world.put(base | stored | change, data_set_id="set-2")
    assert world.check().foreign == 1


def test_embedded_data_count_by_themselves(world: TwoSides) -> None:
    world.stage([WIZARD])
    world.open_set()
    world.put(KEPT_WIZARD)
    result = world.check()
    assert (result.visible, result.lost, result.sets[0].lost_places) == (1, 1, [(1, 0)])
    world.put(BOLUS | {"id": "b" * 32})
    assert world.check().ok
    world.put(BOLUS | {"id": "c" * 32})
    assert world.check().double == 1


def test_repeats_are_visible_once(world: TwoSides) -> None:
    turned = dict(reversed(READINGS[0].items()))
    world.stage([READINGS[0], READINGS[0], turned])
    world.open_set()
    world.put(kept(READINGS[0]))
    result = world.check()
    assert result.ok
    assert result.identical == 2
    world.put(kept(READINGS[0]))
    assert world.check().double == 1


def test_alike_but_not_identical_records_are_visible_each(world: TwoSides) -> None:
    world.stage([smbg(1, id="1" * 32), smbg(1, id="2" * 32)])
    world.open_set()
    world.put(kept(smbg(1)))
    assert world.check().lost == 1
    world.put(kept(smbg(1)))
    assert world.check().ok


def test_quarantined_records_are_accounted_for(world: TwoSides) -> None:
    world.stage([READINGS[0], smbg(1, 5000), b'{"type":"smbg",'])
    world.open_set()
    world.put(kept(READINGS[0]))
    result = world.check()
    assert (result.lost, result.sets[0].lost_places) == (2, [(1, 1), (1, 2)])
    world.refuse("one", 1, 2)
    result = world.check()
    assert result.ok
    assert result.quarantined == 2


def test_a_quarantined_record_must_not_be_visible(world: TwoSides) -> None:
    world.stage(READINGS[:2])
    world.refuse("one", 1)
    world.open_set()
    world.put(kept(READINGS[0]), kept(READINGS[1]))
    result = world.check()
    assert (result.lost, result.foreign, result.ok) == (0, 1, False)


def test_a_batch_that_was_never_uploaded(world: TwoSides) -> None:
    world.stage(READINGS)
    result = world.check()
    assert (result.lost, result.sets[0].state, result.sets[0].data_set_id) == (10, "not uploaded", "")
    assert world.check(without=[f"{DAY}/{USER}/one"]).ok


def test_left_open_with_data(uploaded: TwoSides) -> None:
    uploaded.put(*(kept(reading) for reading in READINGS[5:]))
    uploaded.open_set("set-2", state="open", active=False)
    assert uploaded.check().ok
    assert uploaded.check().unreachable == 1
    uploaded.put(kept(READINGS[0]), data_set_id="set-2", active=False)
    result = uploaded.check()
    assert (result.left_open, result.unreachable, result.ok) == (1, 0, False)


def test_closed_by_half(world: TwoSides) -> None:
    world.stage(READINGS)
    world.open_set()
    world.put(*map(kept, READINGS), active=False)
    result = world.check()
    assert (result.visible, result.lost, result.left_open) == (0, 10, 1)


def test_deleted_sets_hold_nothing(uploaded: TwoSides) -> None:
    uploaded.put(*(kept(reading) for reading in READINGS[5:]))
    uploaded.open_set("set-0", state="open", active=False, deleted_time=1)
    uploaded.put(kept(READINGS[0]), data_set_id="set-0", active=False)
    assert uploaded.check().ok


def test_continuous_sets_stay_open(world: TwoSides) -> None:
    none = {"dataSetType": "continuous", "deduplicator": {"name": "org.tidepool.deduplicator.none"}}
    world.stage(READINGS, data_set=none)
    world.open_set(state="open", data_set_type="continuous")
    world.put(*map(kept, READINGS))
    assert world.check().ok


def test_superseded_by_a_newer_upload(world: TwoSides) -> None:
    corrected = BOLUS | {"normal": 3.0}
    world.stage([BOLUS], "one")
    world.stage([corrected], "two")
    world.open_set("set-1")
    world.open_set("set-2")
    world.put(BOLUS, active=False, archived_by="set-2")
    result = world.check()
    assert (result.lost, result.superseded) == (2, 0)
    world.put(corrected, data_set_id="set-2")
    result = world.check()
    assert result.ok
    assert result.superseded == 1
    assert [entry.batches for entry in result.sets] == [[f"{DAY}/{USER}/one"], [f"{DAY}/{USER}/two"]]


@pytest.mark.parametrize(
    "broken", [{"state": "open"}, {"active": False}, {"deleted_time": 1}, {"time": "2026-11-19T08:00:01Z"}]
)
def test_hidden_by_a_set_that_does_not_count(world: TwoSides, broken: dict[str, Any]) -> None:
    instead = BOLUS | {"normal": 3.0, "time": broken.pop("time", BOLUS["time"])}
    world.stage([BOLUS])
    world.open_set("set-1")
    world.open_set("set-2", **broken)
    world.put(BOLUS, active=False, archived_by="set-2")
    world.put(instead, data_set_id="set-2")
    result = world.check()
    assert (result.lost, result.superseded, result.foreign) == (1, 0, 1)


def test_data_marked_for_destruction_do_not_count(uploaded: TwoSides) -> None:
    uploaded.put(*(kept(reading) for reading in READINGS[5:]))
    uploaded.put(kept(READINGS[0]), deleted_time=1)
    assert uploaded.check().ok


def test_without_a_deduplicator_twice_staged_is_twice_visible(world: TwoSides) -> None:
    none = {"deduplicator": {"name": "org.tidepool.deduplicator.none"}}
    world.stage(READINGS, "one", data_set=none)
    world.stage(READINGS, "two", data_set=none)
    world.open_set("set-1")
    world.put(*map(kept, READINGS))
    assert world.check().lost == 10
    world.open_set("set-2")
    world.put(*map(kept, READINGS), data_set_id="set-2")
    assert world.check().ok


def test_the_same_records_staged_twice_are_visible_once(world: TwoSides) -> None:
    world.stage(READINGS, "one")
    world.stage(READINGS, "two")
    world.open_set("set-1")
    world.open_set("set-2")
    world.put(*map(kept, READINGS), active=False, archived_by="set-2")
    world.put(*map(kept, READINGS), data_set_id="set-2")
    assert world.check().ok


def test_one_upload_too_many_without_a_deduplicator(world: TwoSides) -> None:
    world.stage(READINGS, data_set={"deduplicator": {"name": "org.tidepool.deduplicator.none"}})
    for data_set_id in ("set-1", "set-2"):
        world.open_set(data_set_id)
        world.put(*map(kept, READINGS), data_set_id=data_set_id)
    result = world.check()
    assert [(entry.data_set_id, entry.double) for entry in result.sets] == [("set-1", 0), ("set-2", 10)]


def test_a_replaced_batch_may_be_gone(world: TwoSides) -> None:
    world.stage(READINGS, "one")
    world.stage([smbg(1, 180)], "two", replaces="one")
    world.open_set("set-1", deleted_time=1)
    world.open_set("set-2")
    assert world.check().lost == 11
    world.put(kept(smbg(1), 9.99135), data_set_id="set-2")
    assert world.check().ok


def test_truncating_uploads_leave_the_last(world: TwoSides) -> None:
    truncate = {"deduplicator": {"name": "org.tidepool.deduplicator.device.truncate.dataset"}}
    world.stage(READINGS[:4], "one", data_set=truncate)
    world.stage(READINGS[4:], "two", data_set=truncate)
    world.open_set("set-1", deleted_time=1)
    world.open_set("set-2")
    world.put(*map(kept, READINGS[4:]), data_set_id="set-2")
    assert world.check().ok


def test_data_nobody_staged(uploaded: TwoSides) -> None:
    uploaded.put(*(kept(reading) for reading in READINGS[5:]))
    uploaded.open_set("set-x", device_id="Other")
    uploaded.put(kept(smbg(1, deviceId="Other")), data_set_id="set-x")
    assert uploaded.check().foreign == 1
    assert uploaded.check(users=["0123456789"]).ok


def test_a_device_with_an_export_is_compared_too(uploaded: TwoSides) -> None:
    """What the server had added to an export is no part of what it says."""
    uploaded.put(*(kept(reading) for reading in READINGS[5:]))
    added = {"id": "1" * 32, "uploadId": "upid_1", "_active": True, "guid": "one"}
    more = smbg(700) | added
    uploaded.stage([more], "exported", file={"format": "tidepool-export"})

    result = uploaded.check()
    assert (result.staged, result.lost, result.foreign, result.ok) == (11, 1, 0, False)
    uploaded.put(kept(smbg(700)))
    assert uploaded.check().ok


@pytest.mark.parametrize(
    ("file_format", "row"),
    [
        ("tidepool-export", {"exportError": "timeout"}),
        ("tidepool-export", {"suppressed.rate": 1}),
        ("tidepool-web-export", {"_active": True}),
    ],
)
def test_a_file_that_is_no_such_export_is_not_taken(world: TwoSides, file_format: str, row: Record) -> None:
    world.stage([smbg(1), smbg(2) | row], "exported", file={"format": file_format})

    assert world.check().unreadable == [f"{DAY}/{USER}/exported"]


def test_the_table_names_places_and_no_values(
    uploaded: TwoSides, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    uploaded.put(*(kept(reading) for reading in READINGS[6:]), kept(READINGS[0]))
    assert main([str(uploaded.staging), str(uploaded.store)]) == 1
    printed = capsys.readouterr().out
    assert f"lost of {DAY}/{USER}/one: file 1 record 5" in printed
    assert f"double of {DAY}/{USER}/one: file 1 record 0" in printed
    assert printed.splitlines()[-1].startswith("checker: 10 records staged, 0 quarantined")
    assert "6.6" not in printed
    assert "119" not in printed
    uploaded.put(kept(READINGS[5]))
    assert main([str(uploaded.staging), str(uploaded.store)]) == 1
    assert main([str(uploaded.staging), str(uploaded.store), "--user", "0123456789"]) == 0
    assert main([str(uploaded.staging), str(tmp_path / "none")]) == 2
    assert table(uploaded.check()).startswith("user")
