"""A person decides about a batch of which too many records are refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.factories import DEVICE, cbg, readings
from tests.world import World
from tidepool_ingest.client import TidepoolError
from tidepool_ingest.guards import (
    Decision,
    answer_of,
    apply_decision,
    decision_of,
    is_declined,
    limit_as_decided,
    record_decision,
    waits_for_person,
)
from tidepool_ingest.ledger import ActionKind, ActionStatus, BatchState, TaskOrigin
from tidepool_ingest.options import WhenRefused
from tidepool_ingest.prepare.summary import TooManyRejectedError, question_of
from tidepool_ingest.rejection_limit import RejectionLimit
from tidepool_ingest.upload.rejections import TooManyRejectedByTidepoolError
from tidepool_simulator import Fault
from tidepool_simulator.rules import Rule

RUN = TaskOrigin(dag_id="dag", run_id="run-1")
CANARY = "a value that nobody may see"
ASK: Any = {"when_refused": WhenRefused.ASK, "quarantined_from": 1}


def waiting(world: World, good: int = 7, bad: int = 3) -> int:
    """Prepare a batch in a run that asks, and return its number."""
    refused = [cbg(number, units=CANARY) for number in range(bad)]
    return world.ready([*readings(good, first=100), *refused], **ASK)


def test_a_run_that_asks_holds_the_batch_instead_of_failing(world: World) -> None:
    number = waiting(world)

    assert waits_for_person(world.row(number))
    assert world.prepare(number, **ASK).asks
    assert not world.prepare(number, **ASK, max_quarantined_percent=50).asks
    assert world.simulator.requests == []
    with pytest.raises(TooManyRejectedError):
        world.prepare(number, quarantined_from=1)
    with pytest.raises(TooManyRejectedError):
        world.prepare(number, **ASK, dry_run=True)


def test_a_person_is_asked_about_a_batch_that_was_begun_too(world: World) -> None:
    """Begun by a run that allowed more, it is not held, and not uploaded without a decision either."""
    refused = [cbg(number, units=CANARY) for number in range(3)]
    number = world.ready([*readings(7, first=100), *refused], max_quarantined_percent=50)
    world.simulator.faults.add(Fault.refused("close", 503, times=50))
    with pytest.raises(TidepoolError):
        world.upload(number, max_rejected_percent=50)
    world.simulator.faults.clear()

    assert world.prepare(number, **ASK).asks
    assert world.row(number).state is BatchState.UPLOADING
    apply_decision(world.ledger, world.row(number), Decision.APPROVE)
    assert world.row(number).state is BatchState.UPLOADING
    apply_decision(world.ledger, world.row(number), Decision.DECLINE)
    assert is_declined(world.row(number))


def test_other_guards_are_not_asked_about(world: World) -> None:
    truncate = {"name": "org.tidepool.deduplicator.device.truncate.dataset"}
    world.stage([*readings(3), cbg(9, units=CANARY)], data_set={"deduplicator": truncate})
    (number,) = world.plan().batches

    with pytest.raises(Exception, match="allow_truncate"):
        world.prepare(number, **ASK)

    assert world.row(number).reason == "truncate-not-allowed"


def test_the_question_has_counts_and_no_value(world: World) -> None:
    number = waiting(world)
    summary = world.prepare(number, **ASK)
    subject, body = question_of(summary, 10.0)

    assert subject == f"{world.row(number).label}: upload it without 3 rejected records?"
    assert "3 of 10 records (30.0 %) are rejected, more than the 10 % allowed. 7 are accepted." in body
    assert "| cbg | value-not-allowed: Tidepool does not know this word here | 3 |" in body
    assert all(f"**{decision.answer}**" in body for decision in Decision)
    assert not [secret for secret in (CANARY, DEVICE, world.user) if secret in subject + body]


def test_a_decision_counts_for_its_run_since_it_was_started(world: World) -> None:
    batch = world.row(waiting(world))
    before = datetime.now(UTC) - timedelta(seconds=1)
    record_decision(world.ledger, batch, Decision.GOOD_ONES, actor="ada", run=RUN)

    def decided(run: TaskOrigin = RUN, since: datetime | None = before) -> Decision | None:
        return decision_of(world.ledger, batch, run=run, since=since)

    assert decided() is decided(since=None) is Decision.GOOD_ONES
    assert decided(since=datetime.now(UTC) + timedelta(seconds=1)) is None
    assert decided(run=TaskOrigin(dag_id="dag", run_id="run-2")) is None
    record_decision(world.ledger, batch, Decision.DECLINE, actor="ada", run=RUN)
    assert decided() is Decision.DECLINE
    (newest, _) = world.ledger.actions.of_batch(batch.id)
    assert (newest.actor, newest.kind, newest.status) == ("ada", ActionKind.APPROVE, ActionStatus.DONE)


def test_what_is_approved_goes_on_and_what_is_rejected_stays_held(world: World) -> None:
    number = waiting(world)
    apply_decision(world.ledger, world.row(number), Decision.DECLINE)
    assert is_declined(world.row(number))
    assert not waits_for_person(world.row(number))

    apply_decision(world.ledger, world.row(number), Decision.APPROVE)
    world.upload(number)

    assert world.row(number).state is BatchState.VERIFIED
    assert len(world.visible()) == 7
    assert len(world.quarantine(number)) == 3


def test_what_is_rejected_is_taken_up_only_where_it_is_named(world: World) -> None:
    number = waiting(world)
    apply_decision(world.ledger, world.row(number), Decision.DECLINE)

    assert (world.plan().batches, world.plan().declined) == ([], 1)
    assert is_declined(world.row(number))
    assert world.plan(first_day=world.row(number).day, force=True).batches == []
    assert world.plan(batches=[number]).batches == [number]


def test_nobody_is_asked_where_nothing_is_left_to_upload(world: World) -> None:
    with pytest.raises(TooManyRejectedError):
        waiting(world, good=0)
    (spoilt,) = world.plan().batches
    assert world.row(spoilt).reason == "too-many-refused"

    number = waiting(world)
    apply_decision(world.ledger, world.row(number), Decision.APPROVE)
    world.upload(number)
    assert not world.prepare(number, **ASK).asks


def test_what_tidepool_rejected_meanwhile_is_not_asked_about_either(world: World) -> None:
    world.simulator.rules.add(Rule(type="cbg", pointer="/value", above=20))
    number = world.ready([cbg(200, 22.5)])
    with pytest.raises(TooManyRejectedByTidepoolError):
        world.upload(number)

    with pytest.raises(TooManyRejectedError):
        world.prepare(number, **ASK)


def test_answers_are_named_by_what_they_do_and_kept_by_their_values() -> None:
    assert [decision.answer for decision in Decision] == [
        "Upload the accepted records",
        "Upload them, but stop if Tidepool rejects more",
        "Upload nothing of this batch",
    ]
    for decision in Decision:
        assert Decision.of_answer(decision.answer) is decision
        assert Decision.of_answer(str(decision)) is decision, "of a question asked before an upgrade"
        assert answer_of(str(decision)) == decision.answer
    assert answer_of("2 data sets deleted") == "2 data sets deleted"


def test_the_good_ones_are_exactly_those_accepted_now(world: World) -> None:
    row = world.row(waiting(world))
    for staged in range(1, 200):
        for quarantined in range(1, staged):
            batch = replace(row, staged=staged, quarantined=quarantined)
            allowed = limit_as_decided(batch, Decision.GOOD_ONES, RejectionLimit(0))
            left = staged - quarantined
            assert not allowed.is_exceeded(quarantined, staged=staged, accepted=left)
            assert allowed.is_exceeded(quarantined + 1, staged=staged, accepted=left - 1)
    usual = RejectionLimit()
    assert not limit_as_decided(row, Decision.APPROVE, usual).is_exceeded(200, staged=200, accepted=0)
    assert limit_as_decided(row, None, usual) == usual


@pytest.mark.parametrize("decision", [Decision.APPROVE, Decision.GOOD_ONES])
def test_what_tidepool_refuses_besides_counts_for_those_who_want_the_good_ones_only(
    world: World, decision: Decision
) -> None:
    world.simulator.rules.add(Rule(type="cbg", pointer="/value", above=20))
    refused = [cbg(number, units=CANARY) for number in range(3)]
    number = world.ready([*readings(6, first=100), cbg(200, 22.5), *refused], **ASK)
    apply_decision(world.ledger, world.row(number), decision)
    limit = limit_as_decided(world.row(number), decision, RejectionLimit())
    allowed = {"max_rejected_percent": limit.percent, "rejected_from": limit.counts_from}

    if decision is Decision.APPROVE:
        world.upload(number, **allowed)
        assert (len(world.visible()), len(world.quarantine(number))) == (6, 4)
    else:
        with pytest.raises(TooManyRejectedByTidepoolError):
            world.upload(number, **allowed)
        assert world.visible() == []


def test_another_run_that_has_brought_it_to_its_end_is_not_undone(world: World) -> None:
    number = waiting(world)
    apply_decision(world.ledger, world.row(number), Decision.APPROVE)
    world.upload(number)

    world.prepare(number, **ASK)

    assert world.row(number).state is BatchState.VERIFIED
