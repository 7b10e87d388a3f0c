"""What the compose file sets for Airflow: real options, one version, components that can be loaded."""

from __future__ import annotations

import re
import tomllib
from importlib import import_module
from importlib.metadata import version

import pytest
from sqlalchemy import make_url

from tests import PROJECT
from tests.deployment.files import (
    Compose,
    airflow_pin,
    airflow_settings,
    dockerfile_lines,
    environment,
    filled,
    options,
    pins,
)
from tidepool_airflow.settings import Settings, deployment, variable_of
from tidepool_ingest.ledger.database import ledger_url

PROVIDERS = {
    "AIRFLOW__CORE__EXECUTOR": "apache-airflow-providers-celery",
    "AIRFLOW__CORE__AUTH_MANAGER": "apache-airflow-providers-fab",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "apache-airflow-providers-postgres",
}
"""What the choice behind a setting needs to be installed."""


def test_installed_airflow_is_the_pinned_one() -> None:
    assert version("apache-airflow") == airflow_pin() == pins()["apache-airflow"]


def test_every_setting_is_an_option_of_airflow(compose: Compose) -> None:
    known = options()
    names = airflow_settings(compose)
    assert len(names) > 10
    for name in names:
        section, _, key = name.removeprefix("AIRFLOW__").partition("__")
        assert (section.lower(), key.lower()) in known, name


def test_image_is_made_of_the_pinned_airflow() -> None:
    bases = [line.split()[1] for line in dockerfile_lines() if line.startswith("FROM ")]
    official = [base for base in bases if "/" in base]
    assert len(official) == 1
    found = re.fullmatch(r"apache/airflow:slim-(\d+\.\d+\.\d+)-python(3\.\d+)", official[0])
    assert found is not None
    assert found[1] == airflow_pin()
    assert set(bases) == {official[0], "airflow"}
    lowest, highest = (3, 11), (3, 13)
    assert lowest <= tuple(map(int, found[2].split("."))) <= highest


def test_image_tag_names_both_versions(compose: Compose) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    built = {service["image"] for service in compose.services.values() if "build" in service}
    assert built == {f"tidepool-airflow:{project['version']}-airflow{airflow_pin()}"}


@pytest.mark.parametrize(("setting", "provider"), PROVIDERS.items())
def test_pinned_requirements_hold_what_the_settings_need(
    compose: Compose, setting: str, provider: str
) -> None:
    assert setting in airflow_settings(compose)
    assert provider in pins()


def test_executor_and_account_manager_can_be_loaded(compose: Compose) -> None:
    from airflow.executors.executor_loader import ExecutorLoader

    names = airflow_settings(compose)
    # Celery's innards move between its minor versions: only the import shows whether the two fit.
    executor = ExecutorLoader.executors[names["AIRFLOW__CORE__EXECUTOR"]]
    for path in (executor, names["AIRFLOW__CORE__AUTH_MANAGER"]):
        module, _, name = path.rpartition(".")
        assert hasattr(import_module(module), name)


def test_workers_health_is_asked_through_the_queue_that_its_tasks_come_by(compose: Compose) -> None:
    worker = compose.services["airflow-worker"]
    assignment, program, *_ = filled(worker["healthcheck"]["test"][1]).split()
    assert program == "celery"
    variable, _, value = assignment.partition("=")
    assert variable == "CELERY_BROKER_URL"
    assert value.strip('"').removeprefix("$") in dict(environment(worker))
    assert value.strip('"') == "$AIRFLOW__CELERY__BROKER_URL"


def test_databases_have_installed_drivers(compose: Compose) -> None:
    names = airflow_settings(compose)
    for name in ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__CELERY__RESULT_BACKEND"):
        url = make_url(filled(names[name]).removeprefix("db+"))
        assert url.get_dialect().import_dbapi() is not None
        assert (url.host, url.database, url.username) == ("postgres", "airflow", "airflow")


def test_ledger_connection_is_the_ledgers_own_database(compose: Compose) -> None:
    from airflow.sdk import Connection

    variables = dict(environment(compose.services["airflow-worker"]))
    address = filled(variables["AIRFLOW_CONN_TIDEPOOL_LEDGER"] or "", {"LEDGER_DB_PASSWORD": "made0up"})
    url = ledger_url(Connection.from_uri(address, conn_id="tidepool_ledger").get_uri())
    assert (url.host, url.port, url.database) == ("postgres", 5432, "tidepool_ledger")
    assert (url.username, url.password) == ("tidepool_ledger", "made0up")
    assert variables["TIDEPOOL_LEDGER"] == variables["AIRFLOW_CONN_TIDEPOOL_LEDGER"]


def test_worker_is_given_every_setting_that_the_project_reads(compose: Compose) -> None:
    sources = [*(PROJECT / "plugins").rglob("*.py"), *(PROJECT / "include").rglob("*.py")]
    read = {name for source in sources for name in re.findall(r'"(TIDEPOOL_[A-Z_]+)"', source.read_text())}
    declared = {variable_of(name) for name in Settings.model_fields}
    assert read <= declared
    assert declared == {
        name for name, _ in environment(compose.services["airflow-worker"]) if name.startswith("TIDEPOOL_")
    }


def test_the_defaults_of_the_compose_file_are_settings_that_can_be_used(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(compose.services["airflow-worker"]):
        if name.startswith("TIDEPOOL_"):
            monkeypatch.setenv(name, filled(value or "", {"LEDGER_DB_PASSWORD": "made0up"}))

    given = {"staging_root", "ledger", "pool"}
    assert deployment().model_dump(exclude=given) == Settings().model_dump(exclude=given)


def test_services_are_addressed_by_their_names(compose: Compose) -> None:
    names = airflow_settings(compose)
    addresses = [
        names["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"],
        names["AIRFLOW__CELERY__BROKER_URL"],
        names["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"],
    ]
    hosts = [make_url(filled(address)).host for address in addresses]
    assert hosts == ["airflow-apiserver", "redis", "postgres"]
    assert set(hosts) <= compose.services.keys()
