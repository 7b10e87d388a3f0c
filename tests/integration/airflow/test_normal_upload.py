"""The whole DAG, run task by task as Airflow runs it, against the simulator over real HTTP."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dev.simulator import simulator_connection

from tests.airflow.world import AirflowWorld
from tests.factories import TODAY, meter_readings, set_batch_state
from tidepool_airflow.operators import TidepoolPrepareOperator
from tidepool_ingest.ledger import BatchState
from tidepool_ingest.privacy import short_hash
from tidepool_simulator import Fault
from tidepool_simulator.sample import SAMPLE_USERS

LONG_AGO = TODAY - timedelta(days=400)


def midnight(day: Any) -> datetime:
    return datetime(day.year, day.month, day.day, 3, tzinfo=UTC)


def test_a_staged_batch_becomes_a_verified_data_set(world: AirflowWorld) -> None:
    world.stage(meter_readings(1_200))
    run = world.run_dag()
    (upload,) = world.uploads()

    assert run.state == "success"
    assert (upload.state, upload.accepted, upload.visible_rows) == ("verified", 1_200, 1_200)
    assert world.all_right()


def test_the_data_set_id_is_in_xcom_and_in_the_ledger(world: AirflowWorld) -> None:
    world.stage(meter_readings(3))
    run = world.run_dag()
    (upload,) = world.uploads()

    assert run.xcoms["batch.upload", 0, "data_set_id"] == upload.data_set_id
    assert (upload.dag_id, upload.map_index, upload.try_number) == ("tidepool_normal_upload", 0, 1)


@pytest.mark.slow
def test_a_second_run_takes_up_nothing(world: AirflowWorld) -> None:
    world.stage(meter_readings(3))
    world.run_dag()
    sent = world.posts()
    second = world.run_dag()

    assert second.state == "success"
    assert second.xcoms["plan", -1, "plan"]["done"] == 1
    assert world.posts() == sent


@pytest.mark.slow
@pytest.mark.parametrize("logical_date", [None, midnight(LONG_AGO), midnight(TODAY + timedelta(days=30))])
def test_a_manual_run_takes_what_is_ready_whatever_its_logical_date(
    world: AirflowWorld, logical_date: datetime | None
) -> None:
    world.stage(meter_readings(3))

    assert world.run_dag(logical_date=logical_date).state == "success"
    assert [upload.state for upload in world.uploads()] == ["verified"]


@pytest.mark.slow
def test_explicit_days_take_exactly_those(world: AirflowWorld) -> None:
    for days_ago in (1, 2, 3):
        day = TODAY - timedelta(days=days_ago)
        world.stage(meter_readings(3, day=day), day=day, batch=f"batch-{days_ago}")
    run = world.run_dag({"first_day": str(TODAY - timedelta(days=2))})

    assert [upload.day for upload in world.uploads()] == [TODAY - timedelta(days=2)]
    assert run.xcoms["plan", -1, "plan"]["days_outside"] == [str(TODAY - timedelta(days=n)) for n in (3, 1)]


def test_a_scheduled_run_takes_its_day_and_late_arrivals(world: AirflowWorld) -> None:
    for days_ago in (400, 401, 405, 420):
        day = TODAY - timedelta(days=days_ago)
        world.stage(meter_readings(2, day=day), day=day, batch=f"batch-{days_ago}")
    start = midnight(LONG_AGO)
    run = world.run_dag(run_type="scheduled", interval=(start, start + timedelta(days=1)), logical_date=start)

    assert run.state == "success"
    assert sorted((TODAY - upload.day).days for upload in world.uploads()) == [400, 401, 405]


@pytest.mark.slow
def test_a_backfilled_run_takes_its_day_only(world: AirflowWorld) -> None:
    for days_ago in (400, 401):
        day = TODAY - timedelta(days=days_ago)
        world.stage(meter_readings(2, day=day), day=day, batch=f"batch-{days_ago}")
    start = midnight(LONG_AGO)
    world.run_dag(run_type="backfill", interval=(start, start + timedelta(days=1)), logical_date=start)

    assert [(TODAY - upload.day).days for upload in world.uploads()] == [400]


def test_nothing_ready_is_a_success(world: AirflowWorld) -> None:
    run = world.run_dag()

    assert run.state == "success"
    assert run.xcoms["plan", -1, "plan"]["batches"] == 0


def test_a_dry_run_validates_and_opens_nothing(world: AirflowWorld) -> None:
    world.stage([*meter_readings(20), {"type": "smbg"}])
    run = world.run_dag({"dry_run": True})

    assert run.state == "success"
    assert run.tasks["batch.upload", 0] == "skipped"
    assert run.xcoms["batch.prepare", 0, "return_value"]["quarantined"] == 1
    assert {request.method for request in world.simulator.requests if "/data" in request.route} == {"GET"}
    result = run.xcoms["report", -1, "dry_run"]
    assert (result["batches"], result["accepted"]) == (1, {"smbg": 20})
    assert sum(result["refused"]["smbg"].values()) >= 1
    assert (result["compared"]["batches"], result["compared"]["new"]) == (1, {"smbg": 20})

    assert world.run_dag().state == "success"
    assert [upload.state for upload in world.uploads()] == ["verified"]


@pytest.mark.slow
def test_a_dry_run_reports_what_tidepool_shows_already(world: AirflowWorld) -> None:
    world.stage(meter_readings(20))
    world.run_dag()
    world.stage(meter_readings(30), batch="batch-2")
    world.stage(meter_readings(3), user="0123456789", batch="of-a-stranger")
    result = world.run_dag({"dry_run": True}).xcoms["report", -1, "dry_run"]["compared"]

    assert (result["new"], result["same"], result["archived"]) == ({"smbg": 10}, {"smbg": 20}, {"smbg": 20})
    assert (result["batches"], result["left_out"]) == (1, {"tidepool-permission": 1})


@pytest.mark.slow
def test_a_dry_run_works_where_nobody_may_sign_in(
    world: AirflowWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.stage(meter_readings(20))
    connection = simulator_connection(world.simulator.base_url) | {"password": "not-the-secret"}
    monkeypatch.setenv("AIRFLOW_CONN_TIDEPOOL_DEFAULT", json.dumps(connection))
    run = world.run_dag({"dry_run": True})

    result = run.xcoms["report", -1, "dry_run"]
    assert run.state == "success"
    assert result["accepted"] == {"smbg": 20}
    assert (result["compared"]["batches"], result["compared"]["left_out"]) == (
        0,
        {"tidepool-authentication": 1},
    )


def test_one_bad_batch_fails_the_run_and_the_others_go_on(world: AirflowWorld) -> None:
    world.stage(meter_readings(3), batch="good")
    (
        world.stage(meter_readings(3, device="device-2"), batch="bad", device="device-2") / "manifest.json"
    ).write_text("{")
    run = world.run_dag()

    assert run.state == "failed"
    assert sorted(upload.state for upload in world.uploads()) == ["failed", "verified"]
    assert sorted(state for (task, _), state in run.tasks.items() if task == "batch.prepare") == [
        "failed",
        "success",
    ]
    assert sorted(state for (task, _), state in run.tasks.items() if task == "batch.upload") == [
        "success",
        "upstream_failed",
    ]
    assert run.tasks["report", -1] == "failed"


@pytest.mark.slow
def test_a_corrected_batch_uploads_on_the_next_run(world: AirflowWorld) -> None:
    folder = world.stage(meter_readings(3), files=[{"name": "absent.ndjson", "format": "ndjson"}])
    assert world.run_dag().state == "failed"
    world.stage(meter_readings(3))

    assert world.run_dag().state == "success"
    assert sorted(upload.state for upload in world.uploads()) == ["overwritten", "verified"]
    assert folder.exists()


@pytest.mark.slow
def test_too_many_rejected_records_stop_before_anything_is_opened(world: AirflowWorld) -> None:
    world.stage([*meter_readings(10), *({"type": "smbg"} for _ in range(10))])
    run = world.run_dag()

    assert run.state == "failed"
    assert [(upload.state, upload.reason) for upload in world.uploads()] == [("held", "too-many-refused")]
    assert world.simulator.requests == []

    assert world.run_dag({"max_quarantined_percent": 50}).state == "success"
    assert [upload.state for upload in world.uploads()] == ["verified"]


@pytest.mark.slow
def test_one_bad_reading_of_two_does_not_keep_the_good_one_out(world: AirflowWorld) -> None:
    world.stage([*meter_readings(1), {"type": "smbg"}])

    assert world.run_dag({"quarantined_from": 1}).state == "failed"
    assert world.run_dag().state == "success"
    (upload,) = world.uploads()
    assert (upload.state, upload.visible_rows, upload.quarantined) == ("verified", 1, 1)


def test_a_failed_upload_fails_the_run_and_the_next_one_goes_on(world: AirflowWorld) -> None:
    world.stage(meter_readings(2_500))
    world.simulator.faults.add(Fault.refused("close", 503, times=50))
    assert world.run_dag().state == "failed"
    opened = [upload.data_set_id for upload in world.uploads()]
    sent = world.posts()
    world.simulator.faults.clear()

    assert world.run_dag().state == "success"
    assert [upload.data_set_id for upload in world.uploads()] == opened
    assert world.posts() == sent
    assert world.all_right()


@pytest.mark.slow
def test_a_device_that_has_stopped_is_named_in_the_report(world: AirflowWorld) -> None:
    for ago in range(5, 11):
        day = TODAY - timedelta(days=ago)
        world.stage(meter_readings(2, day=day), day=day, batch=f"batch-{ago}")
    summary = world.run_dag({"look_back_days": 30}).xcoms["report", -1, "summary"]

    assert summary["silent"]["devices"] == 1
    (named,) = summary["silent"]["named"]
    assert named.startswith(
        f"Model 5 {short_hash('device-1')} of user {short_hash(SAMPLE_USERS[0])}: inactive for 5 "
    )
    assert SAMPLE_USERS[0] not in named


def test_an_unknown_parameter_is_rejected(world: AirflowWorld) -> None:
    world.stage(meter_readings(3))
    run = world.run_dag({"frist_day": "2026-01-01"})

    assert run.state == "failed"
    assert run.tasks["plan", -1] == "failed"
    assert run.tasks["report", -1] == "failed"
    assert world.simulator.requests == []


@pytest.mark.slow
def test_a_user_the_token_may_not_write_to_fails_alone(world: AirflowWorld) -> None:
    world.stage(meter_readings(3), batch="good")
    world.stage(meter_readings(3), user="0123456789", batch="stranger")
    run = world.run_dag()

    assert run.state == "failed"
    assert sorted((upload.state, upload.reason) for upload in world.uploads()) == [
        ("failed", "tidepool-permission"),
        ("verified", None),
    ]


@pytest.mark.slow
def test_only_some_users(world: AirflowWorld) -> None:
    for user in SAMPLE_USERS:
        world.stage(meter_readings(3), user=user)
    run = world.run_dag({"users": [SAMPLE_USERS[1], "0123456789"]})

    assert [upload.user_id for upload in world.uploads()] == [SAMPLE_USERS[1]]
    assert run.xcoms["plan", -1, "plan"]["users_not_found"] == 1


@pytest.mark.slow
def test_a_batch_may_name_an_allowed_connection_only(
    world: AirflowWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEPOOL_ALLOWED_CONNECTIONS", "tidepool_clinic_b")
    uploader = world.simulator.accounts["uploader"]
    other = {"conn_type": "tidepool", "host": world.simulator.base_url, "extra": {"auth_mode": "login"}}
    login = {"login": uploader.username, "password": uploader.password}
    monkeypatch.setenv("AIRFLOW_CONN_TIDEPOOL_CLINIC_B", json.dumps(other | login))
    owner = world.simulator.accounts["owner"].id
    world.stage(meter_readings(3), user=owner, batch="allowed", connection="tidepool_clinic_b")
    world.stage(meter_readings(3), batch="not-allowed", connection="tidepool_elsewhere")
    run = world.run_dag()

    assert run.state == "failed"
    assert {(upload.user_id, upload.state, upload.reason) for upload in world.uploads()} == {
        (owner, "verified", None),
        (SAMPLE_USERS[0], "failed", "connection-not-allowed"),
    }


@pytest.mark.slow
def test_forced_runs_upload_again_and_the_older_copy_is_archived(world: AirflowWorld) -> None:
    world.stage(meter_readings(3))
    world.run_dag()
    (first,) = world.uploads()
    world.run_dag({"force": True})
    (second,) = world.uploads()

    assert first.data_set_id != second.data_set_id
    assert world.check().visible == 3


@pytest.mark.slow
def test_older_content_waits_for_somebody_to_say_that_it_may_win(world: AirflowWorld) -> None:
    yesterday = TODAY - timedelta(days=1)
    (reading,) = meter_readings(1)
    dose = {**reading, "type": "bolus", "subType": "normal", "normal": 2.0}
    world.stage([*meter_readings(3), dose], batch="newer")
    world.run_dag()
    world.stage([*meter_readings(4), {**dose, "normal": 1.0}], day=yesterday, batch="older")
    run = world.run_dag()

    assert run.state == "failed"
    assert run.xcoms["plan", -1, "plan"]["older_than_uploaded"] == 1
    assert sorted((upload.day, upload.state, upload.reason) for upload in world.uploads()) == [
        (yesterday, "held", "older-than-uploaded"),
        (TODAY, "verified", None),
    ]
    assert world.run_dag({"allow_older": True}).state == "success"
    assert [upload.state for upload in world.uploads()] == ["verified", "verified"]


@pytest.mark.slow
def test_a_corrected_batch_replaces_the_one_it_names(world: AirflowWorld) -> None:
    world.stage(meter_readings(3), batch="wrong")
    world.run_dag()
    world.stage(meter_readings(3, value=150), batch="right", replaces="wrong")
    run = world.run_dag()

    assert run.state == "success"
    assert sorted((upload.state, upload.data_set_state) for upload in world.uploads()) == [
        ("replaced", "deleted"),
        ("verified", "verified"),
    ]
    assert world.check().visible == 3
    assert world.run_dag({"force": True}).xcoms["plan", -1, "plan"]["done"] == 1


@pytest.mark.slow
def test_what_would_delete_other_data_has_to_be_confirmed(world: AirflowWorld) -> None:
    truncate = {"name": "org.tidepool.deduplicator.device.truncate.dataset"}
    world.stage(meter_readings(3), dataSet={"deviceId": "device-1", "deduplicator": truncate})
    run = world.run_dag()

    assert run.state == "failed"
    assert run.tasks["batch.prepare", 0] == "failed"
    assert [(upload.state, upload.reason) for upload in world.uploads()] == [("held", "truncate-not-allowed")]
    assert world.simulator.requests == []
    assert world.run_dag({"allow_truncate": True}).state == "success"


@pytest.mark.slow
def test_what_would_show_records_twice_has_to_be_confirmed(world: AirflowWorld) -> None:
    none = {"name": "org.tidepool.deduplicator.none"}
    world.stage(meter_readings(3), dataSet={"deviceId": "device-1", "deduplicator": none})
    world.run_dag()
    sent = world.posts()

    assert world.run_dag({"force": True}).state == "failed"
    assert [(upload.state, upload.reason) for upload in world.uploads()] == [("verified", None)]
    assert world.posts() == sent
    assert world.run_dag().state == "success"
    assert [upload.state for upload in world.uploads()] == ["verified"]
    assert world.run_dag({"force": True, "allow_doubling": True}).state == "success"
    assert world.posts() > sent


def test_a_run_passes_over_what_another_batch_was_staged_in_the_place_of(
    world: AirflowWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.stage(meter_readings(3))
    prepare = TidepoolPrepareOperator.execute

    def overtaken(operator: TidepoolPrepareOperator, context: Any) -> Any:
        set_batch_state(world.ledger, int(operator.batches[0]), BatchState.OVERWRITTEN)
        return prepare(operator, context)

    monkeypatch.setattr(TidepoolPrepareOperator, "execute", overtaken)
    run = world.run_dag()

    assert (run.state, run.tasks["batch.prepare", 0], run.tasks["batch.upload", 0]) == (
        "success",
        "skipped",
        "skipped",
    )
    assert world.simulator.requests == []
