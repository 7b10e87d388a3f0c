"""Records that pass all validators and that Tidepool answers 500 for: found by halving, the rest arrives."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.factories import HASH, NONE, ORIGIN, cbg, readings, wizard
from tests.world import World, store_and_answer_500
from tidepool_ingest.client import TidepoolUnreachableError
from tidepool_ingest.ledger import BatchState, DataSetState
from tidepool_ingest.upload.isolation import Isolation
from tidepool_ingest.upload.record_ids import RecordWithIds
from tidepool_ingest.upload.rejections import TooManyRejectedByTidepoolError
from tidepool_simulator.faults import Fault
from tidepool_simulator.rules import Rule

POISON = Rule(type="cbg", pointer="/value", equals=22.5, in_storage=True)


def records_with_poison(count: int, *poison: int) -> list[dict[str, Any]]:
    return [
        cbg(number, 22.5 if number in poison else 6.5, origin={"id": f"o-{number}"})
        for number in range(count)
    ]


@pytest.mark.parametrize(
    ("deduplicator", "at_once"), [(HASH, 1), (HASH, 4), (NONE, 4), (ORIGIN, 1), (ORIGIN, 4)]
)
def test_it_goes_to_quarantine_and_the_others_arrive(world: World, deduplicator: str, at_once: int) -> None:
    world.simulator.rules.add(POISON)
    number = world.ready(
        records_with_poison(40, 3, 25), chunk_records=20, data_set={"deduplicator": {"name": deduplicator}}
    )

    summary = world.upload(number, at_once=at_once)

    assert (summary.expected_rows, summary.visible_rows) == (38, 38)
    assert world.refused(number) == [(3, ["tidepool-500"]), (25, ["tidepool-500"])]
    assert world.row(number).state is BatchState.VERIFIED
    assert len(world.visible()) == 38
    assert world.all_right()


def test_the_rounds_are_few(world: World) -> None:
    world.simulator.rules.add(POISON)
    number = world.ready(records_with_poison(100, 37), chunk_records=100)

    world.upload(number)

    rounds = world.ledger.data_sets.chunks_of(world.sets(number)[-1].id)[0].attempts
    assert rounds <= 3 + 7 + 2 + 1  # three of the chunk, log2(100), twice more alone, and the rest
    assert len(world.sets(number)) == 1


def test_what_is_embedded_takes_the_record_along(world: World) -> None:
    world.simulator.rules.add(Rule(type="wizard", pointer="/carbInput", equals=77, in_storage=True))
    number = world.ready([wizard(0), wizard(1, carbInput=77), *readings(30, first=10)])

    summary = world.upload(number)

    assert world.refused(number) == [(1, ["tidepool-500"])]
    assert summary.visible_rows == 32


def test_one_that_is_alone_in_its_batch_is_named(world: World) -> None:
    world.simulator.rules.add(POISON)
    number = world.ready(records_with_poison(1, 0))

    with pytest.raises(TooManyRejectedByTidepoolError):
        world.upload(number, max_rejected_percent=100)

    assert world.refused(number) == [(0, ["tidepool-500"])]
    assert world.row(number).state is BatchState.HELD
    assert world.set_states(number) == [DataSetState.DELETED]


def test_a_tidepool_that_takes_nothing_is_no_verdict_on_a_record(world: World) -> None:
    number = world.ready(readings(20))
    world.simulator.faults.add(Fault.refused("post", 500, times=None))

    with pytest.raises(TidepoolUnreachableError):
        world.upload(number)

    assert world.ledger.rejections.of_batch(number) == {}
    assert len(world.recorder.chunks) == world.timeouts.attempts  # and none of them was a half
    world.simulator.faults.clear()
    world.resume(number)
    assert len(world.visible()) == 20
    assert world.all_right()


def test_an_outage_that_ends_quarantines_nothing(world: World) -> None:
    number = world.ready(readings(20))
    world.simulator.faults.add(Fault.refused("post", 500, times=3))

    world.upload(number)

    assert world.quarantine(number) == []
    assert len(world.visible()) == 20
    assert world.all_right()


@pytest.mark.parametrize("deduplicator", [HASH, ORIGIN])
def test_what_was_stored_in_part_before_a_500_is_not_there_twice(world: World, deduplicator: str) -> None:
    world.simulator.rules.add(POISON)
    number = world.ready(
        records_with_poison(40, 3), chunk_records=20, data_set={"deduplicator": {"name": deduplicator}}
    )
    world.simulator.faults.add(Fault.partial("post", share=0.5, times=1, skip=4))

    world.upload(number)

    assert world.refused(number) == [(3, ["tidepool-500"])]
    assert world.all_right()


def test_it_is_not_sent_again_by_a_later_attempt(world: World) -> None:
    world.simulator.rules.add(POISON)
    number = world.ready(records_with_poison(20, 3))
    world.simulator.faults.add(Fault.refused("close", 503, times=world.timeouts.attempts))
    with pytest.raises(TidepoolUnreachableError):
        world.upload(number)
    world.recorder.sent.clear()

    world.prepare(number)
    world.resume(number)

    assert world.recorder.chunks == []
    assert world.refused(number) == [(3, ["tidepool-500"])]
    assert world.all_right()


def test_too_many_of_them_hold_the_batch(world: World) -> None:
    world.simulator.rules.add(POISON)
    number = world.ready(records_with_poison(20, 1, 2, 3), chunk_records=10)

    with pytest.raises(TooManyRejectedByTidepoolError):
        world.upload(number, rejected_from=3)

    assert world.row(number).state is BatchState.HELD
    assert world.visible() == []
    assert [codes for _place, codes in world.refused(number)] == [["tidepool-500"]] * 3


def test_its_log_line_names_types_and_codes_only(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.simulator.rules.add(POISON)
    number = world.ready(records_with_poison(20, 3))

    world.upload(number)

    (line,) = [one for one in caplog.messages if "answers 500" in one]
    assert "1 cbg tidepool-500" in line
    assert "22.5" not in caplog.text
    assert "22.5" not in json.dumps(world.quarantine(number)[0]["problems"])


def records(count: int) -> list[RecordWithIds]:
    return [RecordWithIds(ordinal, b"{}", (str(ordinal),)) for ordinal in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 65])
@pytest.mark.parametrize("every", [False, True])
def test_the_rounds_end_whichever_records_are_bad(count: int, every: bool) -> None:
    isolation = Isolation()
    bad = set(range(count)) if every else {count // 3, count - 1}
    found: set[int] = set()
    while True:
        left = [record for record in records(count) if record.ordinal not in found]
        pieces = isolation.pieces(0, left)
        assert sorted(record.ordinal for piece in pieces for record in piece) == [
            record.ordinal for record in left
        ]
        failing = [piece for piece in pieces if any(record.ordinal in bad for record in piece)]
        if not failing:
            break
        found |= isolation.failed(0, failing)
        assert not isolation.is_exhausted(0)
    assert found == bad
    assert isolation.rounds <= 3 + (count - 1).bit_length() + (2 if count > 1 else 0)


def test_one_that_is_stored_and_answered_with_500_all_the_same_is_removed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = world.ready(records_with_poison(20, 3))
    store_and_answer_500(world, monkeypatch, b"22.5")

    world.upload(number)

    assert world.refused(number) == [(3, ["tidepool-500"])]
    assert len(world.visible()) == 19
    assert world.all_right()
