"""A device whose zone or deviceId is another one than when records of the same days went up."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from upath import UPath

from tests.factories import DEVICE, TRUNCATE, Record, bolus, cbg, set_batch_state, set_data_set_state
from tests.guards.clock_reader import LONDON, NEW_YORK, RENAMED, SERIAL, ClockReader, rows
from tests.happenings import Elsewhere, before_it_is_sent, in_the_store, rebuilt
from tests.world import Outcome, World
from tidepool_ingest.client import TidepoolUnreachableError
from tidepool_ingest.errors import Disposition
from tidepool_ingest.formats import FORMATS
from tidepool_ingest.formats.ndjson import NdjsonReader
from tidepool_ingest.formats.reader import Reader
from tidepool_ingest.guards import HeldError
from tidepool_ingest.guards.before import DeviceChangedError, days_that_differ
from tidepool_ingest.ledger import BatchState, DataSetState, TaskOrigin
from tidepool_ingest.local_times import LocalTimes, Period
from tidepool_ingest.maintenance.rebuild import FOUND
from tidepool_ingest.staged_batch import StagedBatch
from tidepool_ingest.staging.batches import BatchFolder
from tidepool_ingest.staging.manifest import Deletion, Manifest, StagedFile, ZonePeriod
from tidepool_ingest.staging.work_area import WorkArea
from tidepool_ingest.upload import reverify_one, withdraw_batch


class AccountReader(ClockReader):
    """The same of a format that tells of no serial number: one device a person."""

    name = "test-account"
    options = frozenset({"timezone"})


@pytest.fixture(autouse=True)
def _formats(monkeypatch: pytest.MonkeyPatch) -> None:
    for reader in (ClockReader, AccountReader, TravellingReader, InstantReader):
        monkeypatch.setitem(FORMATS, reader.name, reader)


def stage_rows(
    world: World, content: bytes, batch: str, zone: Any, *, serial: str | None = SERIAL, **more: Any
) -> Path:
    """Stage such a file; a zone that is a text is that of the data set."""
    body: Record = {"deviceSerialNumber": serial} if serial else {}
    body |= {"timezone": zone} if isinstance(zone, str) else {}
    options = {} if isinstance(zone, str) else {"timezone": zone}
    return world.stage(
        content=content,
        batch=batch,
        file={"format": ClockReader.name} | options | more.pop("file", {}),
        data_set=body | more.pop("data_set", {}),
        **more,
    )


def went_up(world: World, *staged: Any, **more: Any) -> int:
    """Stage a file and upload it; return its batch's number."""
    stage_rows(world, *staged, **more)
    outcome = world.run(run=str(staged[1]))
    assert outcome.codes == []
    return next(iter(outcome.uploaded))


def shows(world: World, *staged: Any, **more: Any) -> int:
    """Do the same without Tidepool: let the ledger say that the batch is verified."""
    return shown(world, stage_rows(world, *staged, **more))


def shown(world: World, folder: Path) -> int:
    number = prepared(world, folder)
    started = world.ledger.data_sets.begin_opening(
        number, data_set_type="normal", deduplicator="hash", expected_rows=1, origin=TaskOrigin()
    )
    for state in (DataSetState.CLOSED, DataSetState.VERIFIED):
        set_data_set_state(world.ledger, started.id, state, data_set_id=f"set-{number}")
    set_batch_state(world.ledger, number, BatchState.VERIFIED)
    return number


def prepared(world: World, folder: Path) -> int:
    planned = {world.row(number).batch_id: number for number in world.plan().batches}
    world.prepare(planned[folder.name], allow_truncate=True, dry_run=True)
    return planned[folder.name]


def held(world: World, folder: Path) -> str:
    """Return the code for which a batch would be held, if it would."""
    try:
        prepared(world, folder)
    except HeldError as error:
        return error.code
    return ""


def tried(world: World, *staged: Any, **more: Any) -> Outcome:
    stage_rows(world, *staged, **more)
    return world.run(run=str(staged[1]))


def mean(folder: Path, *codes: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"meantAs": codes}))


# ---------------------------------------------------------------- another zone


def test_a_file_that_is_read_in_another_zone_is_held_until_it_is_meant(world: World) -> None:
    earlier = went_up(world, rows("2026-03-01", 3), "b-1", NEW_YORK)
    shown = world.visible()
    folder = stage_rows(world, rows("2026-03-01", 4), "b-2", LONDON)
    requests = len(world.simulator.requests)

    outcome = world.run(run="run-2")

    ((number, error),) = outcome.errors.items()
    assert isinstance(error, HeldError)
    assert (error.code, error.disposition) == ("zone-differs", Disposition.DATA)
    assert f"on 3 days, by {world.row(earlier).label}" in str(error)
    assert "twice" in str(error)
    assert '"meantAs": ["zone-differs"]' in str(error)
    assert (world.row(number).state, world.row(number).reason) == (BatchState.HELD, "zone-differs")
    assert {sent.method for sent in world.simulator.requests[requests:]} == {"GET"}
    assert world.visible() == shown

    mean(folder, "zone-differs")
    (meant,) = world.run(run="run-3").uploaded
    assert world.row(number).state is BatchState.OVERWRITTEN
    assert world.row(meant).state is BatchState.VERIFIED
    assert len(world.visible()) == len(shown) + 16


def test_nothing_of_a_person_is_in_the_message(world: World) -> None:
    shows(world, rows("2026-03-01", 2), "b-1", NEW_YORK)
    (error,) = tried(world, rows("2026-03-01", 2), "b-2", LONDON).errors.values()

    for secret in (world.user, DEVICE, SERIAL, "York", "London", "2026-03-01", "2026-03-02"):
        assert secret not in str(error)


def test_a_dry_run_says_so(world: World) -> None:
    went_up(world, rows("2026-03-01", 2), "b-1", NEW_YORK)
    stage_rows(world, rows("2026-03-01", 2), "b-2", LONDON)

    assert world.run(run="run-2", dry_run=True).codes == ["zone-differs"]


MARCH = [date(2026, 3, day) for day in range(1, 31)]
JOURNEY = (ZonePeriod(zone=NEW_YORK, until="2026-03-03T12:00:00"), ZonePeriod(zone=LONDON))


def staged(*clocks: Any, reader: type[Reader] = ClockReader, **body: Any) -> StagedBatch:
    """Return a batch of a file for each clock."""
    files = tuple(
        StagedFile(name=f"{number}.csv", format=reader.name, timezone=clock)
        for number, clock in enumerate(clocks)
    )
    manifest = Manifest(user_id="0123456789", data_set=body, files=files)
    folder = BatchFolder.at(UPath("/root"), "2026-03-05/0123456789/one")
    return StagedBatch(folder, manifest, "0" * 64)


def differing(before: StagedBatch, after: StagedBatch) -> list[int]:
    days = days_that_differ(str(before.zones), str(after.zones), MARCH)
    assert days == days_that_differ(str(after.zones), str(before.zones), MARCH)
    return sorted(day.day for day in days)


@pytest.mark.parametrize(
    ("before", "after", "days"),
    [
        (NEW_YORK, "US/Eastern", []),
        ("Europe/Kiev", "Europe/Kyiv", []),
        (LONDON, "Europe/Lisbon", []),
        (LONDON, "UTC", [29, 30]),  # the clocks go forward on 29 March
        (NEW_YORK, (ZonePeriod(zone=NEW_YORK),), []),
        (NEW_YORK, JOURNEY, [*range(3, 31)]),
        (JOURNEY, (JOURNEY[0].model_copy(update={"until": "2026-03-03T12:05:00"}), JOURNEY[1]), [3]),
    ],
)
def test_zones_that_show_the_same_on_a_day_are_one(before: Any, after: Any, days: list[int]) -> None:
    assert differing(staged(before), staged(after)) == days


def test_of_several_files_one_that_agrees_is_enough() -> None:
    assert differing(staged(NEW_YORK), staged(NEW_YORK, LONDON)) == []
    assert differing(staged(LONDON, "Asia/Tokyo"), staged(NEW_YORK, "America/Chicago")) == [*range(1, 31)]


def test_a_zone_that_is_not_known_any_more_says_nothing() -> None:
    assert days_that_differ('[[["Mars/Olympus",""]]]', str(staged(NEW_YORK).zones), MARCH) == set()


def test_days_at_the_ends_of_time_say_nothing() -> None:
    zones = str(staged(NEW_YORK).zones), str(staged(LONDON).zones)
    assert days_that_differ(*zones, [date.min, date.max]) == set()


def test_the_zone_of_a_file_counts_and_that_of_the_data_set_where_it_has_none() -> None:
    assert staged(NEW_YORK, timezone=LONDON).zones == staged(NEW_YORK).zones
    assert staged(None, timezone=LONDON).zones == staged(LONDON).zones
    assert staged(None).zones is None
    assert staged(None, reader=NdjsonReader, timezone=LONDON).zones is None


def key(reader: type[Reader] = ClockReader, **body: Any) -> str | None:
    return staged(NEW_YORK if "timezone" in reader.options else None, reader=reader, **body).device_key


@pytest.mark.parametrize("written", ["MX-4711-0815", "mx47110815", " MX 4711 0815"])
def test_a_serial_number_is_the_same_however_it_is_written(written: str) -> None:
    assert key(deviceSerialNumber=written) == key(deviceSerialNumber=SERIAL, deviceId="d") != key()
    assert key(NdjsonReader, deviceSerialNumber=written) == key(deviceSerialNumber=SERIAL)
    assert SERIAL not in str(key(deviceSerialNumber=written))


@pytest.mark.parametrize("written", [None, "", "0000", "12", "unknown", "----"])
def test_what_is_no_serial_number_tells_no_device(written: str | None) -> None:
    assert key(deviceSerialNumber=written) is None


def test_a_format_without_serial_numbers_has_one_device_of_a_person() -> None:
    assert key(AccountReader, deviceId="a") == key(AccountReader, deviceSerialNumber=SERIAL) is not None


def test_what_another_program_writes_to_a_feed_is_another_device() -> None:
    feed = {"dataSetType": "continuous", "deviceSerialNumber": SERIAL}
    names = [key(**feed, client={"name": name}) for name in ("org.example.a", "org.example.b")]
    assert len({*names, key(**feed)}) == 3
    assert key(deviceSerialNumber=SERIAL, client={"name": "org.example.a"}) == key(deviceSerialNumber=SERIAL)


def test_a_batch_that_only_deletes_is_of_no_device() -> None:
    body: Record = {"dataSetType": "continuous", "deviceSerialNumber": SERIAL, "timezone": NEW_YORK}
    deleting = Manifest(user_id="0123456789", data_set=body, files=(), deletes=(Deletion(id="meal-1"),))
    batch = replace(staged(NEW_YORK), manifest=deleting)

    assert (batch.device_key, batch.zones) == (None, None)


def test_another_zone_on_other_days_is_a_journey(world: World) -> None:
    # In UTC, both have records of the day on which the person left, and of the one of the way back.
    for number, zone in enumerate((NEW_YORK, LONDON, NEW_YORK, "Asia/Tokyo")):
        shows(world, rows(f"2026-03-0{1 + 2 * number}", 2, every=3), f"b-{number}", zone)


def test_whoever_flies_west_sees_some_hours_twice(world: World) -> None:
    hourly = rows("2026-03-01", 3, every=1).splitlines()
    shows(world, b"\n".join(hourly[:42]), "b-1", LONDON)

    # 18:00 in London is the last row of one, and 16:00 in New York the first of the other.
    assert held(world, stage_rows(world, b"\n".join(hourly[40:]), "b-2", NEW_YORK)) == ""


def test_a_short_file_that_is_read_anew_is_no_journey(world: World) -> None:
    shown = rows("2026-03-01", every=1).splitlines()[10:13]
    shows(world, b"\n".join(shown), "b-1", NEW_YORK)

    assert held(world, stage_rows(world, b"\n".join(shown), "b-2", LONDON)) == "zone-differs"


class TravellingReader(ClockReader):
    """The same of a clock that a file tells itself, whatever zone is given."""

    name = "test-travelling"

    def _record(self, _times: LocalTimes, row: str) -> bytes:
        return super()._record(LocalTimes([Period(NEW_YORK)]), row)


class InstantReader(ClockReader):
    """The same of rows in UTC: the zone only says what a clock showed."""

    name = "test-instant"

    def _record(self, _times: LocalTimes, row: str) -> bytes:
        instant = row.split(";")[0]
        (period,) = self.context.periods_of(self.files[0])
        there = datetime.fromisoformat(f"{instant}+00:00").astimezone(ZoneInfo(period.zone))
        record = json.loads(super()._record(LocalTimes([Period("UTC")]), row))
        return json.dumps(record | {"deviceTime": there.isoformat()[:19]}).encode()


def test_instants_of_their_own_do_not_depend_on_a_zone(world: World) -> None:
    days = [rows(f"2026-03-0{day}", every=1, value=4 + day) for day in (1, 2)]
    values = [row.replace(b".0", b".%d" % (at % 10)) for at, row in enumerate(b"\n".join(days).split())]
    file = {"format": InstantReader.name}
    shows(world, b"\n".join(values), "b-1", NEW_YORK, file=file)

    shows(world, b"\n".join(values), "b-2", LONDON, file=file)


def test_equal_records_every_hour_are_read_anew_all_the_same(world: World) -> None:
    shows(world, rows("2026-03-01", 12, every=1), "b-1", NEW_YORK)

    assert held(world, stage_rows(world, rows("2026-03-02", 9, every=1), "b-2", LONDON)) == "zone-differs"


def test_the_same_instants_in_both_zones_change_nothing(world: World) -> None:
    file = {"format": TravellingReader.name}
    for number, zone in enumerate((NEW_YORK, LONDON, NEW_YORK, "Asia/Tokyo")):
        shows(world, rows("2026-03-01", 3 + number), f"b-{number}", zone, file=file)
    # What is told alike of these days says what the device was before.
    assert held(world, stage_rows(world, rows("2026-03-01", 3), "b-9", LONDON)) == "zone-differs"


def test_without_the_records_a_day_of_both_holds(world: World) -> None:
    earlier = shows(world, rows("2026-03-01", 2, every=3), "b-1", NEW_YORK)
    WorkArea(world.root, world.row(earlier).content_key).discard()

    assert held(world, stage_rows(world, rows("2026-03-03", 2, every=3), "b-2", LONDON)) == "zone-differs"


def test_records_that_bring_their_instants_have_no_zone(world: World) -> None:
    for number, zone in enumerate((NEW_YORK, LONDON, None)):
        body = {"deviceSerialNumber": SERIAL} | ({"timezone": zone} if zone else {})
        folder = world.stage([cbg(0, 5.0 + number)], f"b-{number}", data_set=body)
        assert world.row(shown(world, folder)).zones is None
    shows(world, rows("2026-03-01"), "b-9", NEW_YORK)


def test_the_newest_batch_of_a_day_says_what_the_device_was_before(world: World) -> None:
    shows(world, rows("2026-03-01", 4), "b-1", NEW_YORK)
    shows(world, rows("2026-03-01", 2), "b-2", LONDON, meantAs=["zone-differs"])

    assert held(world, stage_rows(world, rows("2026-03-01", 2), "b-3", LONDON)) == ""
    (error,) = tried(world, rows("2026-03-01", 4), "b-4", LONDON).errors.values()
    assert "2 days" in str(error) or "3 days" in str(error)


def test_other_types_of_the_same_days_do_not_show_twice(world: World) -> None:
    shows(world, rows("2026-03-01", 2), "b-1", NEW_YORK)
    pump = {"deviceId": "pump-1"}
    body = {"deviceSerialNumber": SERIAL} | pump
    shown(world, world.stage([bolus(10), bolus(2000)], "b-2", data_set=body, edits={"set": pump}))


# ---------------------------------------------------------------- another name


def test_a_device_that_is_called_otherwise_is_held(world: World) -> None:
    went_up(world, rows("2026-03-01", 3), "b-1", NEW_YORK)
    folder = stage_rows(world, rows("2026-03-01", 3), "b-2", NEW_YORK, data_set=RENAMED)

    (error,) = world.run(run="run-2").errors.values()
    assert error.code == "device-renamed"
    assert '"meantAs": ["device-renamed"]' in str(error)
    assert "device-2" not in str(error)
    assert SERIAL not in str(error)

    mean(folder, "device-renamed")
    (meant,) = world.run(run="run-3").uploaded
    assert len(world.visible()) == 24
    assert tried(world, rows("2026-03-01", 4), "b-3", NEW_YORK).codes == ["device-renamed"]
    assert world.row(meant).device_key == world.row(1).device_key


def test_both_at_once_need_both_codes(world: World) -> None:
    shows(world, rows("2026-03-01", 3), "b-1", NEW_YORK)
    folder = stage_rows(world, rows("2026-03-01", 3), "b-2", LONDON, data_set=RENAMED)

    assert held(world, folder) == "zone-differs"
    mean(folder, "zone-differs")
    assert held(world, folder) == "device-renamed"
    mean(folder, "device-renamed", "zone-differs")
    assert held(world, folder) == ""


def test_two_devices_are_two_even_under_one_name(world: World) -> None:
    shows(world, rows("2026-03-01", 2), "b-1", NEW_YORK)
    shows(world, rows("2026-03-01", 2), "b-2", LONDON, serial="MX-4711-0816")
    shows(world, rows("2026-03-01", 3), "b-3", LONDON, serial="MX-4711-0817", data_set=RENAMED)


def test_another_person_has_another_device(world: World) -> None:
    shows(world, rows("2026-03-01", 2), "b-1", NEW_YORK)
    shows(world, rows("2026-03-01", 2), "b-2", LONDON, data_set=RENAMED, user=world.add_user())


def test_records_in_their_own_words_are_held_too_where_the_serial_number_stays(world: World) -> None:
    body = {"deviceSerialNumber": SERIAL}
    shown(world, world.stage([cbg(0), cbg(1500), cbg(3000)], "b-1", data_set=body))
    renamed = {"data_set": RENAMED | body, "edits": {"set": RENAMED}}

    # Two of the same day, at other moments.
    assert held(world, world.stage([cbg(3001), cbg(4500)], "b-2", **renamed)) == ""
    folder = world.stage([cbg(0), cbg(1500), cbg(3001)], "b-3", **renamed)
    assert held(world, folder) == "device-renamed"


# ---------------------------------------------------------------- which batches count


def test_what_it_replaces_does_not_count(world: World) -> None:
    earlier = went_up(world, rows("2026-03-01", 3), "b-1", NEW_YORK)
    later = went_up(world, rows("2026-03-01", 3), "b-2", LONDON, replaces="b-1")

    assert world.row(earlier).state is BatchState.REPLACED
    assert len(world.visible()) == 12
    assert tried(world, rows("2026-03-01", 4), "b-3", NEW_YORK).codes == ["zone-differs"]
    assert world.row(later).state is BatchState.VERIFIED


def test_what_was_undone_does_not_count_until_it_is_forced(world: World) -> None:
    earlier = went_up(world, rows("2026-03-01", 3), "b-1", NEW_YORK)
    withdraw_batch(world.context(run="undo"), world.row(earlier))
    went_up(world, rows("2026-03-01", 3), "b-2", LONDON)

    outcome = world.run(run="run-3", force=True)

    assert outcome.codes == ["zone-differs"]
    assert list(outcome.errors) == [earlier]
    assert len(world.visible()) == 12


def test_what_was_never_uploaded_does_not_count(world: World) -> None:
    prepared(world, stage_rows(world, rows("2026-03-01", 3), "b-1", NEW_YORK))

    shows(world, rows("2026-03-01", 3), "b-1", LONDON)


def test_what_shows_already_is_not_asked_about_again(world: World) -> None:
    went_up(world, rows("2026-03-01", 3), "b-1", NEW_YORK)
    went_up(world, rows("2026-03-01", 3), "b-2", LONDON, meantAs=["zone-differs"])

    assert world.run(run="run-3", force=True, allow_older=True).codes == []
    assert len(world.visible()) == 24


def test_prepared_again_it_is_held_again(world: World) -> None:
    shows(world, rows("2026-03-01", 3), "b-1", NEW_YORK)
    (number,) = tried(world, rows("2026-03-01", 3), "b-2", LONDON).errors

    for chunk_records in (500, 2):
        world.prepare(number, chunk_records=chunk_records)
        with pytest.raises(HeldError, match="another time zone"):
            world.upload(number)
        assert (world.row(number).state, world.row(number).reason) == (BatchState.HELD, "zone-differs")


def test_one_that_was_closed_meanwhile_counts_at_the_close(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage_rows(world, rows("2026-03-01", 3), "b-1", NEW_YORK)
    stage_rows(world, rows("2026-03-01", 3), "b-2", LONDON)
    first, second = world.plan().batches
    for number in (first, second):
        world.prepare(number)
    before_it_is_sent(world, monkeypatch, lambda: world.upload(first))

    with pytest.raises(HeldError, match="another time zone"):
        world.upload(second)

    assert world.set_states(second) == [DataSetState.DELETED]
    assert (world.row(second).state, world.row(second).reason) == (BatchState.HELD, "zone-differs")
    assert len(world.visible()) == 12


def test_what_was_verified_once_is_repaired_as_it_was(world: World) -> None:
    newest = went_up(world, rows("2026-03-01", 2), "b-2", LONDON)
    stage_rows(world, rows("2026-03-01", 2), "b-1", NEW_YORK, meantAs=["zone-differs"])
    assert world.run(run="b-1", allow_older=True).codes == []
    lost = "DELETE FROM data WHERE upload_id = ? AND json_extract(document, '$.type') = 'cbg'"
    assert in_the_store(world, lost, world.sets(newest)[-1].data_set_id) == 8

    assert reverify_one(world.context(), world.row(newest), repair=True) is not None
    world.upload(newest)

    assert world.row(newest).state is BatchState.VERIFIED
    assert len(world.visible()) == 16


def test_what_was_verified_once_and_is_gone_counts_as_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = went_up(world, rows("2026-03-01", 3), "b-1", NEW_YORK)
    of_set = "DELETE FROM data WHERE seq = (SELECT max(seq) FROM data WHERE upload_id = ?)"
    assert in_the_store(world, of_set, world.sets(first)[0].data_set_id) == 1
    reverify_one(world.context(), world.row(first), repair=True)

    def down(*_given: Any) -> None:
        raise TidepoolUnreachableError("create", in_doubt=False)

    with monkeypatch.context() as patched:
        patched.setattr(world.client, "open_data_set", down)
        with pytest.raises(TidepoolUnreachableError):
            world.upload(first)
    number = prepared(world, stage_rows(world, rows("2026-03-01", 3), "b-2", LONDON))
    world.upload(number)

    assert world.run(run="run-3").codes == ["zone-differs"]
    assert len(world.visible()) == 12


def test_parts_count_and_are_compared_as_a_whole(world: World) -> None:
    stage_rows(world, rows("2026-03-01", 3), "b-1", NEW_YORK)
    assert world.run(run="run-1", part_records=5).codes == []
    stage_rows(world, rows("2026-03-01", 3), "b-2", LONDON)
    assert world.run(run="run-2", part_records=5).codes == ["zone-differs"]
    stage_rows(world, rows("2026-03-01", 3), "b-2", LONDON, meantAs=["zone-differs"])
    assert world.run(run="run-3", part_records=5).codes == []
    assert len(world.visible()) == 24


def test_what_deletes_the_device_leaves_nothing_that_differs(world: World) -> None:
    shows(world, rows("2026-03-01", 3), "b-1", NEW_YORK)
    body = {"deduplicator": {"name": TRUNCATE}}
    shows(world, rows("2026-03-01", 3), "b-2", LONDON, data_set=body)

    renamed = stage_rows(world, rows("2026-03-01", 3), "b-3", LONDON, data_set=body | RENAMED)
    assert held(world, renamed) == "device-renamed"


def test_what_tidepool_has_is_adopted_though_a_lost_ledger_met_a_later_zone_first(
    world: World, elsewhere: Elsewhere
) -> None:
    went_up(world, rows("2026-03-01", 3), "b-1", NEW_YORK)
    went_up(world, rows("2026-03-01", 3), "b-2", LONDON, meantAs=["zone-differs"])
    second, requests = elsewhere(), len(world.simulator.requests)
    (first,) = Path(second.root.path).glob("*/*/b-1")
    put_aside = first.rename(second.folder / "b-1")
    assert second.run(run="run-1").codes == []
    put_aside.rename(first)

    assert second.run(run="run-2").codes == []

    assert {sent.method for sent in world.simulator.requests[requests:]} == {"GET"}
    assert [second.row(number).state for number in (1, 2)] == [BatchState.VERIFIED] * 2


def test_a_ledger_that_is_filled_again_knows_it_from_staging(world: World, elsewhere: Elsewhere) -> None:
    # Nothing in the last of them says that it is meant, and Tidepool has it.
    went_up(world, rows("2026-03-01", 4), "b-3", "Asia/Tokyo")
    stage_rows(world, rows("2026-03-01", 3), "b-1", NEW_YORK, meantAs=["zone-differs"])
    assert world.run(run="run-1", allow_older=True).codes == []
    second = elsewhere()

    assert rebuilt(second) == {FOUND: 2}
    assert second.row(2).zones is not None
    assert tried(second, rows("2026-03-01", 5), "b-4", LONDON).codes == ["zone-differs"]
    assert tried(second, rows("2026-03-01", 5), "b-4", "Asia/Tokyo").codes == []


@pytest.mark.parametrize(("days", "said"), [(1, "(on 1 day, by"), (2, "(on 2 days, by")])
def test_days_are_counted_in_words(days: int, said: str) -> None:
    assert said in str(DeviceChangedError("zone-differs", "b", ["a"], days, "Then."))
