"""The compose file, checked without a Docker engine: form, references, and how it guards what it runs."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

from tests import PROJECT
from tests.deployment.files import Compose, environment, filled

ONE_SHOT = {"airflow-init", "sample", "store-sample"}
"""Services that end by themselves."""

DATA_SERVICES = {"airflow-init", "airflow-apiserver", "airflow-worker", "simulator", "sample"}
"""The only ones that may see staged data; the API server reads quarantine files, for the uploads page, and
``airflow-init`` checks that the folder can be used."""


def running(compose: Compose) -> dict[str, dict[str, Any]]:
    return {name: service for name, service in compose.services.items() if name not in ONE_SHOT}


def airflow(compose: Compose) -> dict[str, dict[str, Any]]:
    return {name: service for name, service in compose.services.items() if name.startswith("airflow-")}


def mounts(service: dict[str, Any]) -> list[list[str]]:
    return [filled(mount).split(":") for mount in service.get("volumes", ())]


def test_follows_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    checked = subprocess.run([*command, str(PROJECT / "docker-compose.yml")], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_runs_all_of_airflow_with_its_stores(compose: Compose) -> None:
    assert set(compose.services) == {
        "postgres", "redis", "airflow-init", "airflow-apiserver", "airflow-scheduler",
        "airflow-dag-processor", "airflow-triggerer", "airflow-worker", "simulator", "sample",
        "store", "store-sample", "log-cleanup",
    }  # fmt: skip
    commands = {name: service.get("command") for name, service in airflow(compose).items()}
    del commands["airflow-init"]
    assert set(commands.values()) == {
        "api-server", "scheduler", "dag-processor", "triggerer", "celery worker"
    }  # fmt: skip


def test_waits_only_for_services_that_are_there_and_can_tell(compose: Compose) -> None:
    awaited = 0
    for name, service in compose.services.items():
        for other, how in service.get("depends_on", {}).items():
            awaited += 1
            assert other in compose.services, f"{name} waits for {other}"
            if how["condition"] == "service_healthy":
                assert "healthcheck" in compose.services[other], f"{name} waits for the health of {other}"
            else:
                assert how["condition"] == "service_completed_successfully"
                assert other in ONE_SHOT, f"{name} waits for the end of {other}"
    assert awaited > len(airflow(compose))


def test_mounts_only_what_is_there(compose: Compose) -> None:
    for name, service in compose.services.items():
        for source, target, *_ in mounts(service):
            assert target.startswith("/"), f"{name}: {target}"
            if source.startswith("."):
                assert (PROJECT / source).exists(), f"{name} mounts {source}"
            else:
                assert source in compose.content["volumes"], f"{name} mounts volume {source}"
    used = {mount[0] for service in compose.services.values() for mount in mounts(service)}
    assert set(compose.content["volumes"]) <= used


def test_staging_root_is_where_the_volume_is_mounted(compose: Compose) -> None:
    variables = dict(environment(compose.services["airflow-worker"]))
    targets = [
        target for source, target, *_ in mounts(compose.services["airflow-worker"]) if source == "staging"
    ]
    assert [filled(variables["TIDEPOOL_STAGING_ROOT"] or "")] == targets


def test_staged_data_are_seen_by_few(compose: Compose) -> None:
    seen = {
        name
        for name, service in compose.services.items()
        for source, *_ in mounts(service)
        if source == "staging"
    }
    assert seen == DATA_SERVICES
    (of_api_server,) = (
        mount for mount in compose.services["airflow-apiserver"]["volumes"] if "/staging" in mount
    )
    assert of_api_server.endswith(":ro")


def test_ports_are_bound_to_loopback_and_only_for_the_ui(compose: Compose) -> None:
    published = {name: service["ports"] for name, service in compose.services.items() if "ports" in service}
    assert list(published) == ["airflow-apiserver"]
    for port in published["airflow-apiserver"]:
        assert filled(port) == "127.0.0.1:8080:8080"


def test_what_runs_long_is_watched_limited_and_reaped(compose: Compose) -> None:
    for name, service in running(compose).items():
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name
        assert service["restart"] == "unless-stopped", name


def test_a_slow_machine_has_time_to_start(compose: Compose) -> None:
    for name, service in running(compose).items():
        health = service["healthcheck"]
        assert health["start_period"] == "10m", f"{name} is given up before a slow machine has started it"
        assert health["start_interval"] in ("2s", "5s"), f"{name} is known to be healthy long after it is"


def test_no_health_check_starts_an_airflow(compose: Compose) -> None:
    """That takes seconds of a processor, each time, and times out where the machine is busy."""
    for name, service in running(compose).items():
        asked = " ".join(service["healthcheck"]["test"])
        assert not re.search(r"\bairflow (?!-)|--app airflow|import airflow", asked), name


@pytest.mark.parametrize(
    ("service", "field"), [("airflow-dag-processor", "dag_processor"), ("airflow-triggerer", "triggerer")]
)
@pytest.mark.parametrize("status", ["healthy", "unhealthy", None])
def test_health_of_those_without_a_server_is_read_from_the_api_servers_answer(
    compose: Compose, service: str, field: str, status: str | None
) -> None:
    from airflow.api_fastapi.core_api.datamodels.monitor import HealthInfoResponse

    healthy = {"status": "healthy"}
    beats = {name: f"latest_{name}_heartbeat" for name in ("scheduler", "triggerer", "dag_processor")}
    answer = {"metadatabase": healthy} | {name: healthy | {beat: "now"} for name, beat in beats.items()}
    answer[field] = {"status": status, beats[field]: None}
    given = HealthInfoResponse.model_validate(answer).model_dump_json()
    ask, _, judge = compose.services[service]["healthcheck"]["test"][1].partition(" | ")

    judged = subprocess.run(["sh", "-c", judge], input=given, text=True, check=False)

    assert ask.endswith("http://airflow-apiserver:8080/api/v2/monitor/health")
    assert (judged.returncode == 0) == (status == "healthy")


def test_limits_are_met_by_two_processors(compose: Compose) -> None:
    """An engine refuses to start a container that may use more processors than there are."""
    for name, service in compose.services.items():
        assert float(filled(service["deploy"]["resources"]["limits"]["cpus"])) <= 2, name


def test_limits_of_what_runs_uploads_are_settings(compose: Compose) -> None:
    serving = {
        name
        for name, service in running(compose).items()
        if not service.get("profiles") and name != "log-cleanup"
    }
    assert len(serving) == 7
    for name in serving:
        limits = compose.services[name]["deploy"]["resources"]["limits"]
        own = name.removeprefix("airflow-").replace("-", "_").upper()
        assert limits["cpus"].startswith(f"${{{own}_CPUS:-")
        assert limits["memory"].startswith(f"${{{own}_MEMORY:-")


def test_one_service_builds_the_image_that_the_others_use(compose: Compose) -> None:
    """Each one that builds makes an image of its own, of which all but one lose the tag."""
    builders = [name for name, service in compose.services.items() if "build" in service]
    assert builders == ["airflow-init"]
    image = compose.services["airflow-init"]["image"]
    assert "profiles" not in compose.services["airflow-init"]
    users = {name: service for name, service in compose.services.items() if service["image"] == image}
    assert len(users) > 6
    for name, service in users.items():
        assert service["pull_policy"] == "never", f"{name} looks for the image in a registry"


def test_whatever_ends_is_awaited_by_another(compose: Compose) -> None:
    """Else ``up --wait`` takes its end for a failure, and ends with 1."""
    awaited = {
        other
        for service in compose.services.values()
        for other, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_completed_successfully"
    }
    assert awaited == ONE_SHOT


def test_everything_is_limited_and_has_an_init(compose: Compose) -> None:
    for name, service in compose.services.items():
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}, name
        assert service["init"] is True, name
        assert service["logging"]["options"]["max-size"], name


def test_nothing_runs_as_root_or_may_become_it(compose: Compose) -> None:
    for name, service in compose.services.items():
        user = filled(service["user"]).partition(":")[0]
        assert user not in ("", "0", "root"), name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not service.get("privileged", False), name
        assert "cap_add" not in service, name


def test_practice_is_a_profile_that_nothing_else_needs(compose: Compose) -> None:
    practice = {name for name, service in compose.services.items() if service.get("profiles")}
    assert practice == {"simulator", "sample", "store", "store-sample"}
    for name in compose.services.keys() - practice:
        assert not practice & compose.services[name].get("depends_on", {}).keys(), name


def test_simulator_shares_the_network_of_the_worker(compose: Compose) -> None:
    simulator = compose.services["simulator"]
    mode, _, other = simulator["network_mode"].partition(":")
    assert (mode, other) == ("service", "airflow-worker")
    assert other in simulator["depends_on"]
    assert "ports" not in simulator


def test_simulator_knows_no_secret(compose: Compose) -> None:
    for name in ("simulator", "sample", "store-sample"):
        assert [variable for variable, _ in environment(compose.services[name])] == [
            "CONNECTION_CHECK_MAX_COUNT"
        ]


@pytest.mark.parametrize(
    "name",
    ["AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__API__SECRET_KEY"],
)
def test_one_secret_is_shared_by_every_airflow_service(compose: Compose, name: str) -> None:
    values = {dict(environment(service)).get(name) for service in airflow(compose).values()}
    assert len(values) == 1
    (value,) = values
    assert value is not None
    assert value.startswith("${")
    assert ":?" in value


def test_no_secret_has_a_value(compose: Compose) -> None:
    """What is called a secret is a required variable and nothing else; addresses hold theirs the same way."""
    secret = 0
    for service, (name, value) in (
        (service, entry) for service, each in compose.services.items() for entry in environment(each)
    ):
        if value is None:
            continue
        if name.endswith(("PASSWORD", "SECRET", "_KEY", "REDISCLI_AUTH")):
            secret += 1
            assert value.startswith("${"), f"{service}: {name}"
            assert filled(value) == "", f"{service}: {name} has a default"
        if "://" in value and "@" in value:
            secret += 1
            assert filled(value).partition("@")[0].endswith(":"), f"{service}: {name} holds a password"
    assert secret > 10


def test_images_are_pinned(compose: Compose) -> None:
    for name, service in compose.services.items():
        _, _, tag = service["image"].partition(":")
        assert any(sign.isdigit() for sign in tag), name
        assert tag != "latest", name


def test_keys_of_work_areas_reach_only_those_who_read_them(compose: Compose) -> None:
    holders = {
        name
        for name, service in compose.services.items()
        if "TIDEPOOL_WORK_KEYS" in dict(environment(service))
    }
    assert holders == {"airflow-worker", "airflow-apiserver", "airflow-init"}  # which checks them and ends
