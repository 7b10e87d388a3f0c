"""A release: one version everywhere, the same wheel each time, and nothing in it but the commit."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from dev import release
from tests import PROJECT
from tests.deployment.files import Compose, dockerfile_lines
from tidepool_ingest import __version__

MOMENT = 1_700_000_000


def copy_of_project(folder: Path) -> Path:
    """Copy what a wheel and its release need, each file written anew."""
    folder.mkdir()
    for name in ("include", "plugins"):
        left_out = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / name, folder / name, copy_function=shutil.copyfile, ignore=left_out)
    for name in (
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "docker-compose.yml",
        ".gitignore",
    ):
        shutil.copyfile(PROJECT / name, folder / name)
    return folder


def test_the_version_is_the_same_everywhere(compose: Compose) -> None:
    version = release.version_of(PROJECT)

    assert __version__ == version
    assert compose.services["airflow-worker"]["image"] == release.image_of(PROJECT)
    assert release.image_of(PROJECT).startswith(f"tidepool-airflow:{version}-airflow")
    assert f"## {version}" in re.findall(r"^## \S+", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)
    named = {
        found
        for page in (PROJECT / "docs").glob("*.md")
        for found in re.findall(r"tidepool_airflow-([\d.]+)-py3", page.read_text())
    }
    assert named == {version}


def test_the_same_wheel_comes_of_other_files_at_another_time(tmp_path: Path) -> None:
    one, another = (copy_of_project(tmp_path / name) for name in ("one", "another"))
    for number, file in enumerate(path for path in another.rglob("*") if path.is_file()):
        os.utime(file, (number, number))
        file.chmod(0o600)

    first, second = (release.wheel_of(folder, folder / "dist", MOMENT) for folder in (one, another))

    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()
    assert release.sha256_of(first) == release.sha256_of(second)
    with zipfile.ZipFile(first) as content:
        assert {info.date_time for info in content.infolist()} == {(2023, 11, 14, 22, 13, 20)}


def git(folder: Path, *arguments: str) -> str:
    named = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"]
    command = ["git", *named, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with the project as its one commit."""
    folder = copy_of_project(tmp_path / "project")
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "All")
    return folder


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``docker`` that writes down what it is asked, first on the path; the file that it writes.

    Its image holds the wheel of ``dist``, or another one if there is a file ``another``.
    """
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "docker").write_text(
        f'#!/bin/sh\necho "$PWD: $*" >> {tmp_path / "asked"}\n'
        f'[ "$1" != run ] || cat {tmp_path}/another {tmp_path}/dist/*.sha256 2>/dev/null || true\n'
    )
    (programs / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "asked"


def without_engine(patch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    programs = tmp_path / "only"
    programs.mkdir()
    (programs / "git").symlink_to(str(shutil.which("git")))
    patch.setenv("PATH", str(programs))


def test_what_is_built_is_the_commit_and_the_digest_is_told(
    repository: Path, engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "include" / "tidepool_ingest" / "not_committed.py").write_text("")

    release.build(repository, tmp_path / "dist")

    (wheel,) = (tmp_path / "dist").glob("*.whl")
    digest = release.sha256_of(wheel)
    assert wheel.name == f"tidepool_airflow-{__version__}-py3-none-any.whl"
    assert (tmp_path / "dist" / f"{wheel.name}.sha256").read_text() == f"{digest}  {wheel.name}\n"
    names = zipfile.ZipFile(wheel).namelist()
    assert "tidepool_ingest/__init__.py" in names
    assert "tidepool_ingest/not_committed.py" not in names
    told = capsys.readouterr().out
    assert f"sha256  {digest}\n" in told
    assert "A trial and no release: what is not committed is not in it." in told
    assert f"A trial and no release: the commit has no tag v{__version__}." in told
    asked = engine.read_text().splitlines()
    assert asked[0].endswith(": info")
    assert f"build --tag {release.image_of(PROJECT)} --label=org.opencontainers.image.version=" in asked[1]
    assert not asked[1].startswith(f"{repository}:"), "the image is of the commit, too"


def test_the_image_holds_the_wheel_that_is_released(
    repository: Path, engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release.build(repository, tmp_path / "dist")

    _, built, asked = engine.read_text().splitlines()
    moment = git(repository, "log", "-1", "--format=%ct").strip()
    assert f" --build-arg=SOURCE_DATE_EPOCH={moment} " in built
    wheel_stage = dockerfile_lines()[dockerfile_lines().index("FROM airflow AS wheel") :]
    assert wheel_stage.index("ARG SOURCE_DATE_EPOCH") < min(
        number for number, line in enumerate(wheel_stage) if "pip wheel" in line
    )
    assert asked.endswith(f"/opt/tidepool/wheel/tidepool_airflow-{__version__}-py3-none-any.whl")
    assert "with the same wheel in it" in capsys.readouterr().out

    (tmp_path / "another").write_text(f"{'0' * 64}  another.whl\n")
    with pytest.raises(release.LocalRunError) as caught:
        release.build(repository, tmp_path / "dist")
    assert caught.value.code == "wheels-differ"


def test_what_is_tagged_and_dated_is_a_release(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = repository / "CHANGELOG.md"
    heading = rf"^## {re.escape(__version__)}.*$"
    dated = re.sub(heading, f"## {__version__} (2026-12-01)", changes.read_text(), flags=re.MULTILINE)
    changes.write_text(dated + "\n")
    git(repository, "commit", "--quiet", "--all", "--message", "Date the release")
    git(repository, "tag", "--annotate", f"v{__version__}", "--message", "It")
    without_engine(monkeypatch, tmp_path)

    release.build(repository, tmp_path / "dist")

    told = capsys.readouterr().out
    assert "trial" not in told
    (line,) = [line for line in told.splitlines() if line.startswith("image")]
    assert line.endswith("was not built: no container engine answers here")


def test_wheels_that_differ_are_no_release(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel_of = release.wheel_of

    def with_the_folder_in_it(folder: Path, output: Path, moment: int) -> Path:
        (folder / "include" / "tidepool_ingest" / "where.py").write_text(f"# {folder}\n")
        return wheel_of(folder, output, moment)

    monkeypatch.setattr(release, "wheel_of", with_the_folder_in_it)

    with pytest.raises(release.LocalRunError) as caught:
        release.build(repository, tmp_path / "dist")

    assert caught.value.code == "wheels-differ"
    assert not (tmp_path / "dist").exists()


def test_what_cannot_be_built_says_why(
    repository: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    (repository / "README.md").unlink()
    git(repository, "commit", "--quiet", "--all", "--message", "Without what describes it")

    with pytest.raises(release.LocalRunError):
        release.build(repository, tmp_path / "dist")

    assert "README" in capfd.readouterr().err


def test_the_command_is_make_release() -> None:
    recipe = (PROJECT / "Makefile").read_text().partition("\nrelease:")[2].partition("\n\n")[0]
    assert "python -m dev.release" in recipe
    ended = subprocess.run(
        [sys.executable, "-m", "dev.release", "--help"], cwd=PROJECT, capture_output=True, check=False
    )
    assert ended.returncode == 0
