"""What stops a batch until somebody has looked at it: too many refused records, implausible glucose."""

from __future__ import annotations

import pytest

from tests.factories import Record, bolus, cbg, readings
from tests.world import World
from tidepool_ingest.errors import Disposition
from tidepool_ingest.guards.glucose import GlucoseUnitsError
from tidepool_ingest.ledger import BatchState
from tidepool_ingest.prepare.summary import TooManyRejectedError


def test_too_many_refused_records_stop_the_batch_until_a_run_allows_them(world: World) -> None:
    bad = [cbg(number, 99) for number in range(12)]
    world.stage([*bad, *readings(68, first=20)])

    outcome = world.run()

    ((number, error),) = outcome.errors.items()
    assert isinstance(error, TooManyRejectedError)
    assert error.disposition is Disposition.DATA
    assert "12 of 80 records (15.0 %)" in str(error)
    assert "12 cbg value-out-of-range" in str(error)
    assert error.batch in str(error)
    assert (world.row(number).state, world.row(number).reason) == (BatchState.HELD, "too-many-refused")
    assert world.row(number).quarantined == 12
    assert len(world.quarantine(number)) == 12
    assert world.simulator.requests == []
    assert world.run(max_quarantined_percent=14.9).codes == ["too-many-refused"]
    assert world.run(max_quarantined_percent=15).codes == []
    assert (world.row(number).state, world.row(number).reason) == (BatchState.VERIFIED, None)
    assert len(world.visible()) == 68


def test_the_usual_share_is_ten_percent(world: World) -> None:
    world.stage([*[cbg(number, 99) for number in range(10)], *readings(90, first=20)], "allowed")
    world.stage([*[cbg(number, 99) for number in range(11)], *readings(89, first=20)], "too-many")

    assert world.run().codes == ["too-many-refused"]


def glucose(values: list[float], units: str) -> list[Record]:
    return [cbg(number, value, units=units) for number, value in enumerate(values)]


MMOL = [4.1, 5.2, 6.3, 7.4, 12.5]
MG_DL = [74, 94, 113, 133, 225]


@pytest.mark.parametrize(
    ("records", "claimed", "truly", "median"),
    [
        (glucose(MMOL, "mg/dL"), "mg/dL", "mmol/L", 6.3),
        (glucose([41, 42, 43, 44, 45], "mmol/L"), "mmol/L", "mg/dL", 43 / 18.01559),
    ],
    ids=["mmol/L under mg/dL", "mg/dL under mmol/L"],
)
def test_glucose_under_the_wrong_unit_is_held_until_the_manifest_says_which(
    world: World, records: list[Record], claimed: str, truly: str, median: float
) -> None:
    world.stage(records)

    outcome = world.run()

    ((number, error),) = outcome.errors.items()
    assert isinstance(error, GlucoseUnitsError)
    assert (error.claimed, error.code) == (claimed, "glucose-units-implausible")
    assert f'"glucoseUnits": "{truly}"' in str(error)
    assert error.batch in str(error)
    assert world.row(number).state is BatchState.HELD
    assert world.simulator.requests == []
    assert world.run().codes == ["glucose-units-implausible"]

    world.stage(records, edits={"glucoseUnits": truly})
    relabelled = world.run()

    assert relabelled.codes == []
    (corrected,) = relabelled.plan.batches
    assert relabelled.prepared[corrected].edits == {"units": 5}
    assert world.row(number).state is BatchState.OVERWRITTEN
    assert sorted(datum["value"] for datum in world.visible())[2] == pytest.approx(median, abs=1e-5)
    assert world.all_right()


def test_glucose_that_is_so_may_be_confirmed(world: World) -> None:
    records = glucose([3, 4, 5, 20, 21], "mg/dL")
    world.stage(records)
    assert world.run().codes == ["glucose-units-implausible"]
    world.stage(records, edits={"glucoseUnits": "mg/dL"})

    outcome = world.run()

    assert outcome.codes == []
    (number,) = outcome.plan.batches
    assert outcome.prepared[number].edits == {}
    assert sorted(datum["value"] for datum in world.visible())[2] == pytest.approx(5 / 18.01559, abs=1e-5)


@pytest.mark.parametrize(
    "records",
    [
        glucose(MG_DL, "mg/dL"),
        glucose(MMOL, "mmol/L"),
        glucose(MG_DL, "mg/dL") + [cbg(50 + number, value) for number, value in enumerate(MMOL)],
        glucose([20, 25, 30], "mg/dL"),
        glucose([39, 40, 41], "mmol/L"),
        [bolus(number) for number in range(5)],
    ],
    ids=["mg/dL", "mmol/L", "both", "very low", "very high", "no glucose"],
)
def test_glucose_that_can_be_is_not_held(world: World, records: list[Record]) -> None:
    world.stage(records)

    assert world.run(dry_run=True).codes == []


def test_the_guard_looks_into_every_type_with_glucose(world: World) -> None:
    meter = [cbg(number, 6.4, units="mg/dL", type="smbg") for number in range(3)]
    world.stage(meter)

    assert world.run(dry_run=True).codes == ["glucose-units-implausible"]
