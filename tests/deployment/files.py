"""The deployment's files, and what stands in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from tests import PROJECT

PINNED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[^]]*\])?==(?P<version>[^\s;]+)", re.MULTILINE)


def pins() -> dict[str, str]:
    return {
        found["name"]: found["version"]
        for found in PINNED.finditer((PROJECT / "requirements.txt").read_text())
    }


def airflow_pin() -> str:
    found = re.search(r"^apache-airflow==(\S+)$", (PROJECT / "requirements.in").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def options() -> set[tuple[str, str]]:
    """Return section and key of every option of Airflow and of the providers in use."""
    import airflow

    written = Path(airflow.__file__).parent / "config_templates" / "config.yml"
    sections: list[dict[str, Any]] = [yaml.safe_load(written.read_text())]
    for provider in ("celery", "fab"):
        module = import_module(f"airflow.providers.{provider}.get_provider_info")
        sections.append(module.get_provider_info()["config"])
    return {
        (section, key) for each in sections for section, content in each.items() for key in content["options"]
    }


def airflow_settings(compose: Compose) -> dict[str, str]:
    return {
        name: value
        for service in compose.services.values()
        for name, value in environment(service)
        if name.startswith("AIRFLOW__") and value is not None
    }


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
