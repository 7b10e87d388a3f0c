"""The deployment's files, read once."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

from tests import PROJECT
from tests.deployment.files import Compose


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
