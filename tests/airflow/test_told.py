"""Notices by Slack, by mail and by Apprise: real receivers get numbers and a link, and nothing else."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from tests.airflow.receivers import MailServer, WebServer, listening
from tests.factories import TODAY
from tests.ports import free_port
from tidepool_airflow import notices
from tidepool_airflow.errors import TidepoolRunFailedError
from tidepool_airflow.notices import NoticeNotSentError, TidepoolFailureNotifier
from tidepool_airflow.operators import TidepoolDigestOperator
from tidepool_ingest.ledger import BatchState, FoundBatch, Ledger
from tidepool_ingest.reports.run import Report

TOKEN = "T0000000/B0000000/c4narysecret"
USER, DEVICE = "5a3c0d0007", "c4nary-device"
RUN = datetime(2026, 11, 29, 3, 0, tzinfo=UTC)
UPLOADS_PAGE = "https://airflow.example.org/plugin/tidepool-uploads"
LINES = [
    "The run of 2026-11-29 03:00 UTC has failed.",
    "Cause: some batches of the run are not done (run-failed).",
    "What to do: Follow what its report, or the log of a failed task, says of each cause; then clear the "
    "failed tasks, or let the next run take the batches up again.",
    "Batches: 1 failed, 5 verified.",
    f"Uploads: {UPLOADS_PAGE}",
    "Runs: https://airflow.example.org/dags/tidepool_normal_upload",
]


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.org/")
    for name in ("CONNECTION", "TO", "OF"):
        monkeypatch.delenv(f"TIDEPOOL_NOTIFY_{name}", raising=False)


@pytest.fixture
def web() -> Iterator[WebServer]:
    with listening(WebServer()) as server:
        yield server


def connect(monkeypatch: pytest.MonkeyPatch, connection: str, to: str = "") -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OUR_TEAM", connection)
    monkeypatch.setenv("TIDEPOOL_NOTIFY_CONNECTION", "our_team")
    monkeypatch.setenv("TIDEPOOL_NOTIFY_TO", to)


def webhook(url: str) -> str:
    return json.dumps({"conn_type": "slackwebhook", "host": f"{url}/services", "password": TOKEN})


def apprise(url: str) -> str:
    service = f"{url.replace('http', 'json')}/{TOKEN}"
    return json.dumps({"conn_type": "apprise", "extra": {"config": {"path": service, "tag": "alerts"}}})


def failed_run(run_id: str = f"manual__{USER}") -> dict[str, Any]:
    """The context of the last task of a run that failed; whoever started it chose the run's id."""
    summary = {"batches": {"verified": 5, "failed": 1}, "waiting": [f"{TODAY} {DEVICE}: failed (timeout)"]}
    return {
        "ti": SimpleNamespace(
            dag_id="tidepool_normal_upload", task_id="report", run_id=run_id, xcom_pull=lambda **_: summary
        ),
        "dag_run": SimpleNamespace(run_id=run_id, run_after=RUN),
        "exception": TidepoolRunFailedError(["batch.upload"], Report((), {}), 1),
    }


def tell() -> None:
    (told,) = notices.told_of_failure()
    told(failed_run())


def dead_url() -> str:
    return f"http://127.0.0.1:{free_port()}"


# ---------------------------------------------------------------------- what arrives


def test_slack_is_told_by_its_webhook(monkeypatch: pytest.MonkeyPatch, web: WebServer) -> None:
    connect(monkeypatch, webhook(web.url))
    tell()

    ((path, body),) = web.posts
    assert path == f"/services/{TOKEN}"
    assert body["text"].splitlines() == ["Tidepool: tidepool_normal_upload failed", *LINES]


def test_slack_is_told_by_its_api_in_each_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(WebServer(body='{"ok": true}')) as server:
        extra = {"base_url": f"{server.url}/api/"}
        connection = json.dumps({"conn_type": "slack", "password": "xoxb-c4nary", "extra": extra})
        connect(monkeypatch, connection, "#uploads, C0123456")
        tell()

    assert [(path, body["channel"]) for path, body in server.posts] == [
        ("/api/chat.postMessage", "#uploads"),
        ("/api/chat.postMessage", "C0123456"),
    ]
    assert all(LINES[-1] in body["text"] for _, body in server.posts)


def test_people_are_told_by_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(MailServer()) as server:
        connect(monkeypatch, server.connection(), "ops@example.org, on-call@example.org")
        tell()

    (message,) = server.messages
    assert server.recipients == ["ops@example.org", "on-call@example.org"]
    assert (message["From"], message["Subject"]) == (
        "airflow@example.org",
        "Tidepool: tidepool_normal_upload failed",
    )
    body = next(part for part in message.walk() if part.get_content_type() == "text/html").get_content()
    assert re.findall(r"<div>(.*)</div>", body) == LINES


def test_others_are_told_by_apprise(monkeypatch: pytest.MonkeyPatch, web: WebServer) -> None:
    connect(monkeypatch, apprise(web.url))
    tell()

    ((path, body),) = web.posts
    assert path == f"/{TOKEN}"
    assert (body["title"], body["type"]) == ("Tidepool: tidepool_normal_upload failed", "failure")
    assert body["message"].splitlines() == LINES


def test_what_has_markup_of_its_own_stays_text() -> None:
    notice = notices.Notice("a", ("1 < 2 & <!channel>",))

    assert notice.slack() == "a\n1 &lt; 2 &amp; &lt;!channel&gt;"
    assert notice.html() == "<div>1 &lt; 2 &amp; &lt;!channel&gt;</div>\n"


def test_an_error_of_anybody_elses_is_left_out(monkeypatch: pytest.MonkeyPatch, web: WebServer) -> None:
    connect(monkeypatch, webhook(web.url))
    context = failed_run() | {"exception": ValueError(f"user {USER} has 5.5 mmol/L")}
    context["ti"].xcom_pull = lambda **_: 1 / 0
    TidepoolFailureNotifier()(context)

    assert web.posts[0][1]["text"].splitlines()[1:] == [LINES[0], *LINES[-2:]]


# ---------------------------------------------------------------------- when, and when not


@pytest.mark.parametrize(
    ("wanted", "failures", "digest"),
    [("both", True, True), ("failures", True, False), ("digest", False, True)],
)
def test_what_is_sent_can_be_chosen(
    monkeypatch: pytest.MonkeyPatch, wanted: str, failures: bool, digest: bool
) -> None:
    monkeypatch.setenv("TIDEPOOL_NOTIFY_OF", wanted)
    assert (notices.told_of_failure(), notices.digest_schedule()) == ([], None)
    monkeypatch.setenv("TIDEPOOL_NOTIFY_CONNECTION", "our_team")

    assert bool(notices.told_of_failure()) is failures
    assert (notices.digest_schedule() is not None) is digest


# ---------------------------------------------------------------------- when it fails

UNSENT = "A notice could not be sent"


def complaints(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged from warnings on, by Airflow's loggers and by those of libraries."""
    text = "".join(capfd.readouterr())
    lines = re.findall(r"^.*\[(?:warning|error|critical) .*$", text, flags=re.MULTILINE)
    lines += [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert not re.search("c4nary|Traceback", text + caplog.text)
    caplog.clear()
    return lines


@pytest.mark.parametrize(
    ("connection", "to", "said"),
    [
        (lambda: webhook(dead_url()), "", f"{UNSENT} (URLError)."),
        (lambda: apprise(dead_url()), "", f"{UNSENT} (ConnectionError)."),
        (lambda: json.dumps({"conn_type": "apprise", "extra": {"config": {"path": TOKEN}}}), "", UNSENT),
        (
            lambda: json.dumps({"conn_type": "smtp", "host": "127.0.0.1", "port": free_port()}),
            "a@b.org",
            UNSENT,
        ),
        (
            lambda: json.dumps({"conn_type": "smtp", "host": "127.0.0.1"}),
            "",
            "TIDEPOOL_NOTIFY_TO is not set.",
        ),
        (lambda: json.dumps({"conn_type": "http", "host": TOKEN}), "", "of a type that sends none."),
    ],
    ids=["no-slack", "no-service", "no-url", "no-mail-server", "nobody", "other-type"],
)
def test_a_notice_that_fails_is_one_line_without_secrets(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    connection: Any,
    to: str,
    said: str,
) -> None:
    connect(monkeypatch, connection(), to)
    tell()

    assert [said in line for line in complaints(capfd, caplog)] == [True]


@pytest.mark.parametrize(("status", "body"), [(404, "no_service"), (500, TOKEN), (403, "invalid_token")])
def test_an_answer_that_is_no_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    status: int,
    body: str,
) -> None:
    with listening(WebServer(status, body)) as server:
        for connection in (webhook(server.url), apprise(server.url)):
            connect(monkeypatch, connection)
            tell()

            assert [UNSENT in line for line in complaints(capfd, caplog)] == [True]


def test_a_connection_that_nobody_has_made_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TIDEPOOL_NOTIFY_CONNECTION", "nobody_has_made_it")
    tell()

    (line,) = complaints(capfd, caplog)
    assert f"{UNSENT} (AirflowNotFoundException)." in line


def test_a_provider_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, web: WebServer) -> None:
    connect(monkeypatch, webhook(web.url))
    monkeypatch.setitem(__import__("sys").modules, "airflow.providers.slack.hooks.slack_webhook", None)

    with pytest.raises(notices.NoticeSettingsError, match="type slackwebhook is not installed"):
        notices.send(notices.Notice("a", ()))


# ---------------------------------------------------------------------- the digest


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    file = tmp_path / "ledger.db"
    connection = json.dumps({"conn_type": "sqlite", "host": str(file)})
    monkeypatch.setenv("AIRFLOW_CONN_TIDEPOOL_LEDGER", connection)
    opened = Ledger(f"sqlite:///{file}")
    opened.migrate()
    yield opened
    opened.close()


def batch(ledger: Ledger, number: int, reason: str | None = None) -> None:
    found = FoundBatch(
        api_host="api.example.org",
        content_key=f"{number:064}",
        label=f"{TODAY} {DEVICE} {number:010}",
        device_id=DEVICE,
        data_set_type="normal",
        folder=f"/staging/{TODAY}/{USER}/{number}",
        user_id=USER,
        batch_id=str(number),
        day=TODAY,
    )
    (row,) = ledger.batches.register_all([found])
    if reason:
        ledger.batches.hold(row.id, reason)


def digest(*, try_number: int = 4, until: datetime | None = None) -> dict[str, Any]:
    run_after = until or datetime.now(UTC) + timedelta(minutes=1)
    context: Any = {
        "dag_run": SimpleNamespace(run_after=run_after),
        "ti": SimpleNamespace(try_number=try_number, max_tries=3),
    }
    return TidepoolDigestOperator(task_id="send").execute(context)


def test_the_digest_counts_what_changed_and_what_needs_attention(
    monkeypatch: pytest.MonkeyPatch, web: WebServer, ledger: Ledger
) -> None:
    for number, reason in enumerate([None, "would-double", "would-double", "older-than-uploaded"]):
        batch(ledger, number, reason)
    connect(monkeypatch, webhook(web.url))
    counted = digest()
    digest(until=datetime.now(UTC) + timedelta(days=2))

    (_, first), (_, later) = web.posts
    lines = first["text"].splitlines()
    assert lines[0] == "Tidepool uploads: 3 batches need attention"
    assert lines[2:4] == ["Batches that have changed: 3 held, 1 planned.", "Batches that need attention: 3."]
    assert [line.partition(":")[0] for line in lines[4:6]] == ["- 2 would-double", "- 1 older-than-uploaded"]
    assert lines[6:] == [f"Uploads: {UPLOADS_PAGE}"]
    assert later["text"].splitlines()[2:4] == [
        "Batches that have changed: none.",
        "Batches that need attention: 3.",
    ]
    assert counted == {
        "changed": {str(BatchState.HELD): 3, str(BatchState.PLANNED): 1},
        "waiting": {"would-double": 2, "older-than-uploaded": 1},
        "inactive": 0,
    }
    assert not [secret for secret in (USER, DEVICE, "0000000001") if secret in str(web.posts)]


def test_a_digest_that_cannot_be_sent_is_tried_again_and_then_skipped(
    monkeypatch: pytest.MonkeyPatch, ledger: Ledger
) -> None:
    connect(monkeypatch, webhook(dead_url()))
    with pytest.raises(NoticeNotSentError) as caught:
        digest(try_number=1)
    assert caught.value.__context__ is None
    with pytest.raises(AirflowSkipException, match=UNSENT):
        digest(try_number=4)


def test_a_digest_without_a_connection_sends_nothing(ledger: Ledger) -> None:
    with pytest.raises(AirflowSkipException, match="TIDEPOOL_NOTIFY_CONNECTION is not set"):
        digest()
