"""What a dry run finds that an upload would change at Tidepool; nothing of it is opened or changed."""

from __future__ import annotations

import pytest

from tests.factories import DAY, DEVICE, NONE, TRUNCATE, Record, alarm, bolus, cbg, readings, wizard
from tests.world import World
from tidepool_ingest.client import TidepoolPermissionError
from tidepool_ingest.reports.dry_run import COLUMNS, DryRunDiff, DryRunTotals, compare_batch

CANARY = "a value that nobody may see"


def compared(world: World, records: list[Record], batch: str = "two", **staged: object) -> DryRunDiff:
    """Prepare a batch and compare it; nothing but reading is asked of Tidepool."""
    number = world.ready(records, batch=batch, **staged)
    world.recorder.sent.clear()
    found = compare_batch(world.client, world.settings, world.root, world.row(number))
    assert world.recorder.sent == []
    assert world.sets(number) == []
    return found


def uploaded(world: World, records: list[Record], **staged: object) -> None:
    world.upload(world.ready(records, batch="one", **staged))


def archived_by_upload(world: World, batch: str = "two") -> int:
    """Upload the batch that was compared, and count what that hides of what was visible before."""
    before = len(world.visible())
    (number,) = [
        namesake.id for namesake in world.ledger.batches.namesakes(world.api_host, world.user, batch)
    ]
    world.upload(number)
    return before + world.row(number).expected_rows - len(world.visible())  # type: ignore[operator]


def test_all_is_new_where_nothing_is(world: World) -> None:
    found = compared(world, [*readings(30), wizard(40), alarm(50)])

    assert found == DryRunDiff(new={"cbg": 30, "wizard": 1, "bolus": 1, "deviceEvent": 2})


def test_what_is_there_is_told_by_its_content(world: World) -> None:
    uploaded(world, [*readings(10), bolus(20), wizard(40), alarm(50)])

    found = compared(world, [*readings(12), bolus(20, amount=3.5), wizard(40), alarm(50, notes=["new"])])

    assert found.new == {"cbg": 2}
    assert found.same == {"cbg": 10, "wizard": 1, "bolus": 1, "deviceEvent": 1}
    assert found.other == {"bolus": 1, "deviceEvent": 1}
    assert found.archived == {"cbg": 10, "wizard": 1, "bolus": 2, "deviceEvent": 2}
    assert archived_by_upload(world) == sum(found.archived.values())


def test_spellings_of_one_content_are_one(world: World) -> None:
    origin = {"id": "a", "time": "2026-03-01T01:00:00+01:00", "payload": {"of": 1.0}}
    records = [cbg(1, 120, units="mg/dL", origin=origin), bolus(2, 2.0), cbg(3, 6)]
    uploaded(world, records)

    found = compared(world, [records[0], bolus(2, 2), cbg(3, 6.0)])

    assert found.same == {"cbg": 2, "bolus": 1}


def test_what_was_sent_with_an_offset_is_found(world: World) -> None:
    record = cbg(60) | {"time": "2026-03-01T02:00:00+01:00"}
    uploaded(world, [record])

    found = compared(world, [record, cbg(61)])

    assert found == DryRunDiff(new={"cbg": 1}, same={"cbg": 1}, archived={"cbg": 1})


def test_other_devices_and_times_do_not_count(world: World) -> None:
    uploaded(world, [*readings(3), *readings(3, first=5000)])
    other = {"deviceId": "device-2"}

    found = compared(world, readings(3, **other), data_set=other)

    assert found == DryRunDiff(new={"cbg": 3})


def test_records_of_many_devices_are_looked_for_all_the_same(world: World) -> None:
    several = [cbg(number, deviceId=f"device-{number}") for number in range(1, 11)]
    uploaded(world, several)

    found = compared(world, [*several, cbg(20)])

    assert (found.new, found.same) == ({"cbg": 1}, {"cbg": 10})
    # The deduplicator goes by the device of the data set.
    assert found.archived == {"cbg": 1}


def test_a_deduplicator_that_compares_nothing_archives_nothing(world: World) -> None:
    uploaded(world, readings(5), data_set={"deduplicator": {"name": NONE}})

    assert compared(world, readings(6)) == DryRunDiff(new={"cbg": 1}, same={"cbg": 5})
    again = compared(world, readings(6), batch="three", data_set={"deduplicator": {"name": NONE}})
    assert again == DryRunDiff(new={"cbg": 1}, same={"cbg": 5})


def test_what_would_be_deleted_is_counted_whatever_its_time(world: World) -> None:
    uploaded(world, [*readings(5), *readings(4, first=20_000)])

    found = compared(world, readings(2), data_set={"deduplicator": {"name": TRUNCATE}}, allow_truncate=True)

    assert (found.same, found.archived, found.deleted) == ({"cbg": 2}, {}, 9)


def test_records_that_tidepool_has_refused_before_are_left_out(world: World) -> None:
    number = world.ready(readings(5), batch="two")

    row = world.row(number)
    refused = {row.content_key: {1, 3}}
    found = compare_batch(world.client, world.settings, world.root, row, rejected=refused)

    assert found == DryRunDiff(new={"cbg": 3})


def test_whoever_may_not_look_is_told_so(world: World) -> None:
    stranger = world.add_user(may_upload=False)
    number = world.ready(readings(3), user=stranger)

    with pytest.raises(TidepoolPermissionError):
        compare_batch(world.client, world.settings, world.root, world.row(number))


def test_numbers_are_summed_and_show_no_value(world: World) -> None:
    uploaded(world, [bolus(1, notes=[CANARY])])
    comparisons = DryRunTotals()
    comparisons.add(compared(world, [bolus(1, 4.5, notes=[CANARY]), cbg(2)]))
    comparisons.add(DryRunDiff(new={"cbg": 2}, deleted=7, untold=1))
    comparisons.left_out["tidepool-permission"] += 1

    assert list(comparisons.rows()) == [("bolus", 0, 0, 1, 1), ("cbg", 3, 0, 0, 0)]
    assert {len(row) for row in comparisons.rows()} == {len(COLUMNS)}
    sentence = " ".join(comparisons.sentences())
    assert "Of 2 batches, compared with what Tidepool shows now, 3 rows would be new" in sentence
    assert "It would archive 1 row that it shows now" in sentence
    assert "It would delete 7 rows of the devices" in sentence
    assert "1 batch not compared with Tidepool (1 tidepool-permission)" in sentence
    everything = sentence + str(comparisons.summary())
    assert not [secret for secret in (CANARY, DEVICE, world.user, str(DAY)) if secret in everything]
