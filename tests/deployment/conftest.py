"""The deployment's files, read once."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import PROJECT

PLACEHOLDER = re.compile(r"\$\{(?P<name>\w+)(?::(?P<how>[?-])(?P<other>(?:[^${}]|\$\{[^}]*\})*))?\}")
"""``${NAME}``, ``${NAME:-default}`` or ``${NAME:?message}``; one default may stand within another."""


@dataclass(frozen=True)
class Compose:
    """The compose file.

    :param text: as it is written, without comments.
    :param content: as it is read, anchors resolved.
    """

    text: str
    content: dict[str, Any]

    @property
    def services(self) -> dict[str, dict[str, Any]]:
        services: dict[str, dict[str, Any]] = self.content["services"]
        return services

    @property
    def required(self) -> set[str]:
        """Variables without which Compose refuses to start."""
        return {found["name"] for found in PLACEHOLDER.finditer(self.text) if found["how"] == "?"}

    @property
    def optional(self) -> dict[str, str]:
        """Variables that may be left out, and what holds then; those passed through as they are have none."""
        found = {
            each["name"]: each["other"] for each in PLACEHOLDER.finditer(self.text) if each["how"] == "-"
        }
        passed = {
            name
            for service in self.services.values()
            for name, value in environment(service)
            if value is None
        }
        return found | dict.fromkeys(passed, "")


def environment(service: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Return a service's environment."""
    return [
        (name, None if value is None else str(value))
        for name, value in service.get("environment", {}).items()
    ]


def filled(text: str, values: dict[str, str] | None = None) -> str:
    """Return a text of the compose file with its variables filled in as Compose does."""
    given = values or {}
    while PLACEHOLDER.search(text):
        text = PLACEHOLDER.sub(
            lambda found: given.get(found["name"]) or (found["other"] if found["how"] == "-" else ""), text
        )
    return text.replace("$$", "$")


def settings(text: str, *, commented: bool) -> dict[str, str]:
    """Return the settings of an env file.

    :param text: the file's text.
    :param commented: those that are commented out, instead of the others.
    """
    mark = "#" if commented else ""
    return dict(re.findall(rf"^{mark}([A-Z][A-Z0-9_]*)=(.*)$", text, flags=re.MULTILINE))


def dockerfile_lines(project: Path = PROJECT) -> list[str]:
    """Return the Dockerfile's instructions, one a line."""
    lines = (project / "Dockerfile").read_text().splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


@pytest.fixture(scope="session")
def compose() -> Compose:
    written = (PROJECT / "docker-compose.yml").read_text()
    text = re.sub(r"(^|\s)#.*$", "", written, flags=re.MULTILINE)
    return Compose(text, yaml.safe_load(written))


@pytest.fixture(scope="session")
def env_example() -> str:
    return (PROJECT / ".env.example").read_text()


@pytest.fixture(scope="session")
def manual() -> str:
    return (PROJECT / "docs" / "deployment.md").read_text()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as a wheel, built from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def plain_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that is installed here but this project: a plain Airflow, as a team has it."""
    folder = tmp_path_factory.mktemp("site")
    for name in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(name).iterdir():
            ours = "tidepool" in entry.name
            if not ours and entry.suffix != ".pth" and entry.name != "__pycache__":
                (folder / entry.name).symlink_to(entry)
    return folder
