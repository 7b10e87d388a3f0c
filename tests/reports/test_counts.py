"""What a dry run reports: how many records of each type would be sent, how many are rejected and why."""

from __future__ import annotations

from tests.factories import cbg, readings, wizard
from tests.world import World
from tidepool_ingest.prepare.summary import TooManyRejectedError
from tidepool_ingest.reports.run import COLUMNS, counts_of


def test_records_are_counted_by_type_and_reason(world: World) -> None:
    dear = "a value that nobody may see"
    first = world.ready([*readings(30), wizard(40), cbg(50, units=dear), cbg(60, value=1e9)], batch="first")
    second = world.ready([*readings(10, first=100), *readings(4, first=100)], batch="second")

    counts = counts_of(world.root, [world.row(first), world.row(second)])

    assert (counts.batches, counts.held, counts.requests, counts.identical) == (2, 0, 2, 4)
    assert dict(counts.accepted) == {"cbg": 40, "wizard": 1}
    assert sum(counts.refused.values()) == 2
    rows = list(counts.rows())
    assert {len(row) for row in rows} == {len(COLUMNS)}
    assert rows[0] == ("cbg", "accepted", 40)
    assert [kind for kind, what, _ in rows if what.startswith("rejected: ")] == ["cbg", "cbg"]
    assert rows[-1] == ("wizard", "accepted", 1)
    assert counts.sentence().startswith(
        "41 records of 2 batches would be sent in 2 requests; 2 would be rejected"
    )
    assert dear not in str(counts.summary()) + str(rows)
    assert counts.summary()["refused"]["cbg"].values()


def test_a_batch_that_is_held_is_counted_as_such(world: World) -> None:
    world.stage([*readings(10), *[cbg(50 + number, units="stones") for number in range(10)]])
    outcome = world.run()
    (number,) = outcome.plan.batches
    assert isinstance(outcome.errors[number], TooManyRejectedError)

    counts = counts_of(world.root, [world.row(number)])

    assert (counts.batches, counts.held, sum(counts.accepted.values())) == (0, 1, 0)
    assert counts.sentence().endswith("1 batch would be held: the table and the logs of the tasks say why.")
