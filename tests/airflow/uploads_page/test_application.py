"""The uploads page as Airflow's API server mounts it, with its own login, rights and runs."""

from __future__ import annotations

import csv
import gc
import json
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from cryptography.fernet import Fernet
from fastapi.testclient import TestClient
from sqlalchemy import update
from upath import UPath

from tests import damage
from tests.airflow.uploads_page.visiting import OWN, PAGE, Visitor, switch, token_on
from tests.airflow.world import CONTINUOUS_DAG_ID, DAG_ID, AirflowWorld
from tests.factories import TODAY, days_since, meter_readings, stage
from tidepool_airflow.links import ACTION_DAG
from tidepool_ingest import plan
from tidepool_ingest.cli import main
from tidepool_ingest.ledger import (
    COMMAND_LINE,
    ActionKind,
    ActionStatus,
    BatchState,
    Dismissal,
    Ledger,
    Purged,
    lease_of_batch,
)
from tidepool_ingest.ledger.device_days import DeviceDays, DeviceSpan
from tidepool_ingest.ledger.schema import batch_days, batches, data_sets
from tidepool_ingest.privacy import short_hash
from tidepool_ingest.reports.inactive_devices import inactive_devices
from tidepool_simulator.sample import SAMPLE_USERS


def runs_of(dag_id: str) -> list[Any]:
    from airflow.models.dagrun import DagRun

    return list(DagRun.find(dag_id=dag_id))


def uploaded(world: AirflowWorld, *, refused: int = 0, **conf: Any) -> int:
    """Stage one batch, upload it, and return its number."""
    records = meter_readings(60)
    for record in records[:refused]:
        record["value"] = 77_777
    stage(Path(conf.get("staging_root", world.staging)), records)
    world.run_dag({"max_quarantined_percent": 50, **conf})
    (session,) = world.uploads()
    return session.batch


def ask(client: TestClient, batch: int, what: str, **headers: str) -> Any:
    given = OWN | {"x-tidepool-token": token_on(client, batch)} | headers
    return client.post(f"{PAGE}/{batch}/{what}", headers=given)


# ---------------------------------------------------------------- who may see it


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/overview.csv",
        "/list",
        "/audit-log",
        "/inactive",
        "/1",
        "/1/quarantine.ndjson",
        "/static/page.css",
        "/static/page.js",
        "/static/choose.js",
        "/static/patch.js",
        "/nothing",
    ],
)
def test_whoever_is_not_signed_in_sees_nothing(visit: Visitor, path: str) -> None:
    assert visit("").get(f"{PAGE}{path}").status_code == 401


def test_whoever_is_not_signed_in_can_do_nothing(visit: Visitor) -> None:
    for path in ("1/withdraw", "chosen/withdraw?batch=1"):
        assert visit("").post(f"{PAGE}/{path}", headers=OWN).status_code == 401


def test_a_viewer_sees_the_page_and_can_do_nothing(world: AirflowWorld, visit: Visitor) -> None:
    batch = uploaded(world, refused=1)
    viewer = visit("viewer")
    page = viewer.get(f"{PAGE}/{batch}")

    assert page.status_code == 200
    assert "data-opens" not in page.text
    assert "data-token" not in page.text
    assert "Only people who may trigger the upload" in page.text
    token = token_on(visit("user"), batch)
    for what in ("check", "retry", "withdraw", "dismiss", "reopen"):
        for path in (f"{batch}/{what}", f"chosen/{what}?batch={batch}&why=test"):
            response = viewer.post(f"{PAGE}/{path}", headers=OWN | {"x-tidepool-token": token})
            assert response.status_code == 403
    assert 'name="chosen"' not in viewer.get(f"{PAGE}/list").text
    assert viewer.get(f"{PAGE}/{batch}/quarantine.ndjson").status_code == 403
    assert world.ledger.actions.newest() == []


def test_the_page_stands_in_airflows_navigation(visit: Visitor) -> None:
    plugins = visit("admin").get("/api/v2/plugins").json()["plugins"]
    ours = next(plugin for plugin in plugins if plugin["name"] == "tidepool")

    (view,) = ours["external_views"]
    assert (view["name"], view["destination"], view["url_route"]) == (
        "Uploads",
        "nav",
        "tidepool-uploads",
    )
    assert visit("viewer").get(view["href"]).status_code == 200
    for icon in ("icon", "icon_dark_mode"):
        assert visit("viewer").get(view[icon]).headers["content-type"] == "image/svg+xml"


# ---------------------------------------------------------------- what it shows


def test_it_shows_what_the_ledger_holds_and_no_person(world: AirflowWorld, visit: Visitor) -> None:
    batch = uploaded(world, refused=2)
    viewer = visit("viewer")
    (session,) = world.uploads()
    upload, row = world.ledger.uploads.get(batch), world.ledger.batches.get(batch)
    assert upload is not None
    paths = ("/list", f"/{batch}", "/audit-log", "/list?waiting=True", "/")
    pages = [viewer.get(f"{PAGE}{path}") for path in paths]
    listed, detail = pages[0].text, pages[1].text

    assert upload.label in listed
    assert "58" in listed
    assert str(session.data_set_id) in detail
    assert "58 of 58 rows are visible" in detail
    assert "value-out-of-range" in detail
    assert "the number is smaller or larger than Tidepool takes" in detail
    assert short_hash(row.user_id) in detail
    for page in pages:
        assert page.status_code == 200
        for secret in (*SAMPLE_USERS, row.folder, str(row.device_id), row.batch_id, "77777", "77,777"):
            assert secret not in page.text
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert page.headers["cache-control"] == "no-store"
        assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", page.text)
        assert " style=" not in page.text
        assert "<script>" not in page.text


def test_an_upload_of_the_command_line_has_no_run_to_lead_to(world: AirflowWorld, visit: Visitor) -> None:
    world.stage(meter_readings(6))
    assert main(["upload", str(world.staging), "--ledger", world.ledger_address]) == 0
    (upload,) = world.uploads()
    viewer = visit("viewer")

    listed, detail = viewer.get(f"{PAGE}/list"), viewer.get(f"{PAGE}/{upload.batch}")

    assert (listed.status_code, detail.status_code) == (200, 200)
    assert COMMAND_LINE in listed.text
    assert "Last worked on by <code>tidepool-ingest upload</code>" in detail.text
    assert "/runs/None" not in listed.text + detail.text


def test_the_overview_opens_first_and_each_day_leads_to_its_uploads(
    world: AirflowWorld, visit: Visitor
) -> None:
    batch = uploaded(world, refused=2)
    viewer = visit("viewer")
    row = world.ledger.batches.get(batch)
    person, device = short_hash(row.user_id), short_hash(str(row.device_id))
    page = viewer.get(f"{PAGE}/?last_day={row.day}").text

    assert 'aria-current="page">Overview</a>' in page
    assert "partly; 1 batch, 58 accepted, 2 rejected, 58 visible</title>" in page
    link = f"{PAGE}/list?person={person}&amp;device={device}&amp;first_day={row.day}&amp;last_day={row.day}"
    assert page.count(f'href="{link}"') == 2  # in the picture, and in the table
    listed = viewer.get(link.replace("&amp;", "&")).text
    assert row.label in listed
    assert f'name="device" value="{device}"' in listed
    assert "No upload matches" in viewer.get(f"{PAGE}/list?person={person}&device={'0' * 10}").text
    # What no device is known of is a device of its own, beside the others of the person.
    unread = world.stage([], batch="unread")
    (unread / "manifest.json").write_bytes(b"{")
    world.run_dag({"dry_run": True})
    page = viewer.get(f"{PAGE}/?last_day={row.day}").text
    assert "Of all days, 1 upload needs attention." in plain_text(page)
    (link,) = {found for found in re.findall('href="([^"]*device=none[^"]*first_day[^"]*)"', page)}
    listed = viewer.get(link.replace("&amp;", "&")).text
    assert f"Only uploads without a known device of person {person}." in plain_text(listed)
    assert f"{row.day} folder" in listed
    assert row.label not in listed
    for query, shows in {
        f"hash={person[:4]}": True,
        "state=partly&type=normal": True,
        "state=failed": False,
        "attention=True": False,
        "model=nothing+like+it": False,
        "sort=records&weeks=13&hash=&state=&host=": True,
    }.items():
        found = viewer.get(f"{PAGE}/?{query}&last_day={row.day}")
        assert found.status_code == 200
        assert (f"<code>{device}</code>" in found.text) is shows
    assert viewer.get(f"{PAGE}/?weeks=&last_day=&page=7").status_code == 200
    for query in ("weeks=3", "hash=xyz", "state=nonsense", "page=0", "sort=user_id", "model=a%00"):
        assert viewer.get(f"{PAGE}/?{query}").status_code == 422


@pytest.mark.slow
def test_a_file_of_the_overview_holds_no_formula(world: AirflowWorld, visit: Visitor) -> None:
    models = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\tx", "Good, model"]
    for number, model in enumerate(models):
        body = {"deviceId": f"device-{number}", "deviceModel": model}
        world.stage(meter_readings(2, device=f"device-{number}"), batch=f"batch-{number}", dataSet=body)
    world.run_dag({"dry_run": True})
    row = world.ledger.batches.get(1)
    sent = visit("viewer").get(f"{PAGE}/overview.csv?last_day={row.day}")

    assert sent.headers["content-type"] == "text/csv; charset=utf-8"
    assert sent.headers["content-disposition"].startswith("attachment; ")
    names, *lines = csv.reader(sent.text.removeprefix("\ufeff").splitlines())
    assert len(lines) == len(models)
    assert names[-1] == str(row.day)
    assert {line[-1] for line in lines} == {"in progress"}
    cells = {cell for line in lines for cell in line}
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert {"'=1+1", "'-2+3", "'@SUM(A1)", "Good, model"} <= cells
    assert not [secret for secret in (*SAMPLE_USERS, row.user_id, "device-0") if secret in sent.text]


def test_a_label_cannot_bring_markup(world: AirflowWorld, visit: Visitor) -> None:
    world.stage(meter_readings(3), dataSet={"deviceId": "device-1", "deviceModel": "<b>\"x' & co"})
    world.run_dag({"dry_run": True})

    for path in ("/", "/list", "/1", "/list?label=<b>%22", "/?model=<b>%22"):
        text = visit("viewer").get(f"{PAGE}{path}").text
        assert "<b>" not in text
        assert "&lt;b&gt;" in text


def test_filters_that_cannot_be_read_are_rejected_and_empty_ones_do_not_matter(
    world: AirflowWorld, visit: Visitor
) -> None:
    uploaded(world)
    viewer = visit("viewer")

    assert viewer.get(f"{PAGE}/list?state=&first_day=&last_day=&label=&dag=&type=&before=").status_code == 200
    for query in ("state=nonsense", "first_day=yesterday", "before=0", f"label={'x' * 251}", "label=a%00"):
        assert viewer.get(f"{PAGE}/list?{query}").status_code == 422
    assert "No upload matches" in viewer.get(f"{PAGE}/list?label=nothing").text
    assert viewer.get(f"{PAGE}/77").status_code == 404
    assert viewer.get(f"{PAGE}/static/..%2fhtml.py").status_code == 404


def test_what_needs_attention_is_listed_with_its_remedy(world: AirflowWorld, visit: Visitor) -> None:
    records = meter_readings(20)
    for record in records[:10]:
        record["value"] = 77_777
    world.stage(records)
    world.run_dag()
    page = visit("viewer").get(f"{PAGE}/list?waiting=True").text

    assert "too-many-refused" in page
    assert "correct the batch or let its manifest edit" in page
    # It has no data set, which would name its run.
    assert re.search(rf'href="/dags/{DAG_ID}/runs/[^"/]+/tasks/batch\.prepare/mapped/0\?try_number=1"', page)


def test_a_file_that_is_held_says_where_and_what_lets_it_go_on(world: AirflowWorld, visit: Visitor) -> None:
    from tests.airflow.vendor_exports import FEED
    from tests.airflow.vendor_exports import stage_export as stage_export
    from tidepool_simulator.sample import vendor_files

    table = vendor_files.meter_table()
    # Clocks of the person went forward at two that night.
    content = table.content + b"30.03.2025;02:30;CGM;8,0;;TWN-5512;1900;\r\n"
    body = FEED | {"deviceId": "canary", "deviceManufacturers": ["Acme"], "deviceModel": "Meter 7"}
    stage_export(world, replace(table, content=content), body, "canary")
    world.run_dag({"dry_run": True}, dag_id=CONTINUOUS_DAG_ID)
    (upload,) = world.uploads()
    page = visit("viewer").get(f"{PAGE}/{upload.batch}").text

    assert upload.reason == "clock-not-in-zone"
    assert f"Here: file 1: 1 time, the first in line {table.rows + 2}." in page
    for copied in (
        "&#34;meantAs&#34;: [&#34;clock-not-in-zone&#34;]",
        "--meant-as clock-not-in-zone",
    ):
        assert f'<code class="copied">{copied}</code>' in page
    assert "<dt>Format</dt><dd>table</dd>" in page
    assert "<dt>Time zone</dt><dd>Europe/Berlin</dd>" in page
    assert "<dt>Device</dt><dd>Acme Meter 7 <code" in page
    assert short_hash("canary") in page
    assert "canary" not in page
    assert "02:30" not in page


@pytest.mark.slow
def test_the_picture_of_a_day_is_drawn_without_anything_that_was_measured(
    world: AirflowWorld, visit: Visitor
) -> None:
    batch = uploaded(world)
    hours = world.ledger.batch_days.hours_of_batch(batch)
    viewer = visit("viewer")
    page = viewer.get(f"{PAGE}/{batch}").text

    assert hours
    assert "by hour of the day, in UTC" in page
    assert page.count('<svg class="cells"') == 1
    assert re.search(r'<path class="level-[1-5]" d="M0 \d+h\d+v\d+h-\d+z', page)
    assert '<table class="by-hour">' in page
    with world.ledger.database.writing() as connection:
        connection.execute(update(batch_days).values(hours=None))
    page = viewer.get(f"{PAGE}/{batch}").text
    assert '<svg class="cells"' not in page
    assert "Records per day and type" in page


@pytest.mark.slow
def test_a_device_that_has_stopped_sending_is_named_without_its_id(
    world: AirflowWorld, visit: Visitor
) -> None:
    for ago in range(20, 14, -1):
        day = TODAY - timedelta(days=ago)
        world.stage(meter_readings(3, day=day), day=day, batch=f"batch-{ago}")
    world.run_dag({"look_back_days": 30, "dry_run": True})
    (inactive,) = inactive_devices(world.ledger, datetime.now(UTC).date())

    text = visit("viewer").get(f"{PAGE}/inactive").text

    assert f"{days_since(inactive.last_day)} days" in text
    assert short_hash(inactive.device_id) in text
    assert inactive.device_id not in text
    assert inactive.user_id not in text


def test_a_throttle_is_shown_and_can_be_lifted(world: AirflowWorld, visit: Visitor) -> None:
    batch = uploaded(world)
    lift = f"{PAGE}/throttles/api.example.org/lift"
    world.ledger.rate_limits.record("api.example.org", 1800.0)

    viewer, user = visit("viewer"), visit("user")
    assert "30 minutes more" in " ".join(viewer.get(f"{PAGE}/list").text.split())
    assert lift not in viewer.get(f"{PAGE}/list").text
    page = user.get(f"{PAGE}/list").text
    assert f'data-posts="{lift}"' in page
    own = OWN | {"x-tidepool-token": token_on(user, batch)}
    assert viewer.post(lift, headers=own).status_code == 403
    assert user.post(lift, headers=OWN).status_code == 403
    assert user.post(lift, headers=own).json() == {"message": "Tasks may send requests again."}
    assert user.post(lift, headers=own).status_code == 409
    assert user.post(f"{PAGE}/throttles/%00/lift", headers=own).status_code == 422
    assert "asked for a pause" not in user.get(f"{PAGE}/list").text
    assert "Lifted a throttle" in user.get(f"{PAGE}/audit-log").text
    assert world.ledger.rate_limits.in_force() == {}
    (action,) = world.ledger.actions.newest()
    assert (action.actor, action.kind, action.detail) == (
        "user-name",
        ActionKind.LIFT,
        "of api.example.org",
    )


# ---------------------------------------------------------------- what moves


def live(page: Any) -> str:
    """Return after how many seconds a page may look again, as it says itself."""
    found = re.search('data-live="([^"]*)"', page.text)
    assert found is not None
    return found[1]


def end_runs(state: str) -> None:
    """Let all runs end, as if a scheduler had been there."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session() as session:
        session.execute(update(DagRun).values(state=state, end_date=datetime.now(UTC)))


def plain(page: Any) -> str:
    """Return the text of a page, its spaces and tags left out."""
    return plain_text(page.text)


def plain_text(markup: str) -> str:
    return " ".join(re.sub("<[^>]*>", "", markup).split())


def test_a_page_moves_while_a_run_is_at_work_and_costs_nothing_if_nothing_has_changed(
    world: AirflowWorld, visit: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = uploaded(world)
    user = visit("user")
    paths = (f"{PAGE}/list", f"{PAGE}/{batch}", f"{PAGE}/audit-log")
    still = [user.get(path) for path in paths]
    assert [live(page) for page in still] == ["", "", ""]
    known = [{"if-none-match": page.headers["etag"]} for page in still]
    # A token of its own and how long ago something was make no other page.
    later = datetime.now(UTC) + timedelta(hours=1)
    monkeypatch.setattr("tidepool_airflow.uploads_page.html.datetime", Mock(now=lambda _zone: later))
    for path, headers in zip(paths, known, strict=True):
        unchanged = user.get(path, headers=headers)
        assert (unchanged.status_code, unchanged.content) == (304, b"")

    assert ask(user, batch, "check").status_code == 202

    for path, headers in zip(paths, known, strict=True):
        changed = user.get(path, headers=headers)
        assert (changed.status_code, live(changed)) == (200, "2")
    assert "Verify again waits for its run to start. Follow the run" in plain(user.get(paths[1]))
    assert "Verify again waits" not in plain(visit("admin").get(paths[0]))  # whose request it is not
    switch(on=False, dag_id=ACTION_DAG)
    paused = user.get(paths[1])
    assert (live(paused), "the DAG is paused; switch it on" in paused.text) == ("", True)
    switch(on=True)
    (run,) = [run for run in runs_of(ACTION_DAG) if run.state == "queued"]
    end_runs("failed")
    assert "Verify again failed: its run ended before it was done." in plain(user.get(paths[1]))
    assert world.run_dag(run.conf, dag_id=ACTION_DAG, run_id=run.run_id).state == "success"
    for path in (paths[1], paths[0]):
        done = user.get(path)
        assert "Verified again: 60 rows visible, 0 superseded. The run" in plain(done)
        assert live(done) == ""
    # as if several had been asked for
    for _ in range(3):
        world.ledger.actions.record(
            "user-name", ActionKind.CHECK, batch=batch, dag_id=run.dag_id, run_id=run.run_id
        )
    assert "Verify again: 3 failed, 1 done. Audit log" in plain(user.get(paths[0]))
    monkeypatch.setattr("tidepool_airflow.uploads_page.live.RECENT", timedelta(0))
    assert "Verified again: 60" not in plain(user.get(paths[1]))


@pytest.mark.slow
def test_a_page_says_to_what_a_retry_has_led(world: AirflowWorld, visit: Visitor) -> None:
    world.stage(meter_readings(3))
    world.run_dag({"dry_run": True})
    (session,) = world.uploads()
    user, path = visit("user"), f"{PAGE}/{session.batch}"

    def becomes(state: BatchState, reason: str | None, run: str = "success") -> str:
        end_runs(run)
        with world.ledger.database.writing() as connection:
            connection.execute(update(batches).values(state=state, reason=reason))
        return plain(user.get(path))

    assert ask(user, session.batch, "retry").status_code == 202
    assert live(user.get(path)) == "2"
    assert "Retry waits for its run to start." in plain(user.get(path))
    assert "Retry: prepared again. Its run failed." in becomes(BatchState.PREPARED, None, "failed")
    assert "Retry: verified. The run" in becomes(BatchState.VERIFIED, None)
    assert "Retry: the batch in its place was taken. The run" in becomes(BatchState.OVERWRITTEN, None)
    failed = becomes(BatchState.OVERWRITTEN, None, "failed")
    assert "Retry: overwritten in staging. Its run failed." in failed
    assert "Retry: held (too-many-refused)." in becomes(BatchState.HELD, "too-many-refused")
    assert ask(user, session.batch, "retry").status_code == 202
    assert "Retry: held again (too-many-refused)." in becomes(BatchState.HELD, "too-many-refused")
    assert live(user.get(path)) == ""


def test_the_garbage_collector_rests_for_the_overview_and_goes_on(
    world: AirflowWorld, visit: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work: list[bool] = []
    spans = DeviceDays.spans

    def seen(days: DeviceDays, **limits: Any) -> list[DeviceSpan]:
        at_work.append(gc.isenabled())
        return spans(days, **limits)

    monkeypatch.setattr(DeviceDays, "spans", seen)
    assert visit("viewer").get(f"{PAGE}/").status_code == 200
    assert at_work == [False]
    assert gc.isenabled()


def test_the_overview_is_kept_up_to_date_but_looks_less_often(world: AirflowWorld, visit: Visitor) -> None:
    batch = uploaded(world)
    viewer = visit("viewer")
    still = viewer.get(f"{PAGE}/")
    assert live(still) == ""
    unchanged = viewer.get(f"{PAGE}/", headers={"if-none-match": still.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    with world.ledger.leases.held(lease_of_batch(batch), seconds=60):
        assert live(viewer.get(f"{PAGE}/")) == "10"


@pytest.mark.slow
def test_work_that_no_run_does_moves_too(world: AirflowWorld, visit: Visitor) -> None:
    batch = uploaded(world)
    viewer = visit("viewer")
    with world.ledger.leases.held(lease_of_batch(batch + 1), seconds=60):
        assert (live(viewer.get(f"{PAGE}/list")), live(viewer.get(f"{PAGE}/{batch}"))) == ("2", "")
    with world.ledger.leases.held(lease_of_batch(batch), seconds=60):
        assert live(viewer.get(f"{PAGE}/{batch}")) == "2"


# ---------------------------------------------------------------- right words


def test_more_rows_than_records_are_explained_where_they_stand(world: AirflowWorld, visit: Visitor) -> None:
    batch = uploaded(world)
    viewer, why = (
        visit("viewer"),
        "a bolus within a calculation, or a status within an event, is a row of its own.",
    )
    for path in ("list", batch):
        assert why not in plain(viewer.get(f"{PAGE}/{path}"))
    with world.ledger.database.writing() as connection:
        connection.execute(update(data_sets).values(expected_rows=2_091, visible_rows=2_091))
        connection.execute(update(batches).values(accepted=1_976))

    assert f"More rows may be visible than records were accepted: {why}" in plain(viewer.get(f"{PAGE}/list"))
    page = plain(viewer.get(f"{PAGE}/{batch}"))
    assert f"Tidepool makes 2,091 rows of 1,976 accepted records: {why}" in page


# ---------------------------------------------------------------- the quarantine file


def test_the_quarantine_file_opens_for_who_may_trigger_and_that_is_recorded(
    world: AirflowWorld, visit: Visitor
) -> None:
    batch = uploaded(world, refused=3)
    opened = visit("user").get(f"{PAGE}/{batch}/quarantine.ndjson")

    assert opened.status_code == 200
    lines = [json.loads(line) for line in opened.text.splitlines()]
    assert [line["record"]["value"] for line in lines] == [77_777] * 3
    assert opened.headers["content-disposition"].startswith("attachment; ")
    assert opened.headers["cache-control"] == "no-store"
    (action,) = world.ledger.actions.of_batch(batch)
    assert (action.actor, action.kind, action.status) == (
        "user-name",
        ActionKind.QUARANTINE,
        ActionStatus.DONE,
    )


@pytest.mark.slow
def test_the_quarantine_file_of_a_run_with_another_root_is_found(
    world: AirflowWorld, visit: Visitor, tmp_path: Path
) -> None:
    batch = uploaded(world, refused=2, staging_root=str(tmp_path / "elsewhere"))
    opened = visit("user").get(f"{PAGE}/{batch}/quarantine.ndjson")

    assert opened.status_code == 200
    assert len(opened.text.splitlines()) == 2


@pytest.mark.slow
def test_the_quarantine_file_is_found_where_storage_is_mounted_elsewhere(
    world: AirflowWorld, visit: Visitor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = uploaded(world, refused=2)
    mounted = world.staging.rename(tmp_path / "mounted")
    monkeypatch.setenv("TIDEPOOL_STAGING_ROOT", str(mounted))

    assert visit("user").get(f"{PAGE}/{batch}/quarantine.ndjson").status_code == 200


@pytest.mark.slow
def test_an_encrypted_quarantine_file_opens_as_any_other(
    world: AirflowWorld, visit: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEPOOL_WORK_KEYS", Fernet.generate_key().decode())
    batch = uploaded(world, refused=3)
    (file,) = world.staging.glob("_work/*/quarantine.ndjson")
    assert b"77777" not in file.read_bytes()

    opened = visit("user").get(f"{PAGE}/{batch}/quarantine.ndjson")

    lines = [json.loads(line) for line in opened.text.splitlines()]
    assert [line["record"]["value"] for line in lines] == [77_777] * 3
    monkeypatch.delenv("TIDEPOOL_WORK_KEYS")
    response = visit("user").get(f"{PAGE}/{batch}/quarantine.ndjson")
    assert response.status_code == 503
    assert "TIDEPOOL_WORK_KEYS is not set" in response.text


@pytest.mark.slow
def test_a_file_that_was_cleaned_up_is_reported(world: AirflowWorld, visit: Visitor) -> None:
    batch = uploaded(world, refused=1)
    with world.ledger.database.writing() as connection:
        connection.execute(update(batches).values(purged=Purged.ALL))

    response = visit("user").get(f"{PAGE}/{batch}/quarantine.ndjson")

    assert response.status_code == 410
    assert "`force`" in response.text


@pytest.mark.slow
@pytest.mark.parametrize("way", ["removed", "truncated", "flipped"])
def test_a_damaged_file_is_made_again(world: AirflowWorld, visit: Visitor, way: str) -> None:
    batch = uploaded(world, refused=1)
    (file,) = world.staging.glob("_work/*/quarantine.ndjson")
    before = file.read_bytes()
    damage.WAYS[way](UPath(file))

    response = visit("user").get(f"{PAGE}/{batch}/quarantine.ndjson")

    assert response.status_code == 200
    assert response.content == before == file.read_bytes()
    assert world.ledger.batches.get(batch).state is BatchState.VERIFIED


@pytest.mark.slow
def test_a_link_in_place_of_the_file_hands_out_nothing(
    world: AirflowWorld, visit: Visitor, tmp_path: Path
) -> None:
    batch = uploaded(world, refused=1)
    (tmp_path / "elsewhere").write_text("secret of the machine")
    for name in ("quarantine.ndjson", "quarantine.sha256"):
        (file,) = world.staging.glob(f"_work/*/{name}")
        file.unlink()
        if name == "quarantine.ndjson":
            file.symlink_to(tmp_path / "elsewhere")

    response = visit("user").get(f"{PAGE}/{batch}/quarantine.ndjson")

    assert response.status_code == 503
    assert "secret" not in response.text
    assert "file-not-regular" in response.text


@pytest.mark.slow
def test_a_missing_file_that_cannot_be_made_again_is_reported(world: AirflowWorld, visit: Visitor) -> None:
    batch = uploaded(world, refused=1)
    for file in world.staging.glob("_work/*/quarantine.ndjson"):
        file.unlink()
    for file in world.staging.glob("20*/*/*/*.ndjson"):
        file.unlink()
    response = visit("user").get(f"{PAGE}/{batch}/quarantine.ndjson")

    assert response.status_code == 503
    assert "file-missing" in response.text
    assert world.ledger.actions.of_batch(batch) == []
    assert world.ledger.batches.get(batch).state is BatchState.VERIFIED


# ---------------------------------------------------------------- other sites


def test_only_the_page_itself_can_ask(world: AirflowWorld, visit: Visitor) -> None:
    batch = uploaded(world)
    user = visit("user")
    token = token_on(user, batch)
    own, elsewhere = f"{PAGE}/{batch}/withdraw", {"sec-fetch-site": "cross-site"}
    others = token_on(visit("admin"), batch)

    for headers in (
        {},
        {"x-tidepool-token": token},
        OWN,
        OWN | {"x-tidepool-token": "made-up"},
        OWN | {"x-tidepool-token": others},
        elsewhere | {"x-tidepool-token": token},
        {"sec-fetch-site": "same-site", "x-tidepool-token": token},
        {"origin": "https://elsewhere.example", "x-tidepool-token": token},
        {"origin": "null", "x-tidepool-token": token},
    ):
        assert user.post(own, headers=headers).status_code == 403, headers
    assert world.ledger.actions.newest() == []
    # A browser over plain HTTP says only where the page came from.
    response = user.post(own, headers={"origin": "http://testserver", "x-tidepool-token": token})
    assert response.status_code == 202


@pytest.mark.slow
def test_a_token_ends(world: AirflowWorld, visit: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    from tidepool_airflow.uploads_page import access

    batch = uploaded(world)
    user = visit("user")
    monkeypatch.setattr(access, "TOKEN_SECONDS", -1)

    assert ask(user, batch, "check").status_code == 403


# ---------------------------------------------------------------- actions


@pytest.mark.parametrize("what", ["check", "withdraw"])
def test_an_action_is_recorded_and_done_by_a_run_and_its_result_shown(
    world: AirflowWorld, visit: Visitor, what: str
) -> None:
    batch = uploaded(world)
    user = visit("user")
    requests = len(world.simulator.requests)

    response = ask(user, batch, what)

    assert response.status_code == 202
    assert len(world.simulator.requests) == requests  # nothing was sent to Tidepool yet
    (action,) = world.ledger.actions.of_batch(batch)
    assert (action.actor, action.kind, action.status) == ("user-name", what, ActionStatus.ASKED)
    (run,) = [run for run in runs_of(ACTION_DAG) if run.run_id == action.run_id]
    assert (run.conf, run.triggering_user_name) == ({"action": action.id}, "user-name")
    assert response.json()["run"].startswith(f"/dags/{ACTION_DAG}/runs/{what}__")

    done = world.run_dag(run.conf, dag_id=ACTION_DAG, run_id=action.run_id)

    assert done.state == "success"
    (action,) = world.ledger.actions.of_batch(batch)
    state = world.ledger.batches.get(batch).state
    assert action.status is ActionStatus.DONE
    page = user.get(f"{PAGE}/audit-log").text
    if what == "check":
        assert (state, action.detail) == (BatchState.VERIFIED, "60 rows visible, 0 superseded")
    else:
        assert (state, action.detail) == (BatchState.WITHDRAWN, "1 data set deleted")
        undone = user.get(f"{PAGE}/{batch}").text
        assert "It was undone: its data set was deleted, and none of its rows is visible any more." in undone
        assert "Undone: 1 data set deleted." in undone
        assert "become visible" not in undone
        assert ask(user, batch, what).status_code == 409
    assert str(action.detail) in page
    again = world.run_dag(run.conf, dag_id=ACTION_DAG, run_id=action.run_id)
    assert again.tasks["act", -1] == "skipped"


@pytest.mark.slow
def test_a_giant_batch_is_one_row_and_its_page_leads_to_its_parts(
    world: AirflowWorld, visit: Visitor
) -> None:
    records = meter_readings(60)
    records[0]["value"] = 77_777
    world.stage(records)
    world.run_dag({"part_records": 20, "max_quarantined_percent": 50})
    whole, first, *_others = sorted(session.batch for session in world.uploads())
    user = visit("user")

    listed, page, of_part = (user.get(f"{PAGE}/{path}").text for path in ("list", whole, first))

    assert listed.count("part 1 of 3") == 0
    assert "3 of 3 parts" in listed
    assert "3 of 3 parts are verified" in page
    assert page.count(f'href="{PAGE}/{first}"') == 1
    assert f'href="{PAGE}/{whole}"' in of_part
    for one in (page, of_part):
        assert "<dt>Format</dt><dd>ndjson</dd>" in one
        assert one.count('<svg class="cells"') == 1
    assert ask(user, first, "withdraw").status_code == ask(user, first, "retry").status_code == 409
    refused = [user.get(f"{PAGE}/{batch}/quarantine.ndjson").content for batch in (whole, first)]
    assert refused[0] == refused[1]
    assert refused[0].count(b"77777") == 1
    for what, detail in (
        ("check", "59 rows visible, 0 superseded"),
        ("withdraw", "3 data sets deleted"),
    ):
        assert ask(user, whole, what).status_code == 202
        action = world.ledger.actions.of_batch(whole)[0]
        assert (
            world.run_dag({"action": action.id}, dag_id=ACTION_DAG, run_id=action.run_id).state == "success"
        )
        assert world.ledger.actions.of_batch(whole)[0].detail == detail
    assert {session.state for session in world.uploads()} == {"withdrawn"}


@pytest.mark.slow
def test_undo_of_a_batch_of_a_feed_retracts_it_by_another_one(world: AirflowWorld, visit: Visitor) -> None:
    feed = {"dataSetType": "continuous", "deviceId": "device-1", "deviceModel": "Meter"}
    world.stage(meter_readings(20), batch="canary-1", dataSet=feed)
    world.stage(meter_readings(30, value=99)[10:], batch="canary-2", dataSet=feed)
    world.run_dag({}, dag_id=CONTINUOUS_DAG_ID)
    numbers = {world.ledger.batches.get(one.batch).batch_id: one.batch for one in world.uploads()}
    wrong = numbers["canary-1"]
    user = visit("user")
    page = user.get(f"{PAGE}/{wrong}").text
    assert "Records of other batches of the feed stay" in page
    assert ask(user, wrong, "check").status_code == 409

    assert ask(user, wrong, "withdraw").status_code == 202
    (action,) = world.ledger.actions.of_batch(wrong)
    conf = {"action": action.id}
    done = world.run_dag(conf, dag_id=ACTION_DAG, run_id=action.run_id)

    assert done.state == "success"
    (action,) = world.ledger.actions.of_batch(wrong)
    (by,) = [one for one in world.uploads() if one.batch not in numbers.values()]
    assert world.ledger.batches.get(wrong).state is BatchState.WITHDRAWN
    assert world.ledger.batches.get(by.batch).replaces == wrong
    assert action.status is ActionStatus.DONE
    assert str(action.detail) == f"10 records deleted, retracted by {by.label}"
    assert by.state == "verified"
    assert world.all_right()
    # It is done once, whoever asks: by this run, or by the feed's next one.
    assert world.run_dag(conf, dag_id=ACTION_DAG, run_id=action.run_id).tasks["act", -1] == "skipped"
    assert world.run_dag({}, dag_id=CONTINUOUS_DAG_ID).xcoms["plan", -1, "plan"]["done"] == 3
    page = user.get(f"{PAGE}/{wrong}").text
    assert "Undone" in page
    assert "Another batch of its feed has retracted it" in page
    assert ask(user, wrong, "withdraw").status_code == 409
    page = user.get(f"{PAGE}/{by.batch}").text
    assert f'retracts <a href="{PAGE}/{wrong}">an earlier upload</a>' in page
    assert ask(user, by.batch, "withdraw").status_code == 409  # it has brought in nothing
    for leaked in ("canary", SAMPLE_USERS[0]):
        assert leaked not in page + user.get(f"{PAGE}/audit-log").text


def stopped(world: AirflowWorld, name: str, **staged: Any) -> None:
    """Stage a batch that a guard holds."""
    records = meter_readings(20, device=name)
    for record in records[:15]:
        record["value"] = 77_777
    world.stage(records, batch=name, device=name, **staged)


def numbers_of(world: AirflowWorld) -> dict[str, int]:
    return {world.ledger.batches.get(one.batch).batch_id: one.batch for one in world.uploads()}


def ask_of_chosen(client: TestClient, what: str, batches: list[int], **more: str) -> Any:
    given = OWN | {"x-tidepool-token": token_on(client, batches[0])}
    return client.post(f"{PAGE}/chosen/{what}", params={"batch": batches, **more}, headers=given)


def listed(client: TestClient, query: str) -> set[int]:
    page = client.get(f"{PAGE}/list?{query}").text
    return {int(number) for number in re.findall('name="chosen" value="([0-9]+)"', page)}


@pytest.mark.slow
def test_what_needs_attention_is_dismissed_and_reopened_and_retried_alone(
    world: AirflowWorld, visit: Visitor
) -> None:
    world.stage(meter_readings(5, device="good"), batch="good", device="good")
    for name in ("a", "b", "c"):
        stopped(world, name)
    world.run_dag()
    of = numbers_of(world)
    held = {of[name] for name in "abc"}
    user = visit("user")
    assert listed(user, "waiting=True") == held

    assert ask_of_chosen(user, "dismiss", [of["a"]]).status_code == 422
    assert ask_of_chosen(user, "dismiss", [of["a"]], why="because").status_code == 422
    assert ask_of_chosen(user, "dismiss", [of["good"]], why="test").status_code == 409
    done = ask_of_chosen(user, "dismiss", [of["a"], of["b"], of["good"]], why="not-corrected")
    assert done.json()["message"] == (
        "Dismissed 2 uploads. Reopen takes it back. 1 other cannot take it any more."
    )
    token = {"x-tidepool-token": token_on(user, of["c"])}
    assert user.post(f"{PAGE}/{of['c']}/dismiss?why=test", headers=OWN | token).status_code == 200

    assert listed(user, "waiting=True") == set()
    assert listed(user, "decided=True") == held
    assert "Nothing needs attention." in user.get(f"{PAGE}/list?waiting=True").text
    page = user.get(f"{PAGE}/{of['a']}").text
    assert "it cannot or will not be corrected" in page
    assert "user-name" in page
    log = user.get(f"{PAGE}/audit-log").text
    assert "It cannot or will not be corrected" in log
    assert "It is of a test" in log

    # No other run takes them.
    run = world.run_dag({"force": True, "first_day": str(TODAY)})
    assert run.state == "success"
    assert run.xcoms["plan", -1, "plan"]["dismissed"] == 3

    assert ask_of_chosen(user, "reopen", [of["b"]]).json() == {"message": "Reopened 1 upload."}
    assert listed(user, "waiting=True") == {of["b"]}
    requested = ask_of_chosen(user, "retry", [of["a"], of["b"], of["good"]])
    assert requested.status_code == 202
    assert requested.json()["message"] == (
        "A run takes these 2 uploads alone. 1 other cannot take it any more."
    )
    kinds = [action.kind for action in world.ledger.actions.of_batch(of["a"])]
    retried = next(a for a in world.ledger.actions.of_batch(of["a"]) if a.kind is ActionKind.RETRY)
    assert kinds == [ActionKind.REOPEN, ActionKind.RETRY, ActionKind.DISMISS]
    (started,) = [run for run in runs_of(DAG_ID) if run.run_id == retried.run_id]
    assert started.conf == {"batches": sorted([of["a"], of["b"]])}
    assert listed(user, "decided=True") == {of["c"]}
    ended = world.run_dag({**started.conf, "max_quarantined_percent": 100}, run_id=retried.run_id)
    assert ended.state == "success"
    states = {name: world.ledger.batches.get(number).state for name, number in of.items()}
    assert states == {"good": "verified", "a": "verified", "b": "verified", "c": "held"}


@pytest.mark.slow
def test_what_is_dismissed_while_its_run_is_at_work_is_left_alone(
    world: AirflowWorld, visit: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        stopped(world, name)
    world.run_dag()
    of = numbers_of(world)
    assert ask_of_chosen(visit("user"), "dismiss", [of["a"]], why="test").status_code == 200

    def dismiss(ledger: Ledger) -> None:
        ledger.attention.dismiss([of["b"]], Dismissal.TEST, actor="somebody")

    before = world.ledger.batches.get(of["b"])
    plan_run = plan.plan_run

    def dismissing(*args: Any, **given: Any) -> Any:
        made = plan_run(*args, **given)
        assert made.batches == [of["b"]]
        dismiss(world.ledger)
        return made

    monkeypatch.setattr(plan, "plan_run", dismissing)
    run = world.run_dag({"max_quarantined_percent": 100})
    after = world.ledger.batches.get(of["b"])

    assert run.state == "success"
    assert after == replace(before, dismissed=Dismissal.TEST)


@pytest.mark.slow
def test_several_are_undone_by_one_run_and_one_that_fails_keeps_no_other_from_it(
    world: AirflowWorld, visit: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tidepool_ingest import upload
    from tidepool_ingest.client.errors import TidepoolPermissionError

    names = ["a", "b", "c"]
    for name in names:
        world.stage(meter_readings(5, device=name), batch=name, device=name)
    world.run_dag()
    of = numbers_of(world)
    user = visit("user")
    page = user.get(f"{PAGE}/list").text
    assert page.count('data-takes="check withdraw" data-rows="5"') == 3

    response = ask_of_chosen(user, "withdraw", [of[name] for name in names])

    assert response.json()["message"] == "A run undoes these 3 uploads, one after the other."
    requested = [world.ledger.actions.of_batch(of[name])[0] for name in names]
    (run_id,) = {action.run_id for action in requested}
    (run,) = [run for run in runs_of(ACTION_DAG) if run.run_id == run_id]
    assert run.conf == {"action": min(action.id for action in requested)}
    failing = requested[1].batch

    withdraw = upload.withdraw_batch

    def refuse(context: Any, row: Any) -> int:
        if row.id == failing:
            raise TidepoolPermissionError("not allowed", remedy="Ask.")
        return withdraw(context, row)

    monkeypatch.setattr(upload, "withdraw_batch", refuse)
    assert world.run_dag(run.conf, dag_id=ACTION_DAG, run_id=run_id).state == "failed"
    monkeypatch.setattr(upload, "withdraw_batch", withdraw)
    states = [world.ledger.batches.get(int(action.batch or 0)).state for action in requested]
    outcomes = [world.ledger.actions.get(action.id).status for action in requested]
    assert states == ["withdrawn", "verified", "withdrawn"]
    assert outcomes == [ActionStatus.DONE, ActionStatus.FAILED, ActionStatus.DONE]

    # Tried again, it does what is left.
    assert world.run_dag(run.conf, dag_id=ACTION_DAG, run_id=run_id).state == "success"
    assert {session.state for session in world.uploads()} == {"withdrawn"}
    assert world.run_dag(run.conf, dag_id=ACTION_DAG, run_id=run_id).tasks["act", -1] == "skipped"
    assert ask_of_chosen(user, "withdraw", [of["a"]]).status_code == 409
    too_many = ask_of_chosen(user, "withdraw", [of["a"], *range(1000, 1050)])
    assert too_many.status_code == 422


@pytest.mark.slow
def test_a_failed_action_says_why(world: AirflowWorld, visit: Visitor) -> None:
    from tidepool_airflow.hook import TidepoolHook

    batch = uploaded(world)
    (session,) = world.uploads()
    TidepoolHook().delete_data_set(str(session.data_set_id))
    user = visit("user")
    assert ask(user, batch, "check").status_code == 202
    (action,) = world.ledger.actions.of_batch(batch)

    assert world.run_dag({"action": action.id}, dag_id=ACTION_DAG, run_id=action.run_id).state == "failed"

    (action,) = world.ledger.actions.of_batch(batch)
    assert (action.status, action.reason) == (ActionStatus.FAILED, "changed-since-verified")
    assert "what Tidepool shows is not what was verified" in user.get(f"{PAGE}/{batch}").text


@pytest.mark.slow
def test_a_retry_runs_its_own_batch_alone(world: AirflowWorld, visit: Visitor) -> None:
    world.stage(meter_readings(5))
    world.run_dag({"dry_run": True})
    (session,) = world.uploads()
    world.stage(meter_readings(7, device="beside"), batch="beside", device="beside")
    user = visit("user")

    response = ask(user, session.batch, "retry")

    assert response.status_code == 202
    assert response.json()["message"] == "A run takes this upload alone."
    (action,) = world.ledger.actions.of_batch(session.batch)
    (run,) = [run for run in runs_of(DAG_ID) if run.run_id == action.run_id]
    assert run.conf == {"batches": [session.batch]}
    assert world.run_dag(run.conf, run_id=action.run_id).state == "success"
    assert [session.state for session in world.uploads()] == ["verified"]


@pytest.mark.slow
def test_what_was_staged_under_another_root_is_checked_and_retried_there(
    world: AirflowWorld, visit: Visitor, tmp_path: Path
) -> None:
    root = str(tmp_path / "elsewhere")
    batch = uploaded(world, staging_root=root)
    user = visit("user")
    assert ask(user, batch, "check").status_code == 202
    (action,) = world.ledger.actions.of_batch(batch)
    assert world.run_dag({"action": action.id}, dag_id=ACTION_DAG, run_id=action.run_id).state == "success"
    stage(Path(root), meter_readings(5, device="other"), batch="other", device="other")
    world.run_dag({"dry_run": True, "staging_root": root})
    (other,) = [session.batch for session in world.uploads() if session.state != "verified"]

    assert ask(user, other, "retry").status_code == 202

    (action,) = world.ledger.actions.of_batch(other)
    (run,) = [run for run in runs_of(DAG_ID) if run.run_id == action.run_id]
    assert run.conf["staging_root"] == root
    assert world.run_dag(run.conf, run_id=action.run_id).state == "success"
    assert [session.state for session in world.uploads()] == ["verified"] * 2


def test_a_run_that_airflow_does_not_start_is_explained(
    world: AirflowWorld, visit: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tidepool_airflow.uploads_page import actions

    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("no such serialized DAG")

    batch = uploaded(world)
    user = visit("user")
    monkeypatch.setattr(actions, "trigger_dag", refuse)

    response = ask(user, batch, "check")

    assert response.status_code == 409
    assert "The API server's log says why" in response.json()["detail"]
    assert [action.reason for action in world.ledger.actions.of_batch(batch)] == ["not-started"]
    assert "Airflow could not start its run" in user.get(f"{PAGE}/{batch}").text


def test_no_run_of_a_paused_dag_is_requested(world: AirflowWorld, visit: Visitor) -> None:
    batch = uploaded(world)
    user = visit("user")
    switch(on=False, dag_id=ACTION_DAG)

    response = ask(user, batch, "withdraw")

    assert response.status_code == 409
    assert "is paused. Switch it on" in response.json()["detail"]
    assert world.ledger.actions.newest() == []


@pytest.mark.slow
def test_what_is_not_offered_is_rejected(world: AirflowWorld, visit: Visitor) -> None:
    batch = uploaded(world)
    user = visit("user")

    assert ask(user, batch, "retry").status_code == 409
    for what in ("quarantine", "confirm"):
        assert ask(user, batch, what).status_code == 409
    assert ask(user, batch, "nonsense").status_code == 422


@pytest.mark.slow
def test_a_run_that_nobody_requested_on_the_page_does_nothing(world: AirflowWorld, visit: Visitor) -> None:
    batch = uploaded(world)
    assert ask(visit("user"), batch, "withdraw").status_code == 202
    (action,) = world.ledger.actions.of_batch(batch)

    for conf in ({}, {"action": action.id}, {"action": 77}):
        assert world.run_dag(conf, dag_id=ACTION_DAG).state == "failed"
    assert [session.data_set_state for session in world.uploads()] == ["verified"]


@pytest.mark.slow
def test_a_forced_run_is_recorded_with_who_started_it(world: AirflowWorld, visit: Visitor) -> None:
    batch = uploaded(world)
    world.run_dag({"force": True, "max_quarantined_percent": 50})
    world.run_dag({"force": True, "dry_run": True})

    (action,) = world.ledger.actions.newest()
    assert (action.kind, action.detail, action.batch, action.status) == (
        ActionKind.CONFIRM,
        "force",
        None,
        ActionStatus.DONE,
    )
    assert "Confirmed for a run" in visit("viewer").get(f"{PAGE}/audit-log").text
    assert batch


def test_an_unavailable_ledger_is_reported(
    world: AirflowWorld, visit: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = {"conn_type": "postgres", "host": "127.0.0.1", "port": 1, "schema": "ledger"}
    monkeypatch.setenv("AIRFLOW_CONN_TIDEPOOL_LEDGER", json.dumps(away))

    response = visit("viewer").get(f"{PAGE}/")

    assert response.status_code == 503
    assert "ledger-unavailable" in response.text


def test_a_setting_that_cannot_be_used_is_reported_where_it_is_needed(
    world: AirflowWorld, visit: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.stage([*meter_readings(20), {"type": "smbg"}])
    world.run_dag({"dry_run": True})
    (session,) = world.uploads()
    user = visit("user")
    monkeypatch.setenv("TIDEPOOL_RETRIES", "three")

    for page in ("/", "/list", f"/{session.batch}"):
        assert user.get(f"{PAGE}{page}").status_code == 200
    not_started = ask(user, session.batch, "retry")
    world.staging.rename(world.staging.with_name("mounted-elsewhere"))
    not_opened = user.get(f"{PAGE}/{session.batch}/quarantine.ndjson")

    for response in (not_started, not_opened):
        assert response.status_code == 503
        assert "TIDEPOOL_RETRIES is no whole number" in response.text
    assert world.ledger.actions.newest() == []


@pytest.mark.slow
def test_rows_that_are_no_reading_are_counted_by_reason(world: AirflowWorld, visit: Visitor) -> None:
    from tests.airflow.vendor_exports import FEED
    from tests.airflow.vendor_exports import stage_export as stage_export
    from tidepool_simulator.sample import vendor_files

    stage_export(world, vendor_files.meter_table(), FEED | {"deviceId": "canary"}, "canary")
    world.run_dag({"dry_run": True}, dag_id=CONTINUOUS_DAG_ID)
    (upload,) = world.uploads()
    user = visit("user")
    page = user.get(f"{PAGE}/{upload.batch}").text

    assert "Rows that are no reading" in page
    assert "<code>filtered</code>" in page
    assert "the mapping&#39;s `where` leaves such rows out" in page
    assert "canary" not in page
    shutil.rmtree(world.staging / "_work")
    page = user.get(f"{PAGE}/{upload.batch}")
    assert (page.status_code, "no reading" in page.text) == (200, False)
