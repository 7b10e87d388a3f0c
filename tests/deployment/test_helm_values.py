"""The values for the official Helm chart: the settings of the compose file, and no secret.

There is neither a cluster here nor the chart. What is checked is what can be: the keys against what is known
of the chart, Airflow's own settings against Airflow's options, what is shared against the compose file, the
secrets against the manual. ``make helm-test`` checks what the chart makes of them (:mod:`.helm`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
import yaml

from tests import PROJECT
from tests.deployment.files import Compose, airflow_pin, airflow_settings, environment, filled, options, pins
from tests.deployment.helm import FACTS

CHART: dict[str, Any] = json.loads(FACTS.read_text())
"""Facts about the official chart, of one version; ``make helm-test`` compares them with the chart.

``keys`` are those of its ``values.yaml``: a mapping for a key with others below it, empty where the chart
takes what Kubernetes does, and nothing for a value. ``on`` is what it starts unless it is told otherwise.
``deprecated`` are the keys of which its schema says so.
"""

STARTED = {"apiServer", "dagProcessor", "migrateDatabaseJob", "scheduler", "triggerer"}
"""What we want of the chart. Databases are servers of one's own, and an account is made by hand."""

AIRFLOWS = ("config",)
"""Keys below which the chart takes any section and option; ours are compared with Airflow's own."""

BY_THE_CHART = {
    "AIRFLOW__CORE__EXECUTOR",
    "AIRFLOW__CORE__EXECUTION_API_SERVER_URL",
    "AIRFLOW__CORE__FERNET_KEY",
    "AIRFLOW__API_AUTH__JWT_SECRET",
    "AIRFLOW__API__SECRET_KEY",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
    "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_HOST",
}
"""What the chart sets by itself, from its own keys and the secrets that are named."""

OTHERWISE_HERE = {"AIRFLOW__API__BASE_URL", "TIDEPOOL_STAGING_ROOT"}
"""What each deployment sets for itself."""

CONNECTIONS = "tidepool-airflow-connections"


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((PROJECT / "deploy" / "helm-values.yaml").read_text())
    return content


def configured(values: dict[str, Any]) -> dict[str, str]:
    return {
        f"AIRFLOW__{section}__{key}".upper(): str(value)
        for section, content in values["config"].items()
        for key, value in content.items()
    }


def given(values: dict[str, Any]) -> dict[str, str]:
    names = [variable["name"] for variable in values["env"]]
    assert len(set(names)) == len(names)
    return {variable["name"]: variable["value"] for variable in values["env"]}


def named_secrets(manual: str) -> dict[str, set[str]]:
    """Return the secrets that the manual's commands make, and the keys of each."""
    made = re.findall(r"create secret generic (\S+)((?: \\\n)?(?:\s+--from-literal=[^\n]*)+)", manual)
    return {name: set(re.findall(r"--from-literal=([A-Za-z_-]+)=", given)) for name, given in made}


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)
    else:
        yield str(value)


def paths(values: dict[str, Any], above: str = "") -> Iterator[str]:
    """Yield the dotted path of every key."""
    for name, value in values.items():
        yield f"{above}{name}"
        if isinstance(value, dict):
            yield from paths(value, f"{above}{name}.")


def unknown(ours: dict[str, Any], chart: dict[str, Any], above: str = "") -> list[str]:
    """Return the keys of ours that the chart does not know, as dotted paths."""
    found = []
    for name, value in ours.items():
        path = f"{above}{name}"
        if name not in chart:
            found.append(path)
        elif isinstance(value, dict) and chart[name] is None:
            found.append(f"{path}: not a mapping")
        elif isinstance(value, dict) and chart[name] and path not in AIRFLOWS:
            found.extend(unknown(value, chart[name], f"{path}."))
    return found


def test_every_key_is_a_switch_of_the_chart(values: dict[str, Any]) -> None:
    assert unknown(values, CHART["keys"]) == []


def test_the_comparison_with_the_chart_finds_what_it_does_not_know() -> None:
    ours = {
        "createUserJob": {"defaultUser": {"enabled": False}, "enabled": False},
        "executer": "KubernetesExecutor",
        "workers": {"resources": {"requests": {"cpu": 1}}},
        "executor": {"name": "KubernetesExecutor"},
    }

    assert unknown(ours, CHART["keys"]) == [
        "createUserJob.defaultUser.enabled",
        "executer",
        "executor: not a mapping",
    ]


def at(values: dict[str, Any], path: str) -> Any:
    """Return the value at a dotted path, nothing if there is none."""
    found: Any = values
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def deprecated(values: dict[str, Any]) -> list[str]:
    return [path for path in CHART["deprecated"] if at(values, path) is not None]


def started(values: dict[str, Any]) -> set[str]:
    """Return which parts the chart starts by itself, and was not told to leave out."""
    return {path.partition(".")[0] for path in CHART["on"] if at(values, path) is not False}


def test_no_key_is_one_that_the_chart_gives_up(values: dict[str, Any]) -> None:
    assert deprecated({"workers": {"resources": {"requests": {"cpu": 1}}}}) == ["workers.resources"]

    assert deprecated(values) == []


def test_the_chart_starts_what_is_wanted_and_nothing_else(values: dict[str, Any]) -> None:
    assert {"createUserJob", "postgresql", "redis", "statsd"} <= started({}), "the chart's own defaults"

    assert started(values) == STARTED


def test_the_manual_installs_the_version_whose_keys_are_known(manual: str) -> None:
    assert f"apache-airflow/airflow --version {CHART['version']} " in manual


def test_image_is_the_one_of_the_compose_file(values: dict[str, Any], compose: Compose) -> None:
    repository, _, tag = compose.services["airflow-worker"]["image"].partition(":")
    assert values["defaultAirflowRepository"].rpartition("/")[2] == repository
    assert values["defaultAirflowTag"] == tag
    assert values["airflowVersion"] == airflow_pin()


def test_executor_can_be_loaded(values: dict[str, Any]) -> None:
    from airflow.executors.executor_loader import ExecutorLoader

    module, _, name = ExecutorLoader.executors[values["executor"]].rpartition(".")
    assert hasattr(import_module(module), name)
    assert "apache-airflow-providers-cncf-kubernetes" in pins()


def test_every_setting_is_an_option_of_airflow(values: dict[str, Any]) -> None:
    known = options()
    for section, content in values["config"].items():
        for key in content:
            assert (section, key) in known, f"{section}.{key}"


def test_settings_of_airflow_are_those_of_the_compose_file(values: dict[str, Any], compose: Compose) -> None:
    theirs = {
        name: filled(value).lower()
        for name, value in airflow_settings(compose).items()
        if not name.startswith(("AIRFLOW__CELERY", *BY_THE_CHART, *OTHERWISE_HERE))
    }
    ours = {name: value.lower() for name, value in configured(values).items()}

    assert len(theirs) == 3
    assert theirs.items() <= ours.items()
    added = ours.keys() - theirs.keys() - OTHERWISE_HERE
    assert all(name.startswith("AIRFLOW__LOGGING__REMOTE_") for name in added)


def test_settings_of_the_project_are_those_of_the_compose_file(
    values: dict[str, Any], compose: Compose
) -> None:
    worker = dict(environment(compose.services["airflow-worker"]))
    theirs = {name: filled(value or "") for name, value in worker.items() if name.startswith("TIDEPOOL_")}
    for name in ("TIDEPOOL_LEDGER", "TIDEPOOL_WORK_KEYS"):
        del theirs[name]  # among the secrets
    ours = given(values)

    assert ours.keys() == theirs.keys()
    assert {name for name in ours if ours[name] != theirs[name]} == OTHERWISE_HERE & ours.keys()


def test_pool_is_made_as_in_the_compose_file(values: dict[str, Any], compose: Compose) -> None:
    init = compose.services["airflow-init"]
    slots = filled(str(dict(environment(init))["POOL_SLOTS"]))
    theirs = filled(init["command"][-1]).replace('"$POOL_SLOTS"', slots).splitlines()

    program = values["migrateDatabaseJob"]["args"][-1].splitlines()
    assert theirs[0] == "python -m tidepool_airflow.preflight"  # of what .env says, and of one machine
    assert program == theirs[1:3]
    assert "airflow users create" in theirs[3]


def test_no_account_is_made_with_a_password_that_everybody_knows(values: dict[str, Any]) -> None:
    # The chart's own default is a job that creates the account admin with the password admin.
    assert values["createUserJob"] == {"enabled": False}


def test_secrets_are_named_and_the_manual_makes_them(values: dict[str, Any], manual: str) -> None:
    made = named_secrets(manual)
    assert made == {
        values["data"]["metadataSecretName"]: {"connection"},
        values["fernetKeySecretName"]: {"fernet-key"},
        values["apiSecretKeySecretName"]: {"api-secret-key"},
        values["jwtSecretName"]: {"jwt-secret"},
        CONNECTIONS: {
            "AIRFLOW_CONN_TIDEPOOL_LEDGER", "TIDEPOOL_LEDGER", "AIRFLOW_CONN_STAGING_STORE",
        },
    }  # fmt: skip
    assert yaml.safe_load(values["extraEnvFrom"]) == [{"secretRef": {"name": CONNECTIONS}}]


def test_no_secret_has_a_value(values: dict[str, Any]) -> None:
    for text in texts(values):
        assert not re.search(r"://[^/\s]*:[^/\s]*@", text), "an address with a password"
        assert not re.search(r"[A-Za-z0-9_-]{40,}", text.replace("airflow.providers.", "")), "a long secret"
    assert not [name for name in given(values) if name.endswith(("PASSWORD", "SECRET", "KEY"))]


def test_root_and_logs_go_through_the_connection_that_is_given(values: dict[str, Any]) -> None:
    assert given(values)["TIDEPOOL_STAGING_ROOT"].startswith("s3://staging_store@")
    assert values["config"]["logging"]["remote_log_conn_id"] == "staging_store"


def test_nothing_runs_as_root_or_without_limits(values: dict[str, Any]) -> None:
    pod, containers = values["securityContexts"]["pod"], values["securityContexts"]["containers"]
    assert (values["uid"], values["gid"]) == (50000, 0)
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] == values["uid"]
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert containers == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    # Whatever of the chart can have an own context would take it instead of these.
    assert not [path for path in paths(values) if path.endswith((".securityContexts", ".securityContext"))]
    limited = [name for name in STARTED if "logGroomerSidecar" in CHART["keys"][name]]
    for path in (*STARTED, "workers.kubernetes", *(f"{name}.logGroomerSidecar" for name in limited)):
        for kind in ("requests", "limits"):
            assert at(values, f"{path}.resources.{kind}").keys() == {"cpu", "memory"}, path
