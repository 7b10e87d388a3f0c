"""Records that local validation accepts and Tidepool refuses all the same: its rules have moved on."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.factories import (
    BAD,
    DEVICE,
    ORIGIN,
    TOO_HIGH,
    alarm,
    bolus,
    cbg,
    minute_of,
    readings,
    some_bad,
    wizard,
)
from tests.world import World
from tidepool_ingest.client import TidepoolRejectedError, TidepoolUnreachableError
from tidepool_ingest.errors import Disposition
from tidepool_ingest.ledger import BatchState, DataSetState
from tidepool_ingest.upload.rejections import TooManyRejectedByTidepoolError
from tidepool_simulator.faults import Fault
from tidepool_simulator.rules import Rule


def settings(name: str, number: int) -> dict[str, Any]:
    schedules = {name: [{"start": 0, "rate": 1.0}]}
    return {
        "type": "pumpSettings", "time": minute_of(number), "deviceId": DEVICE,
        "activeSchedule": name, "basalSchedules": schedules,
    }  # fmt: skip


@pytest.mark.parametrize("at_once", [1, 4])
def test_they_go_to_quarantine_and_the_others_arrive(world: World, at_once: int) -> None:
    world.simulator.rules.add(TOO_HIGH)
    number = world.ready(some_bad(), chunk_records=5, max_quarantined_percent=50)

    summary = world.upload(number, at_once=at_once, max_rejected_percent=50)

    assert (summary.expected_rows, summary.visible_rows) == (17, 17)
    assert len(world.sets(number)) == 1
    assert world.refused(number) == [(place, ["value-out-of-range"]) for place in (3, 4, 11)]
    assert [entry["record"]["value"] for entry in world.quarantine(number)] == [BAD] * 3
    row = world.row(number)
    assert (row.state, row.staged, row.accepted, row.quarantined) == (BatchState.VERIFIED, 20, 17, 3)
    assert world.sets(number)[0].expected_rows == 17
    assert len(world.visible()) == 17
    assert world.check().quarantined == 3


def test_no_thread_waits_for_the_ledger_with_what_another_one_needs_in_its_transaction(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.simulator.rules.add(TOO_HIGH)
    number = world.ready(some_bad(), chunk_records=5, max_quarantined_percent=50)
    is_adding, is_recording = threading.Event(), threading.Event()
    add, together = world.ledger.rejections.add, world.ledger.database.together

    def added_beside(*given: Any, **more: Any) -> None:
        is_adding.set()
        is_recording.wait(1)  # another thread is in a transaction by now, if it does not wait for this one
        add(*given, **more)

    @contextmanager
    def begun_beside(**more: Any) -> Iterator[None]:
        is_sender = threading.current_thread().name.startswith("chunks")
        if is_sender:
            is_adding.wait(1)
        with together(**more):
            if is_sender:
                is_recording.set()
            yield

    monkeypatch.setattr(world.ledger.rejections, "add", added_beside)
    monkeypatch.setattr(world.ledger.database, "together", begun_beside)

    summary = world.upload(number, at_once=4, max_rejected_percent=50)

    assert is_adding.is_set()
    assert is_recording.is_set()
    assert summary.visible_rows == 17


def test_one_alone_is_the_bare_error(world: World) -> None:
    world.simulator.rules.add(TOO_HIGH)
    number = world.ready(some_bad(bad=(7,)))

    world.upload(number)

    assert world.refused(number) == [(7, ["value-out-of-range"])]
    assert len(world.visible()) == 19


def test_the_parser_hides_what_validation_finds_later(world: World) -> None:
    world.simulator.rules.add(
        TOO_HIGH, Rule(type="bolus", pointer="/normal", above=9, code="type-not-float64", in_parsing=True)
    )
    number = world.ready([*some_bad(bad=(2,)), bolus(30, 9.5), bolus(31, 3.0)])

    world.upload(number, max_rejected_percent=50)

    posts = [request.status for request in world.simulator.requests if request.operation == "post"]
    assert posts == [400, 400, 200]
    assert world.refused(number) == [(2, ["value-out-of-range"]), (20, ["type-not-float64"])]


def test_two_complaints_about_one_record_are_one_refusal(world: World) -> None:
    world.simulator.rules.add(TOO_HIGH, Rule(pointer="/deviceId", equals="other", code="value-not-valid"))
    records = some_bad(bad=())
    records[5] |= {"value": BAD, "deviceId": "other"}
    number = world.ready(records)

    world.upload(number)

    assert world.refused(number) == [(5, ["value-out-of-range", "value-not-valid"])]


def test_a_datum_inside_another_takes_it_along(world: World) -> None:
    world.simulator.rules.add(Rule(type="wizard", pointer="/bolus/normal", above=5))
    number = world.ready([wizard(0), wizard(1, bolus=bolus(1, 7.5)), alarm(2), *readings(20, first=10)])

    summary = world.upload(number)

    assert world.refused(number) == [(1, ["value-out-of-range"])]
    assert world.quarantine(number)[0]["problems"][0]["pointer"] == "/bolus/normal"
    assert summary.visible_rows == 24  # two rows for the other wizard, two for the alarm, the readings


def test_positions_are_those_of_staging(world: World) -> None:
    world.simulator.rules.add(TOO_HIGH)
    good = [cbg(number) for number in range(30)]
    good[2] = good[1]  # kept once
    good[7] = {"type": "cbg"}  # refused before it is sent
    good[15] = cbg(15, BAD)
    good[29] = cbg(29, BAD)
    number = world.ready(good, chunk_records=4, max_quarantined_percent=50)

    world.upload(number, max_rejected_percent=50)

    assert [place for place, _codes in world.refused(number)] == [7, 15, 29]
    assert world.row(number).quarantined == 3


def test_too_many_stop_before_anything_is_visible(world: World) -> None:
    world.simulator.rules.add(TOO_HIGH)
    number = world.ready(some_bad(), chunk_records=5)

    with pytest.raises(TooManyRejectedByTidepoolError) as caught:
        world.upload(number, rejected_from=3)

    assert caught.value.disposition is Disposition.DATA
    assert "15.0 %" in str(caught.value)
    row = world.row(number)
    assert (row.state, row.reason, row.quarantined) == (BatchState.HELD, "too-many-refused", 3)
    assert world.set_states(number) == [DataSetState.DELETED]
    assert world.visible() == []
    assert len(world.quarantine(number)) == 3

    with pytest.raises(TooManyRejectedByTidepoolError):
        world.upload(number, try_number=2, rejected_from=3)  # nothing is opened for it again
    assert len(world.sets(number)) == 1
    world.upload(number, try_number=3, rejected_from=3, max_rejected_percent=20)
    assert len(world.visible()) == 17


def test_a_batch_of_which_nothing_is_left_is_held(world: World) -> None:
    world.simulator.rules.add(TOO_HIGH)
    number = world.ready([cbg(at, BAD) for at in range(3)])

    with pytest.raises(TooManyRejectedByTidepoolError):
        world.upload(number, max_rejected_percent=100)

    assert world.row(number).state is BatchState.HELD
    assert world.check().ok


def test_the_next_run_counts_them_too(world: World) -> None:
    world.simulator.rules.add(TOO_HIGH)
    number = world.ready(some_bad(bad=(3,)), chunk_records=5)
    world.simulator.faults.add(Fault.refused("close", 503, times=world.timeouts.attempts))
    with pytest.raises(TidepoolUnreachableError):
        world.upload(number)

    summary = world.prepare(number)  # as a cleared run does
    world.resume(number)

    assert (summary.accepted, summary.quarantined, summary.expected_rows) == (19, 1, 19)
    assert summary.reasons == {"cbg": {"value-out-of-range": 1}}
    assert world.row(number).quarantined == 1
    assert world.refused(number) == [(3, ["value-out-of-range"])]


@pytest.mark.parametrize("deduplicator", ["", ORIGIN])
def test_a_set_that_is_begun_anew_leaves_them_out(world: World, deduplicator: str) -> None:
    world.simulator.rules.add(TOO_HIGH)
    records = [one | {"origin": {"id": f"o-{at}"}} for at, one in enumerate(some_bad(bad=(3,)))]
    data_set = {"deduplicator": {"name": deduplicator}} if deduplicator else None
    number = world.ready(records, chunk_records=5, data_set=data_set)
    world.simulator.faults.add(Fault.partial("close", steps=1, share=0))

    world.upload(number)

    assert world.set_states(number) == [DataSetState.DELETED, DataSetState.VERIFIED]
    assert len(world.visible()) == 19
    assert len(world.quarantine(number)) == 1


def test_names_that_a_person_chose_stay_out_of_the_ledger(world: World) -> None:
    world.simulator.rules.add(
        Rule(type="pumpSettings", pointer="/basalSchedules/canary-name", equals=[{"start": 0, "rate": 1.0}])
    )
    number = world.ready([settings("canary-name", 1), *readings(20, first=10)])

    world.upload(number)

    (refusal,) = world.ledger.rejections.of_batch(number).values()
    assert refusal.problems == (("value-out-of-range", "/basalSchedules/*"),)
    assert "canary" not in json.dumps(world.quarantine(number)[0]["problems"])


def test_its_log_line_names_types_and_codes_only(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.simulator.rules.add(TOO_HIGH)
    number = world.ready(some_bad(bad=(3,)))

    world.upload(number)

    (line,) = [one for one in caplog.messages if "rejected 1 record " in one]
    assert "1 cbg value-out-of-range" in line
    assert str(BAD) not in caplog.text


def test_an_answer_that_names_no_record_goes_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(data_set_id: str, body: bytes) -> None:
        raise TidepoolRejectedError("upload", status=400)

    number = world.ready(readings(5))
    monkeypatch.setattr(world.client, "upload_data", refusing)

    with pytest.raises(TidepoolRejectedError):
        world.upload(number)

    assert world.row(number).reason == "tidepool-rejected"
