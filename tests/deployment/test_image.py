"""The image's recipe: what it copies is there and let in, nothing else is; the wheel holds the project."""

from __future__ import annotations

import shlex
import zipfile
from configparser import ConfigParser
from pathlib import Path

from tests import PROJECT
from tests.deployment.files import dockerfile_lines


def let_in() -> list[str]:
    """Return what .dockerignore lets into the build, having kept out everything."""
    lines = [
        line for line in (PROJECT / ".dockerignore").read_text().splitlines() if line[:1] not in ("", "#")
    ]
    assert lines[0] == "*"
    return [line[1:].rstrip("/") for line in lines if line.startswith("!")]


def copied() -> list[str]:
    """Return what the Dockerfile copies out of the project."""
    sources = []
    for line in dockerfile_lines():
        words = shlex.split(line)
        if words[0] == "COPY" and not any(word.startswith("--from") for word in words):
            sources += [word for word in words[1:-1] if not word.startswith("--")]
    return sources


def test_copies_only_what_is_there_and_let_in() -> None:
    assert len(copied()) > 5
    for source in copied():
        assert (PROJECT / source).exists(), source
        assert Path(source).parts[0] in let_in(), source


def test_lets_in_only_what_is_copied() -> None:
    assert set(let_in()) == {Path(source).parts[0] for source in copied()}


def test_takes_nothing_without_checking_its_hash() -> None:
    installs = [line for line in dockerfile_lines() if "pip install" in line or "pip wheel" in line]
    assert len(installs) == 3
    for line in installs:
        assert "--require-hashes" in line or "--no-index" in line or "--build-constraint" in line, line


def test_does_not_end_as_root() -> None:
    users = [line.split()[1] for line in dockerfile_lines() if line.startswith("USER ")]
    assert users[-1] == "50000:0"


def test_plugins_folder_stays_empty() -> None:
    assert not [line for line in dockerfile_lines() if "/opt/airflow/plugins" in line]
    loose = [path.name for path in (PROJECT / "plugins").glob("*.py")]
    assert loose == ["tidepool_plugin.py"], "another file for Airflow's plugin loader: the image needs it"


def test_wheel_holds_every_file_of_both_packages(wheel: Path) -> None:
    packages = (PROJECT / "include" / "tidepool_ingest", PROJECT / "plugins" / "tidepool_airflow")
    files = {
        path.relative_to(package.parent).as_posix()
        for package in packages
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert len(files) > 50
    assert files <= set(zipfile.ZipFile(wheel).namelist())


def test_wheel_registers_with_airflow_connection_type_and_plugin(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        (name,) = (name for name in content.namelist() if name.endswith(".dist-info/entry_points.txt"))
        entries = ConfigParser()
        entries.read_string(content.read(name).decode())
    target = entries["apache_airflow_provider"]["provider_info"]
    assert target == "tidepool_airflow.provider_info:get_provider_info"
    assert entries["airflow.plugins"]["tidepool"] == "tidepool_airflow.plugin:TidepoolPlugin"
    assert "tidepool-ingest" in entries["console_scripts"]
