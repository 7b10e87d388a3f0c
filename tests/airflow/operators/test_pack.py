"""A fleet: a run of many batches, in packs, as Airflow runs it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from upath import UPath

from tests.airflow.world import CONTINUOUS_DAG_ID, AirflowWorld, Run
from tests.factories import TODAY, meter_readings
from tidepool_airflow.operators import TidepoolPrepareOperator, TidepoolUploadOperator
from tidepool_simulator import Fault
from tidepool_simulator.sample import SAMPLE_USERS

pytestmark = pytest.mark.slow

A_PACK = 3


@pytest.fixture(autouse=True)
def _packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEPOOL_BATCHES_ALONE", "2")
    monkeypatch.setenv("TIDEPOOL_BATCHES_A_PACK", str(A_PACK))


def fleet(world: AirflowWorld, batches: int, **options: Any) -> None:
    for number in range(batches):
        device = f"meter-{number}"
        world.stage(meter_readings(4, device=device), batch=device, device=device, **options)


def states(run: Run, task: str) -> list[str]:
    return [state for (name, _), state in sorted(run.tasks.items()) if name == task]


def test_many_batches_travel_in_packs_and_each_stands_in_the_ledger(world: AirflowWorld) -> None:
    fleet(world, 8)
    run = world.run_dag()
    uploads = world.uploads()

    assert run.state == "success"
    assert states(run, "batch.prepare") == states(run, "batch.upload") == ["success"] * 3
    assert run.xcoms["plan", -1, "plan"]["packs"] == 3
    assert run.xcoms["remaining", -1, "return_value"] == []
    assert states(run, "one_by_one.upload") == ["skipped"]
    assert {(upload.state, upload.visible_rows) for upload in uploads} == {("verified", 4)}
    in_xcom: dict[str, str] = {}
    for pack in range(3):
        in_xcom |= run.xcoms["batch.upload", pack, "data_set_ids"]
    assert in_xcom == {str(upload.batch): upload.data_set_id for upload in uploads}
    assert run.xcoms["report", -1, "summary"]["visible_rows"] == 32
    assert world.all_right()

    sent = world.posts()
    assert world.run_dag().state == "success"
    assert world.posts() == sent


def test_one_failing_batch_holds_up_nobody_and_is_tried_alone(world: AirflowWorld) -> None:
    fleet(world, 5)
    (world.staging / str(TODAY) / SAMPLE_USERS[0] / "meter-1" / "manifest.json").write_text("{")
    world.stage(meter_readings(4), user="0123456789", batch="of-a-stranger")
    run = world.run_dag()

    assert run.state == "failed"
    assert states(run, "batch.prepare") == states(run, "batch.upload") == ["success"] * 2
    assert len(run.xcoms["remaining", -1, "return_value"]) == 2
    assert sorted(states(run, "one_by_one.prepare")) == ["failed", "success"]
    assert sorted(states(run, "one_by_one.upload")) == ["failed", "upstream_failed"]
    found = [(upload.state, upload.reason) for upload in world.uploads()]
    assert sorted(found, key=str) == [
        ("failed", "manifest-malformed"),
        ("failed", "tidepool-permission"),
        *[("verified", None)] * 4,
    ]
    # Each leads to the task of its own, and no longer to the pack that set it aside.
    stopped = {upload.stopped_in for upload in world.uploads()} - {None}
    assert {where and where.task_id for where in stopped} == {"one_by_one.prepare", "one_by_one.upload"}
    assert run.tasks["report", -1] == "failed"


def test_what_strikes_once_is_mended_in_the_same_run(world: AirflowWorld) -> None:
    fleet(world, 6)  # two packs, whichever comes first
    # Enough that the batch in progress fails; the one that takes its turn meets none.
    world.simulator.faults.add(Fault.refused("close", 503, times=3))
    run = world.run_dag({"parallel_chunks": 1})

    assert run.state == "success"
    assert states(run, "one_by_one.upload") == ["success"]
    assert {upload.state for upload in world.uploads()} == {"verified"}
    # The page leads to the pack of each, and to the run of the one that was taken up alone.
    places = sorted((upload.map_index for upload in world.uploads()), key=str)
    assert places in ([0, 0, 1, 1, 1, None], [0, 0, 0, 1, 1, None])
    assert world.all_right()


def test_a_tidepool_that_is_away_fails_packs_and_not_a_task_for_each_batch(
    world: AirflowWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet(world, 14)
    monkeypatch.setenv("TIDEPOOL_BATCHES_A_PACK", "7")
    world.simulator.faults.add(Fault.refused("create", 503, times=500))
    run = world.run_dag()

    assert run.state == "failed"
    assert states(run, "batch.upload") == ["failed"] * 2
    assert run.xcoms["remaining", -1, "return_value"] == []
    world.simulator.faults.clear()

    assert world.run_dag().state == "success"
    assert {upload.state for upload in world.uploads()} == {"verified"}


def test_what_a_killed_task_had_verified_gets_no_task_of_its_own(
    world: AirflowWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet(world, 6)
    work_through = TidepoolUploadOperator.for_each_batch

    def die_at_the_third(
        operator: TidepoolUploadOperator,
        context: Any,
        ledger: Any,
        rows: Any,
        work: Any,
        *,
        key: str,
        **more: Any,
    ) -> None:
        if len(rows) == 1 or context["ti"].map_index:
            work_through(operator, context, ledger, rows, work, key=key, **more)
            return
        work_through(operator, context, ledger, rows[:2], work, key="told to nobody", **more)
        raise AirflowFailException("killed")

    monkeypatch.setattr(TidepoolUploadOperator, "for_each_batch", die_at_the_third)
    run = world.run_dag()

    assert states(run, "batch.upload") == ["failed", "success"]
    assert len(run.xcoms["remaining", -1, "return_value"]) == 1
    assert states(run, "one_by_one.upload") == ["success"]
    assert {upload.state for upload in world.uploads()} == {"verified"}


def test_a_person_is_asked_in_a_task_of_its_own(world: AirflowWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet(world, 3)
    world.stage([*meter_readings(10), *({"type": "smbg"} for _ in range(10))], batch="doubtful")
    asked_packs: list[int] = []

    def ask(operator: TidepoolPrepareOperator, *_: object) -> None:
        # Waiting takes a scheduler; see test_real_approval.
        asked_packs.append(len(operator.batches))
        raise AirflowSkipException("asked")

    monkeypatch.setattr(TidepoolPrepareOperator, "_ask_or_apply", ask)
    run = world.run_dag({"when_refused": "ask"})

    assert states(run, "batch.upload") == ["success"] * 2
    assert (asked_packs, states(run, "one_by_one.prepare")) == ([1], ["skipped"])
    assert [upload.state for upload in world.uploads()].count("verified") == 3


def test_a_dry_run_sums_up_its_packs(world: AirflowWorld) -> None:
    fleet(world, 7)
    run = world.run_dag({"dry_run": True})
    result = run.xcoms["report", -1, "dry_run"]

    assert run.state == "success"
    assert states(run, "one_by_one.upload") == ["skipped"]
    assert (result["batches"], result["accepted"]) == (7, {"smbg": 28})
    assert (result["compared"]["batches"], result["compared"]["new"]) == (7, {"smbg": 28})
    assert world.posts() == 0


def test_a_dry_run_compares_the_others_when_one_batch_cannot_be_read(
    world: AirflowWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet(world, 6)
    broken: list[int] = []

    def prepared(operator: TidepoolPrepareOperator, context: Any) -> Any:
        made = prepare(operator, context)
        if len(operator.batches) > 1 and not broken:
            broken.append(int(operator.batches[0]))
            row = world.ledger.batches.get(broken[0])
            # Its work area is damaged, and cannot be rebuilt.
            (world.staging / "_work" / row.content_key / "accepted.ndjson").write_bytes(b"{}\n")
            (UPath(row.folder) / "data.ndjson").unlink()
        return made

    prepare = TidepoolPrepareOperator.execute
    monkeypatch.setattr(TidepoolPrepareOperator, "execute", prepared)
    run = world.run_dag({"dry_run": True})

    assert states(run, "batch.upload") == ["skipped"] * 2
    assert len(run.xcoms["remaining", -1, "return_value"]) == 1
    assert run.xcoms["report", -1, "dry_run"]["compared"]["batches"] == 5
    assert states(run, "one_by_one.prepare") == ["failed"]


def test_feeds_travel_in_packs_too(world: AirflowWorld) -> None:
    for ago in range(4):
        day = TODAY - timedelta(days=ago)
        for user in SAMPLE_USERS[:2]:
            world.stage(
                meter_readings(4, day=day),
                day=day,
                user=user,
                batch=f"feed-{ago}",
                dataSet={"dataSetType": "continuous", "deviceId": "device-1"},
            )
    run = world.run_dag({"look_back_days": 7}, dag_id=CONTINUOUS_DAG_ID)

    assert run.state == "success"
    assert states(run, "batch.upload") == ["success"] * 2
    assert [upload.state for upload in world.uploads()] == ["verified"] * 8
    assert len({upload.data_set_id for upload in world.uploads()}) == 2
