"""The settings of a deployment: a mistake is named with what the variable takes, and never with its value."""

from __future__ import annotations

import asyncio
import logging
import os
from base64 import b64encode
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.models import connection
from cryptography.fernet import Fernet
from dev.home import PROJECT

from tests.factories import meter_readings, stage
from tidepool_airflow import settings
from tidepool_airflow.assets import ManifestTrigger
from tidepool_airflow.settings import Settings, SettingsError, deployment, taken_by, variable_of
from tidepool_ingest.client import exchange
from tidepool_ingest.ledger import database
from tidepool_ingest.packs import MAX_PACKS
from tidepool_ingest.plan import MAX_BATCHES_A_RUN

CANARY = "c4nary"
SOME_KEY = b64encode(b"k" * 32).decode()

NO_NUMBERS = [
    (
        "TIDEPOOL_RETRIES",
        "three",
        "is no whole number: give a whole number from 0 to 100, or leave it out for 3.",
    ),
    ("TIDEPOOL_RETRIES", "-1", "is too small: give a whole number from 0 to 100, or leave it out for 3."),
    (
        "TIDEPOOL_RETRIES",
        "2.5",
        "is no whole number: give a whole number from 0 to 100, or leave it out for 3.",
    ),
    (
        "TIDEPOOL_RETRIES",
        "9" * 5_000,
        "is too large: give a whole number from 0 to 100, or leave it out for 3.",
    ),
    ("TIDEPOOL_RETRY_SECONDS", "nan", "is no number: give a number from 0 to 1800, or leave it out for 120."),
    (
        "TIDEPOOL_RETRY_SECONDS",
        "2 min",
        "is no number: give a number from 0 to 1800, or leave it out for 120.",
    ),
    (
        "TIDEPOOL_RETRY_SECONDS",
        "1e300",
        "is too large: give a number from 0 to 1800, or leave it out for 120.",
    ),
    (
        "TIDEPOOL_PARALLEL_CHUNKS",
        "0",
        "is too small: give a whole number from 1 to 32, or leave it out for 4.",
    ),
    (
        "TIDEPOOL_PARALLEL_CHUNKS",
        "1000",
        "is too large: give a whole number from 1 to 32, or leave it out for 4.",
    ),
    (
        "TIDEPOOL_BATCHES_ALONE",
        "5000",
        "is too large: give a whole number from 0 to 1000, or leave it out for 100.",
    ),
    (
        "TIDEPOOL_BATCHES_A_PACK",
        "0",
        "is too small: give a whole number from 1 to 20000, or leave it out for 250.",
    ),
    (
        "TIDEPOOL_ANSWER_HOURS",
        "inf",
        "is no number: give a number above 0, up to 8760, or leave it out for 24.",
    ),
    (
        "TIDEPOOL_ANSWER_HOURS",
        "0",
        "is too small: give a number above 0, up to 8760, or leave it out for 24.",
    ),
    ("TIDEPOOL_WATCH_SECONDS", "0", "is too small: give a number from 1 to 86400, or leave it out for 60."),
    ("TIDEPOOL_WATCH_SECONDS", "-60", "is too small: give a number from 1 to 86400, or leave it out for 60."),
    (
        "TIDEPOOL_KEEP_WORK_DAYS",
        "1e9",
        "is no whole number: give a whole number from 0 to 36500, or leave it out for 30.",
    ),
    (
        "TIDEPOOL_KEEP_QUARANTINE_DAYS",
        "-5",
        "is too small: give a whole number from 0 to 36500, or leave it out for 365.",
    ),
]

NO_TEXTS = [
    (
        "TIDEPOOL_ALLOWED_CONNECTIONS",
        "clinic a, clinic_b",
        "cannot be used: give ids of Airflow connections, separated by commas, or leave it out.",
    ),
    (
        "TIDEPOOL_POOL",
        "tide\tpool",
        "cannot be used: give the name of an Airflow pool, or leave it out for default_pool.",
    ),
    (
        "TIDEPOOL_ON_FAILURE",
        "notify",
        "cannot be used: give the dotted path of a function, package.module.function, or leave it out.",
    ),
    ("TIDEPOOL_OWNER", "a\tb", "cannot be used: give a name, or leave it out for airflow."),
    ("TIDEPOOL_TAGS", f"ok,{'x' * 101}", "cannot be used: give tags, separated by commas, or leave it out."),
    (
        "TIDEPOOL_DOCS_URL",
        "docs.example.org (ours)",
        "cannot be used: give the address of a folder, `https://…`, or leave it out.",
    ),
    (
        "TIDEPOOL_NOTIFY_CONNECTION",
        f"https://hooks.slack.com/services/{CANARY}",
        "cannot be used: give the id of an Airflow connection of type `slackwebhook`, `slack`, `smtp` or "
        "`apprise`, or leave it out.",
    ),
    (
        "TIDEPOOL_NOTIFY_TO",
        "ops@example.org, on call",
        "cannot be used: give e-mail addresses, or channels, separated by commas, or leave it out.",
    ),
    (
        "TIDEPOOL_NOTIFY_OF",
        "all",
        "cannot be used: give `both`, `failures` or `digest`, or leave it out for both.",
    ),
    (
        "TIDEPOOL_WORK_KEYS",
        f"{SOME_KEY},{CANARY}",
        "cannot be used: give Fernet keys (32 bytes in URL-safe base64), separated by commas, the newest "
        "first, or leave it out.",
    ),
    (
        "TIDEPOOL_WORK_KEYS",
        ",",
        "cannot be used: give Fernet keys (32 bytes in URL-safe base64), separated by commas, the newest "
        "first, or leave it out.",
    ),
    (
        "TIDEPOOL_LEDGER",
        f"mysql://user:{CANARY}@host/ledger",
        "cannot be used: give an address such as `sqlite:////folder/ledger.db` or "
        "`postgresql://user:password@host/database`, or leave it out.",
    ),
    (
        "TIDEPOOL_STAGING_ROOT",
        f"/data/{CANARY}\x7f",
        "cannot be used: give a folder or an fsspec URL, or leave it out.",
    ),
]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TIDEPOOL_")]:
        monkeypatch.delenv(name)


def mistakes(monkeypatch: pytest.MonkeyPatch, **variables: str) -> SettingsError:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        deployment()
    # Neither in what it says nor in what a traceback would show of its causes.
    assert CANARY not in str(caught.value)
    assert caught.value.__context__ is None
    return caught.value


# ---------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(("variable", "value", "message"), [*NO_NUMBERS, *NO_TEXTS])
def test_a_setting_that_cannot_be_used_is_named_with_what_it_takes(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    error = mistakes(monkeypatch, **{variable: value})

    assert error.mistakes == {variable: f"{variable} {message}"}
    assert str(error) == (
        f"A setting of this deployment cannot be used:\n- {variable} {message}\n{SettingsError.remedy}"
    )


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"TIDEPOOL_ON_DEADLINE": "ours.notify"}, "TIDEPOOL_DEADLINE_MINUTES"),
        ({"TIDEPOOL_DEADLINE_MINUTES": "90"}, "TIDEPOOL_ON_DEADLINE"),
    ],
)
def test_a_function_and_a_time_for_the_deadline_go_together(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], missing: str
) -> None:
    error = mistakes(monkeypatch, **given)

    assert error.mistakes == {
        missing: f"{missing} is not set, and {next(iter(given))} is: give both, or neither."
    }


def test_all_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {variable: value for variable, value, _ in [*NO_NUMBERS, *NO_TEXTS]}
    error = mistakes(monkeypatch, **wrong, TIDEPOOL_ON_DEADLINE="ours.notify")

    assert error.mistakes.keys() == wrong.keys() | {"TIDEPOOL_DEADLINE_MINUTES"}
    assert str(error).startswith(f"{len(wrong) + 1} settings of this deployment cannot be used:\n- ")
    assert max(map(len, str(error).splitlines())) < 200


def test_a_misspelled_variable_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TIDEPOOL_KEEP_QUARANTINE_DAY", CANARY)
    monkeypatch.setenv("TIDEPOOL_POOL_SLOTS", "16")
    monkeypatch.setenv("TIDEPOOL_CLINIC_NAME", "somebody else's")
    with caplog.at_level(logging.WARNING):
        deployment()
        deployment()

    assert [record.getMessage() for record in caplog.records] == [
        "TIDEPOOL_KEEP_QUARANTINE_DAY is no setting. Is TIDEPOOL_KEEP_QUARANTINE_DAYS meant?"
    ]


# ---------------------------------------------------------------- what is right


def test_what_is_blank_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(Settings.model_fields):
        monkeypatch.setenv(variable_of(name), " \n" if number % 2 else "")

    assert deployment() == Settings()


def test_what_is_set_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [Fernet.generate_key().decode() for _ in range(2)]
    for name, value in {
        "STAGING_ROOT": "s3://store@bucket/tidepool\n",
        "LEDGER": f"postgresql://user:{CANARY}@host/ledger",
        "ALLOWED_CONNECTIONS": "clinic_a, clinic/b,",
        "RETRIES": " 0 ",
        "ON_DEADLINE": "ours.alerts.notify",
        "DEADLINE_MINUTES": "0.5",
        "WORK_KEYS": ", ".join(keys),
        "KEEP_QUARANTINE_DAYS": "0",
    }.items():
        monkeypatch.setenv(f"TIDEPOOL_{name}", value)
    taken = deployment()

    assert taken.staging_root == "s3://store@bucket/tidepool"
    assert (taken.allowed_connections, taken.retries) == (("clinic_a", "clinic/b"), 0)
    assert (taken.on_deadline, taken.deadline_minutes) == ("ours.alerts.notify", 0.5)
    assert (taken.work_keys, taken.keep_quarantine_days) == (tuple(keys), 0)
    assert not any(secret in repr(taken) for secret in (CANARY, *keys, "s3:"))


def test_the_environment_is_read_once_as_long_as_it_stays_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    before = deployment()
    assert deployment() is before
    monkeypatch.setenv("TIDEPOOL_RETRIES", "5")
    assert deployment().retries == 5


def test_the_bounds_are_those_of_what_they_bound() -> None:
    bounds = {
        name: [each.le for each in field.metadata if hasattr(each, "le")]
        for name, field in Settings.model_fields.items()
    }

    assert bounds["parallel_chunks"] == [exchange.CONNECTIONS]
    assert bounds["batches_alone"] == [MAX_PACKS]
    assert bounds["batches_a_pack"] == [MAX_BATCHES_A_RUN]
    assert set(settings.LEDGER_SCHEMES) == set(database.SUPPORTED)
    for conn_id in ("clinic_a", "a b", "clinic/b", "", "ä", "x" * 250, "x" * 251, "a\n"):
        assert (settings.CONN_ID.fullmatch(conn_id) is not None) == (
            connection.sanitize_conn_id(conn_id) == conn_id
        )


# ---------------------------------------------------------------- where it is seen


def test_airflow_shows_the_mistakes_at_the_end_of_an_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEPOOL_KEEP_QUARANTINE_DAYS", "-5")
    monkeypatch.setenv("TIDEPOOL_LEDGER", CANARY)
    bag = DagBag(str(PROJECT / "dags"))

    assert len(bag.import_errors) == len(list((PROJECT / "dags").glob("*.py"))) == 6
    assert bag.dags == {}
    for text in bag.import_errors.values():
        assert CANARY not in text
        assert text.count("Traceback") == 1
        lines = text.strip().splitlines()
        assert [line.partition(": give ")[0] for line in lines[-4:]] == [
            "tidepool_airflow.settings.SettingsError: 2 settings of this deployment cannot be used:",
            "- TIDEPOOL_LEDGER cannot be used",
            "- TIDEPOOL_KEEP_QUARANTINE_DAYS is too small",
            SettingsError.remedy,
        ]


def test_the_watcher_of_staging_says_so_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    stage(tmp_path, meter_readings(1))
    monkeypatch.setenv("TIDEPOOL_STAGING_ROOT", str(tmp_path))
    monkeypatch.setenv("TIDEPOOL_RETRIES", "three")

    async def first_event() -> Any:
        trigger = ManifestTrigger(0)
        monkeypatch.setattr(trigger.log, "warning", lambda *_: monkeypatch.delenv("TIDEPOOL_RETRIES"))
        return await anext(trigger.run())

    assert asyncio.run(asyncio.wait_for(first_event(), 30)).payload == {"manifests": 1}
    assert "TIDEPOOL_RETRIES" not in os.environ


# ---------------------------------------------------------------- the documentation


def row(name: str) -> str:
    field = Settings.model_fields[name]
    default = "\N{EN DASH}" if field.default in (None, ()) else f"`{field.default}`"
    return f"| `{variable_of(name)}` | {default} | {taken_by(field)} | {field.description} |"


def test_the_documentation_lists_every_setting() -> None:
    lines = (PROJECT / "docs" / "airflow.md").read_text().splitlines()
    expected = [row(name) for name in Settings.model_fields]
    first = expected[0].partition(" |")[0]
    start = next((place for place, line in enumerate(lines) if line.startswith(f"{first} |")), len(lines))
    written = list(takewhile(lambda line: line.startswith("| `TIDEPOOL_"), lines[start:]))

    assert written == expected, "docs/airflow.md, the rows of the table:\n" + "\n".join(expected)
