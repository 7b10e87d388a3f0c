"""What becomes of a batch's records: accepted in chunks, quarantined with their reasons, kept once."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from tests.factories import (
    DEVICE,
    NONE,
    Record,
    alarm,
    bolus,
    cbg,
    readings,
    set_batch_state,
    set_data_set_state,
    wizard,
)
from tests.world import World
from tidepool_ingest.coverage import hours_of_text
from tidepool_ingest.formats import reader as block
from tidepool_ingest.formats.holds import ClockHeldError
from tidepool_ingest.ledger import BatchState, DataSetState, TaskOrigin
from tidepool_ingest.options import CHUNK_BYTES
from tidepool_ingest.prepare import chunking, step
from tidepool_ingest.prepare.summary import TooManyRejectedError, described
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.work_area import WorkArea
from tidepool_simulator.rules import Rule


def as_line(record: Record) -> bytes:
    return json.dumps(record).encode()


def own_id(number: int) -> str:
    return f"{number:032x}"


# ---------------------------------------------------------------- lines that are no record

BROKEN = {
    "broken JSON": (b'{"type": "cbg", ', "staged-not-json"),
    "no JSON at all": (b"type,time,value", "staged-not-json"),
    "more behind it": (as_line(cbg(1)) + b" {}", "staged-not-json"),
    "NaN": (as_line(cbg(1)).replace(b"6.5", b"NaN"), "staged-not-json"),
    "Infinity": (as_line(cbg(1)).replace(b"6.5", b"-Infinity"), "staged-not-json"),
    "a number beyond doubles": (as_line(cbg(1)).replace(b"6.5", b"1e400"), "staged-not-json"),
    "5,000 digits": (as_line(cbg(1)).replace(b"6.5", b"9" * 5_000), "staged-not-json"),
    "100,000 levels": (b"[" * 100_000, "staged-not-json"),
    "invalid UTF-8": (as_line(cbg(1, annotation="x")).replace(b'"x"', b'"\xff"'), "staged-not-utf8"),
    "U+0000 in a name": (as_line(cbg(1, payload={"a\0b": 1})), "staged-nul-in-name"),
    "a time that is never shown": (
        as_line(cbg(1, time="9999-12-31T23:59:59-01:00")),
        "staged-time-not-shown",
    ),
    "an array": (b"[1, 2]", "type-not-object"),
    "a text": (b'"cbg"', "type-not-object"),
}


@pytest.mark.parametrize(("line", "code"), BROKEN.values(), ids=BROKEN.keys())
def test_a_line_that_is_no_record_is_quarantined_and_the_rest_goes_on(
    world: World, line: bytes, code: str
) -> None:
    good = readings(20)
    number = world.ready([*good[:7], line, *good[7:]])

    assert world.refused(number) == [(7, [code])]
    assert world.row(number).state is BatchState.PREPARED
    assert (world.row(number).accepted, world.row(number).quarantined) == (20, 1)
    world.upload(number)
    assert len(world.visible()) == 20
    assert world.all_right()


def test_quarantine_keeps_each_refused_record_as_it_was_staged(world: World) -> None:
    text = as_line(cbg(1)).replace(b'"cbg"', b'"cbg" ').replace(b"6.5", b"99.50")
    number = world.ready([text, b'{"a": "\xff"}', *readings(30)], edits={"set": {"timezoneOffset": 60}})

    first, second = world.quarantine(number)
    assert text in world.quarantine_text(number)
    assert first["record"] == json.loads(text)
    assert (first["file"], first["position"]) == (1, 0)
    assert first["problems"] == [{"code": "value-out-of-range", "pointer": "/value"}]
    assert second["recordBase64"]


def test_reasons_are_counted_by_type_and_code(world: World) -> None:
    number = world.ready(
        [cbg(1, 99), cbg(2, 98), bolus(3, 101), {"type": "novel"}, b"nothing", *readings(50, first=10)]
    )

    assert world.prepared(number).reasons == {
        "cbg": {"value-out-of-range": 2},
        "bolus": {"value-out-of-range": 1},
        "unknown": {"value-not-allowed": 1},
        "unreadable": {"staged-not-json": 1},
    }


def test_a_line_that_is_too_long_is_quarantined_by_its_position(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidepool_ingest.formats.lines.MAX_RECORD_BYTES", 100_000)
    good = readings(20)

    number = world.ready([*good[:5], as_line(cbg(900, payload={"a": "b" * 3_000_000})), *good[5:]])

    assert world.refused(number) == [(5, [block.TOO_LARGE])]
    assert world.quarantine(number)[0]["record"] is None
    assert world.row(number).accepted == 20


@pytest.mark.slow
def test_a_line_of_100_mb(world: World) -> None:
    good = readings(20)

    number = world.ready([*good[:5], b'{"type": "' + b"x" * 100_000_000 + b'"}', *good[5:]])

    assert world.refused(number) == [(5, [block.TOO_LARGE])]
    assert world.row(number).accepted == 20
    world.upload(number)
    assert len(world.visible()) == 20


# ---------------------------------------------------------------- repeats and identifiers


def test_identical_records_are_kept_once_and_reported(world: World) -> None:
    first, second = readings(2)
    spelled = json.dumps(dict(reversed(first.items())), indent=None, separators=(" , ", " : ")).encode()

    number = world.ready([first, second, first, spelled, first])

    row = world.row(number)
    assert (row.staged, row.accepted, row.identical, row.quarantined) == (5, 2, 3, 0)
    world.upload(number)
    assert len(world.visible()) == 2
    assert world.all_right()


def test_records_that_differ_anywhere_are_not_identical(world: World) -> None:
    first = cbg(1, 6.5)

    number = world.ready([first, first | {"value": 6.6}, first | {"payload": {"a": 1}}])

    assert (world.row(number).accepted, world.row(number).identical) == (3, 0)


def test_records_made_identical_by_an_edit_are_kept_once(world: World) -> None:
    number = world.ready([cbg(1, id=own_id(1)), cbg(1, id=own_id(2))], edits={"drop": ["id"]})

    assert (world.row(number).accepted, world.row(number).identical) == (1, 1)


def test_valid_unique_ids_are_kept_and_repeated_ones_are_quarantined(world: World) -> None:
    number = world.ready(
        [cbg(1, id=own_id(1)), cbg(2, id=own_id(2)), cbg(3, id=own_id(1)), cbg(4), cbg(5, id=own_id(5))],
        max_quarantined_percent=50,
    )

    assert world.refused(number) == [(2, ["staged-id-repeated"])]
    world.upload(number)
    shown = {datum["time"]: datum["id"] for datum in world.visible()}
    assert len(shown) == 4
    assert {own_id(1), own_id(2), own_id(5)} < set(shown.values())


def test_an_id_repeated_by_an_embedded_record_is_found(world: World) -> None:
    number = world.ready(
        [
            bolus(1, id=own_id(1)),
            wizard(2, id=own_id(2), bolus=bolus(2, id=own_id(1))),
            wizard(3, id=own_id(3), bolus=bolus(3, id=own_id(3))),
            *readings(5, first=10),
        ],
        max_quarantined_percent=50,
    )

    assert [
        (entry["position"], [problem["pointer"] for problem in entry["problems"]])
        for entry in world.quarantine(number)
    ] == [(1, ["/bolus/id"]), (2, ["/bolus/id"])]


def test_an_id_in_the_wrong_form_is_refused(world: World) -> None:
    number = world.ready([cbg(1, id="A81A2D66"), *readings(20, first=10)])

    assert world.refused(number) == [(0, ["value-not-valid"])]


def test_repeats_are_found_across_files(world: World) -> None:
    folder = world.stage(readings(3))
    (folder / "more.json").write_text(json.dumps([*readings(1), *readings(2, first=3)]))
    said = json.loads((folder / "manifest.json").read_bytes())
    said["files"].append({"name": "more.json", "format": "json"})
    (folder / "manifest.json").write_text(json.dumps(said))

    outcome = world.run()

    (number,) = outcome.plan.batches
    assert (world.row(number).staged, world.row(number).accepted, world.row(number).identical) == (6, 5, 1)
    assert world.all_right()


def test_a_datum_without_device_id_is_quarantined_where_the_deduplicator_needs_one(world: World) -> None:
    without = {name: value for name, value in cbg(1).items() if name != "deviceId"}
    nested = wizard(2, bolus={key: value for key, value in bolus(2).items() if key != "deviceId"})

    number = world.ready([without, nested, *readings(20, first=10)])

    assert world.refused(number) == [(0, ["staged-device-id-missing"]), (1, ["staged-device-id-missing"])]
    assert world.quarantine(number)[1]["problems"][0]["pointer"] == "/bolus/deviceId"
    other = world.ready([without, nested], batch="two", data_set={"deduplicator": {"name": NONE}})
    assert world.refused(other) == []


# ---------------------------------------------------------------- edits and chunks


def test_edits_are_counted_by_field_and_go_to_tidepool(world: World) -> None:
    records = [cbg(number, source="demo", guess=1) for number in range(3)] + [cbg(9, timezoneOffset=-60)]
    number = world.ready(records, edits={"drop": ["source", "guess"], "set": {"timezoneOffset": -60}})

    assert world.prepared(number).changes == {"source": 3, "guess": 3, "timezoneOffset": 3}
    world.upload(number)
    assert [datum["timezoneOffset"] for datum in world.visible()] == [-60] * 4
    assert not any("source" in datum for datum in world.visible())
    assert world.all_right()


def test_a_field_that_is_not_tidepools_is_not_named_in_a_summary(world: World) -> None:
    edits = {
        "drop": ["guess", "guid", "Jane Roe", "payload/Jane Roe", "0123456789"],
        "set": {"Jane Roe 2": 1, "deviceTime": "2026-03-01T01:00:00"},
    }
    names = ("guess", "guid", "Jane Roe", "payload/Jane Roe", "0123456789")
    number = world.ready([cbg(1, **dict.fromkeys(names, 1))], edits=edits)
    summary = world.prepare(number)

    assert summary.edits == {"*": 5, "guid": 1, "deviceTime": 1}
    assert "Jane" not in described(summary)


def test_accepted_records_keep_their_bytes(world: World) -> None:
    lines = [
        b'{ "type":"cbg",\t"value": 6.50, "units":"mmol/L", '
        b'"deviceId":"device-1","time":"2026-03-01T00:00:00Z"}',
        as_line(cbg(1, 6.5)).replace(b"6.5", b"65e-1"),
        as_line(cbg(2, payload={"text": "\u00e9\U0001f600", "big": 12345678901234567890})),
    ]

    number = world.ready(lines)

    assert world.accepted(number) == lines


def chunk_sizes(world: World, number: int) -> list[int]:
    return [chunk.records for chunk in world.prepared(number).chunks]


def test_chunks_end_at_the_number_of_records(world: World) -> None:
    number = world.ready(readings(25), chunk_records=10)

    assert chunk_sizes(world, number) == [10, 10, 5]
    assert [chunk.first_record for chunk in world.prepared(number).chunks] == [0, 10, 20]


def test_chunks_have_at_most_a_thousand_records(world: World) -> None:
    number = world.ready(readings(2_001))

    assert chunk_sizes(world, number) == [1_000, 1_000, 1]


def test_chunks_end_at_the_number_of_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "CHUNK_BYTES", 1_000)

    number = world.ready(readings(30))

    chunks = world.prepared(number).chunks
    assert len(chunks) > 1
    assert sum(chunk.records for chunk in chunks) == 30
    assert all(chunk.length <= 1_000 for chunk in chunks)
    assert all(chunk.length > 800 for chunk in chunks[:-1])
    world.upload(number)
    assert world.all_right()


def test_long_records_travel_in_requests_of_about_a_megabyte(world: World) -> None:
    long = [cbg(number, payload={"text": "x" * 4_000}) for number in range(600)]

    number = world.ready(long)

    assert chunk_sizes(world, number) == [242, 242, 116]
    assert all(chunk.length <= CHUNK_BYTES for chunk in world.prepared(number).chunks)


def test_a_record_larger_than_a_chunk_travels_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "CHUNK_BYTES", 300)
    long = cbg(50, payload={"text": "x" * 400})

    number = world.ready([*readings(2), long, *readings(2, first=60)])

    assert chunk_sizes(world, number) == [2, 1, 2]
    world.upload(number)
    assert world.all_right()


def test_rows_count_the_records_that_tidepool_splits_off(world: World) -> None:
    number = world.ready([wizard(1), alarm(2), wizard(3, bolus=None), cbg(4)])

    assert (world.row(number).accepted, world.row(number).expected_rows) == (4, 6)


# ---------------------------------------------------------------- again


@pytest.fixture
def filed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each time that a batch is read and filed."""
    from tidepool_ingest.prepare import step

    made: list[int] = []
    write_batch: Callable[..., Any] = step.write_batch

    def counted(*args: Any, chunk_records: int, **more: Any) -> Any:
        made.append(chunk_records)
        return write_batch(*args, chunk_records=chunk_records, **more)

    monkeypatch.setattr(step, "write_batch", counted)
    return made


def test_a_prepared_batch_is_not_read_again(world: World, filed: list[int]) -> None:
    number = world.ready(readings(25))
    first = world.prepared(number)

    summary = world.prepare(number)

    assert filed == [1_000]
    assert (summary.accepted, world.prepared(number)) == (25, first)


def test_another_chunk_size_is_another_plan_as_long_as_nothing_is_open(
    world: World, filed: list[int]
) -> None:
    number = world.ready(readings(25))

    world.prepare(number, chunk_records=10)

    assert filed == [1_000, 10]
    assert chunk_sizes(world, number) == [10, 10, 5]


@pytest.mark.parametrize("state", [DataSetState.OPEN, DataSetState.CLOSING, DataSetState.CLOSED])
def test_a_data_set_goes_on_with_the_plan_it_was_begun_with(
    world: World, filed: list[int], state: DataSetState
) -> None:
    number = world.ready(readings(25))
    started = world.ledger.data_sets.begin_opening(
        number, data_set_type="normal", deduplicator=NONE, expected_rows=25, origin=TaskOrigin()
    )
    set_data_set_state(world.ledger, started.id, state, data_set_id="0" * 32)
    set_batch_state(world.ledger, number, BatchState.UPLOADING)

    world.prepare(number, chunk_records=10)

    assert filed == [1_000]
    assert world.row(number).state is BatchState.UPLOADING


def test_a_work_area_that_was_left_unfinished_is_made_again(world: World, filed: list[int]) -> None:
    number = world.ready(readings(25))
    from tidepool_ingest.staging.work_area import WorkArea

    WorkArea(world.root, world.row(number).content_key).begin()

    world.prepare(number)

    assert len(filed) == 2
    assert world.row(number).accepted == 25


def test_nothing_accepted_is_done_when_the_run_allows_it(world: World) -> None:
    world.stage([cbg(number, 99) for number in range(5)])

    assert world.run().codes == ["too-many-refused"]
    outcome = world.run(max_quarantined_percent=100)

    (number,) = outcome.plan.batches
    assert (outcome.codes, outcome.uploaded) == ([], {})
    assert world.row(number).state is BatchState.NOTHING_ACCEPTED
    assert world.simulator.requests == []
    assert world.plan().done == 1


def test_a_dry_run_counts_and_opens_nothing(world: World) -> None:
    world.stage([cbg(0, 99), *readings(20, first=10)])

    outcome = world.run(dry_run=True)

    (number,) = outcome.plan.batches
    assert outcome.prepared[number].model_dump() == {
        "batch": world.row(number).label,
        "staged": 21,
        "accepted": 20,
        "quarantined": 1,
        "inside": 0,
        "identical": 0,
        "expected_rows": 20,
        "chunks": 1,
        "accepted_by_type": {"cbg": 20},
        "reasons": {"cbg": {"value-out-of-range": 1}},
        "edits": {},
        "warnings": {},
        "replaced": {},
        "skipped": {},
        "deletes": 0,
        "retracts": None,
        "asks": False,
    }
    assert world.simulator.requests == []
    assert world.plan().batches == [number]
    assert DEVICE not in str(outcome.prepared[number].model_dump())


@pytest.mark.parametrize("name", ["data.ndjson", "data.ndjson.gz", "data.json", "data.json.gz"])
def test_every_format_gives_the_same_records(world: World, name: str) -> None:
    number = world.ready([*readings(12), wizard(50)], name=name)

    assert [json.loads(line) for line in world.accepted(number)] == [*readings(12), wizard(50)]


# ---------------------------------------------------------------- the days of the records


def test_the_ledger_keeps_how_many_records_lie_on_which_day(world: World) -> None:
    late = cbg(5) | {"time": "2026-03-02T00:30:00+01:00"}
    number = world.ready(
        [cbg(0), late, cbg(1440), bolus(1441), cbg(1442, 99), cbg(1440)], max_quarantined_percent=50
    )

    assert world.ledger.batch_days.of_batch(number) == {
        date(2026, 3, 1): {"cbg": 2},
        date(2026, 3, 2): {"bolus": 1, "cbg": 1},
    }
    assert world.prepared(number).accepted == {"bolus": 1, "cbg": 3}


def test_a_prepared_area_tells_the_days_without_being_read_again(world: World) -> None:
    number = world.ready(readings(3))
    days = world.ledger.batch_days.of_batch(number)
    world.ledger.batch_days.replace_for_batch(number, {})
    (written,) = world.staging.glob("_work/*/accepted.ndjson")
    before = written.stat().st_mtime_ns

    world.prepare(number)

    assert days == {date(2026, 3, 1): {"cbg": 3}} == world.ledger.batch_days.of_batch(number)
    assert written.stat().st_mtime_ns == before


def test_odd_times_that_tidepool_takes_have_a_day_too(world: World) -> None:
    odd = [cbg(0) | {"time": time} for time in ("0000-06-01T00:00:00Z", "9999-12-31T23:59:00Z")]
    number = world.ready([*odd, wizard(1)])

    assert world.ledger.batch_days.of_batch(number) == {
        date.min: {"cbg": 1},
        date(2026, 3, 1): {"wizard": 1},
        date.max: {"cbg": 1},
    }


def test_the_ledger_keeps_how_many_records_lie_in_which_hour(world: World) -> None:
    late = cbg(5) | {"time": "2026-03-02T00:30:00+01:00"}
    number = world.ready([cbg(0), late, cbg(1440), bolus(1441)])

    hours = world.ledger.batch_days.hours_of_batch(number)
    assert {
        (day.day, kind): {hour: count for hour, count in enumerate(hours_of_text(text)) if count}
        for day, kinds in hours.items()
        for kind, text in kinds.items()
    } == {(1, "cbg"): {0: 1, 23: 1}, (2, "bolus"): {0: 1}, (2, "cbg"): {0: 1}}


def test_an_area_of_before_hours_were_counted_is_used_as_it_is(world: World) -> None:
    number = world.ready(readings(3))
    area = WorkArea(world.root, world.row(number).content_key)
    area.finish(world.prepared(number).model_copy(update={"hours": {}}))
    (written,) = world.staging.glob("_work/*/accepted.ndjson")
    before = written.stat().st_mtime_ns

    world.prepare(number)

    assert world.ledger.batch_days.of_batch(number) == {date(2026, 3, 1): {"cbg": 3}}
    assert world.ledger.batch_days.hours_of_batch(number) == {}
    assert written.stat().st_mtime_ns == before


# ---------------------------------------------------------------- what it is, and where its trouble lies


def test_the_ledger_keeps_the_formats_and_what_the_device_is_called(world: World) -> None:
    body = {"deviceId": DEVICE, "deviceModel": "G7", "deviceManufacturers": ["Dexcom"]}
    number = world.ready(readings(3), data_set=body | {"deviceSerialNumber": "SN-1234567"})
    row = world.row(number)

    assert (row.formats, row.device) == ('["ndjson"]', '{"manufacturers":["Dexcom"],"model":"G7"}')


def test_a_held_file_keeps_where_its_trouble_lies_and_what_it_was_read_as(world: World) -> None:
    rows = ["t,v", "2026-03-29 01:55:00,105", "2026-03-29 02:00:00,106", "2026-03-29 02:05:00,107"]
    table = {
        "time": {"column": "t", "format": "%Y-%m-%d %H:%M:%S"},
        "records": [{"record": {"type": "cbg", "units": "mg/dL", "value": {"column": "v"}}}],
    }
    file = {"format": "table", "timezone": "Europe/Berlin", "table": table}
    world.stage(content="\n".join(rows).encode(), name="data.csv", file=file)
    (number,) = world.plan().batches

    with pytest.raises(ClockHeldError):
        world.prepare(number)

    row = world.row(number)
    assert (row.state, row.reason) == (BatchState.HELD, "clock-not-in-zone")
    assert row.reason_detail == "file 1: 2 times, the first in line 3"
    assert (row.formats, row.zones, row.staged) == ('["table"]', '[[["Europe/Berlin",""]]]', None)


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b'{"type":"cbg"}\n{"type":"cb', "file 1, record 1 (counting from 0): in its last line"),
        (b"PK\x03\x04 etc", "file 1: it is a zip archive"),
    ],
)
def test_a_file_that_cannot_be_read_keeps_where_it_ends(world: World, content: bytes, detail: str) -> None:
    world.stage(content=content)
    (number,) = world.plan().batches

    with pytest.raises(BatchError):
        world.prepare(number)

    row = world.row(number)
    assert (row.state, row.formats) == (BatchState.FAILED, '["ndjson"]')
    assert (row.reason_detail or "").startswith(detail)


def test_too_many_rejected_records_are_counted_with_the_reason(world: World) -> None:
    spoilt = [cbg(number, 99) for number in range(10)]
    with pytest.raises(TooManyRejectedError):
        world.ready([cbg(100), *spoilt])

    (number,) = world.plan().batches
    assert world.row(number).reason_detail == "10 of 11 records"


# ---------------------------------------------------------------- beside another run


@pytest.mark.parametrize("part_records", [500, 4])
def test_a_task_that_was_held_up_keeps_what_tidepool_has_rejected_since(
    world: World, monkeypatch: pytest.MonkeyPatch, part_records: int
) -> None:
    options = {"max_quarantined_percent": 50, "part_records": part_records}
    world.simulator.rules.add(Rule(type="cbg", pointer="/value", above=20.0))
    world.stage([*readings(5), cbg(6, 21.0), {"type": "cbg"}])
    (number,) = world.plan().batches
    write = step.write_batch

    def held_up(*args: Any, **more: Any) -> Any:
        monkeypatch.setattr(step, "write_batch", write)
        assert world.run(**options).codes == []
        return write(*args, **more)

    monkeypatch.setattr(step, "write_batch", held_up)

    summary = world.prepare(number, **options)

    assert summary.quarantined == 2
    assert len(world.quarantine(number)) == 2
    assert world.row(number).state is BatchState.VERIFIED
    assert world.all_right()
