"""A few bad readings do not keep the good ones of a small batch out; a batch of bad ones only is held."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import cbg, readings
from tests.world import World
from tidepool_ingest.errors import IngestError
from tidepool_ingest.guards import QuarantineLimitError
from tidepool_ingest.ledger import BatchState
from tidepool_ingest.rejection_limit import RejectionLimit
from tidepool_simulator.rules import Rule

TOO_HIGH = Rule(type="cbg", pointer="/value", above=20)
"""What only Tidepool rejects; our own validation takes it."""
POISON = Rule(type="cbg", pointer="/value", equals=22.5, in_storage=True)

SIZES = pytest.mark.parametrize(
    ("bad", "of", "held"),
    [(1, 2, False), (9, 10, False), (10, 11, True), (2, 2, True), (1, 1, True)],
)


def batch(bad: int, of: int, value: float) -> list[dict[str, Any]]:
    return [*(cbg(number, value) for number in range(bad)), *readings(of - bad, first=100)]


@given(st.integers(0, 40), st.integers(0, 40), st.floats(0, 100), st.integers(0, 12))
def test_the_rule(rejected: int, accepted: int, percent: float, counts_from: int) -> None:
    staged = rejected + accepted
    too_large = rejected * 100 > percent * staged

    is_exceeded = RejectionLimit(percent, counts_from).is_exceeded(rejected, staged=staged, accepted=accepted)

    assert is_exceeded == (too_large and (rejected >= counts_from or not accepted))
    if counts_from < 2:
        assert is_exceeded == too_large


@SIZES
def test_of_what_is_rejected_here(world: World, bad: int, of: int, held: bool) -> None:
    world.stage(batch(bad, of, 99))

    outcome = world.run()

    assert outcome.codes == (["too-many-refused"] if held else [])
    row = world.row(outcome.plan.batches[0])
    assert row.state is (BatchState.HELD if held else BatchState.VERIFIED)
    assert (row.staged, row.quarantined, len(world.quarantine(row.id))) == (of, bad, bad)
    assert len(world.visible()) == (0 if held else of - bad)


@SIZES
def test_of_what_tidepool_rejects(world: World, bad: int, of: int, held: bool) -> None:
    world.simulator.rules.add(TOO_HIGH)
    world.stage(batch(bad, of, 22.5))

    outcome = world.run()

    assert outcome.codes == (["too-many-refused"] if held else [])
    row = world.row(outcome.plan.batches[0])
    assert row.state is (BatchState.HELD if held else BatchState.VERIFIED)
    assert (row.staged, row.quarantined, len(world.quarantine(row.id))) == (of, bad, bad)
    assert len(world.visible()) == (0 if held else of - bad)


@pytest.mark.parametrize(("late", "held"), [(4, False), (5, True)])
def test_of_both_together(world: World, late: int, held: bool) -> None:
    world.simulator.rules.add(TOO_HIGH)
    bad = [cbg(number, 99 if number < 5 else 22.5) for number in range(5 + late)]
    world.stage([*bad, *readings(2, first=100)])

    assert world.run().codes == (["too-many-refused"] if held else [])
    assert len(world.visible()) == (0 if held else 2)


def test_of_what_makes_tidepool_fail(world: World) -> None:
    world.simulator.rules.add(POISON)
    number = world.ready(batch(1, 2, 22.5))

    world.upload(number)

    assert world.refused(number) == [(0, ["tidepool-500"])]
    assert len(world.visible()) == 1
    assert world.all_right()


def test_of_a_work_area_that_is_rebuilt(world: World) -> None:
    number = world.ready(batch(1, 2, 99))
    (accepted,) = Path(world.root.path, "_work").rglob("accepted*")
    accepted.unlink()

    world.upload(number)

    assert len(world.visible()) == 1


@pytest.mark.parametrize("counts_from", [0, 1])
def test_a_run_may_count_every_one(world: World, counts_from: int) -> None:
    world.simulator.rules.add(TOO_HIGH)
    world.stage(batch(1, 2, 99), "here")
    tidepools = world.ready(batch(1, 2, 22.5), batch="tidepool")

    with pytest.raises(IngestError) as caught:
        world.upload(tidepools, rejected_from=counts_from)

    assert caught.value.code == "too-many-refused"
    (other,) = [number for number in world.plan().batches if number != tidepools]
    with pytest.raises(QuarantineLimitError):
        world.prepare(other, quarantined_from=counts_from)
