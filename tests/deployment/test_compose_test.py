"""What `make compose-test` decides by itself, without an engine: images, pip settings, when it stops."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, cast

import pytest
from dev.compose_test import __main__ as compose_test
from dev.compose_test import base_images
from dev.compose_test.engine import Engine
from dev.compose_test.stack import Stack, command_for_s3, hindrances, summary_of
from dev.compose_test.walk import STEPS, Step
from dev.home import LocalRunError

from tests.deployment.files import Compose, dockerfile_lines


class FakeEngine:
    """An engine that has images, and can or cannot pull."""

    def __init__(self, *, registry: bool, images: dict[str, str] | None = None) -> None:
        self.registry = registry
        self.images = images or {}
        self.made: list[str] = []

    def image(self, name: str) -> str | None:
        return self.images.get(name)

    def status(self, *arguments: str) -> int:
        verb, *_, name = arguments
        if verb == "pull" and self.registry:
            self.images[name] = f"pulled {name}"
        if verb == "rmi":
            del self.images[name]
        return 0 if verb == "rmi" or self.registry else 1

    def docker(self, *arguments: str) -> str:
        if arguments[0] == "tag":
            _, source, name = arguments
            self.images[name] = self.images[source]
        if arguments[0] == "build":
            name = arguments[arguments.index("--tag") + 1]
            self.images[name] = f"made {name}"
            self.made.append(name)
        return ""


def test_base_images_are_those_of_dockerfile_and_compose_file(compose: Compose) -> None:
    found = set(base_images.base_images())

    (airflow,) = {line.split()[1] for line in dockerfile_lines() if line.startswith("FROM apache/")}
    assert found == {airflow, *(compose.services[name]["image"] for name in ("postgres", "redis", "store"))}
    for name in found:
        recipe = base_images.stand_in_for(name).rpartition("/")[2].partition(":")[0]
        assert (base_images.RECIPES / f"{recipe}.Dockerfile").is_file()


def available(engine: FakeEngine, folder: Path, said: list[str]) -> Any:
    return base_images.available(cast(Engine, engine), ("redis:7", "postgres:16"), folder, said.append)


def test_images_of_a_registry_are_used_where_it_can_be_reached(tmp_path: Path) -> None:
    engine, said = FakeEngine(registry=True), list[str]()

    with available(engine, tmp_path, said) as what:
        assert what == "those of the registry"

    assert set(engine.images) == {"redis:7", "postgres:16"}
    assert not said


def test_stand_ins_have_the_names_of_base_images_only_while_they_are_needed(tmp_path: Path) -> None:
    engine, said = FakeEngine(registry=False, images={base_images.DEBIAN: "debian"}), list[str]()

    with available(engine, tmp_path, said) as what:
        assert what == "stand-ins for redis:7, postgres:16"
        assert engine.images["redis:7"] == engine.images["tidepool-stand-in/redis:7"]

    assert not {"redis:7", "postgres:16"} & engine.images.keys()
    assert "no registry can be reached" in said[0]


def test_a_stand_in_that_an_earlier_run_has_left_behind_is_not_taken_for_the_image(tmp_path: Path) -> None:
    left = {"redis:7": "made", "tidepool-stand-in/redis:7": "made", "postgres:16": "loaded by hand"}
    engine = FakeEngine(registry=False, images=left)

    with available(engine, tmp_path, []) as what:
        assert what == "stand-ins for redis:7"

    assert engine.images == {"tidepool-stand-in/redis:7": "made", "postgres:16": "loaded by hand"}
    assert not engine.made


def test_a_stand_in_is_of_the_version_that_it_stands_for(tmp_path: Path) -> None:
    engine = FakeEngine(registry=False, images={base_images.DEBIAN: "debian"})

    for version in ("7", "8"):
        with base_images.available(cast(Engine, engine), [f"redis:{version}"], tmp_path, lambda _: None):
            assert engine.images[f"redis:{version}"] == f"made tidepool-stand-in/redis:{version}"


def test_pip_in_a_container_gets_no_folders_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = (
        "global.cert='/etc/ssl/here.crt'\n"
        "global.extra-index-url='file:///opt/here https://index.example/simple'\n"
        "global.find-links='/opt/wheels'\n"
    )
    answer = subprocess.CompletedProcess((), 0, stdout=listed)
    monkeypatch.setattr(base_images.subprocess, "run", lambda *_, **__: answer)

    configuration, certificates = base_images.pip_configuration()

    assert configuration.splitlines() == [
        "[global]",
        "extra-index-url = https://index.example/simple",
        f"cert = /etc/{base_images.CERTIFICATES}",
    ]
    assert certificates == Path("/etc/ssl/here.crt")


CHECKED = [
    " Container tidepool-airflow-init-run-1  Created",
    "check: AIRFLOW_PORT in .env is no port: give a number from 1 to 65535.",
    "\x1b[2Kpreflight: REDIS_PASSWORD is not set: add it to .env, as .env.example says.",
]


def test_what_is_in_the_way_is_read_from_both_checks() -> None:
    assert [line.split()[0] for line in hindrances(CHECKED)] == ["AIRFLOW_PORT", "REDIS_PASSWORD"]
    assert not hindrances(CHECKED[:1])


class SilentCheck:
    """An engine under which docker/check.sh ends without a line that says what is in the way."""

    def complaints(self, *_: str) -> tuple[int, list[str]]:
        return 1, ["Cannot connect to the Docker daemon."]


def test_a_check_that_names_nothing_is_told_with_the_last_line_that_it_printed() -> None:
    stack = Stack.__new__(Stack)
    stack.engine, stack.settings_file, stack.profile = cast(Engine, SilentCheck()), Path("env"), "practice"

    with pytest.raises(LocalRunError, match="The last line that it printed: Cannot connect to the Docker"):
        stack.in_the_way()


@pytest.mark.parametrize("lost", ["lost 1, double 0", "lost 0, double 2", "lost 0, double 01"])
def test_a_summary_has_to_say_that_nothing_is_lost_or_double(lost: str) -> None:
    assert summary_of("…\nchecker: 5 staged, lost 0, double 0\n") == "5 staged, lost 0, double 0"
    with pytest.raises(LocalRunError):
        summary_of(f"checker: lost 0, double 0\nchecker: 5 staged, {lost}\n")


@pytest.mark.parametrize("begins", ["practice run", "practice exec"])
def test_a_command_of_the_manual_for_s3_has_its_settings(begins: str) -> None:
    script = command_for_s3(begins)

    assert script.count("\npractice ") == 1
    assert f"\n{begins} " in script
    assert script.startswith("store='--env AWS_")
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)


def test_the_walk_ends_with_the_first_step_that_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    walked = []

    def step(title: str, *, holds: bool) -> Step:
        def work(_: Stack) -> str:
            walked.append(title)
            if not holds:
                raise LocalRunError("Something is lost.", remedy="Look.", code="lost")
            return "noted"

        return Step(title, work)

    steps = (step("one", holds=True), step("two", holds=False), step("three", holds=True))
    monkeypatch.setattr(compose_test, "STEPS", steps)
    rows: list[tuple[object, ...]] = []

    assert not compose_test.walk(cast(Stack, None), rows)
    assert walked == ["one", "two"]
    assert [(title, result) for title, _, result, _ in rows] == [("one", "ok"), ("two", "FAILED")]
    assert "Something is lost." in str(rows[-1][-1])


def test_the_last_step_takes_everything_down() -> None:
    assert STEPS[-1].title.startswith("down --volumes")
