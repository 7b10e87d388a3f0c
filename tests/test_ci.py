"""What continuous integration runs a second time does not go unnoticed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import PROJECT

NAMED = "CI: failed at first and passed when run again, a defect to be mended: "

OURS = ("PYTEST_", "MAKE", "MFLAGS")
"""How the environment variables begin that the pytest and the make around these tests have set."""

MAKEFILE = """\
test:
\ttrue
test-all:
\t{test_all}.venv/bin/python -m pytest -m slow
demo:
\t@echo "demo: ok"
"""

TESTS = """\
from pathlib import Path
import pytest

pytestmark = pytest.mark.slow

@pytest.mark.parametrize("how", ["by chance", "not at all"])
def test_it_fails(how):
    been_here = Path("been-here")
    if how == "by chance" and not been_here.exists():
        been_here.touch()
        pytest.fail("the first time")

def test_it_is_broken():
    assert not Path("broken").exists()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with tests and targets of its own, and this project's ``.ci/run``."""
    for folder in (".ci", ".venv/bin", "programs"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(PROJECT / ".ci" / "run", tmp_path / ".ci" / "run")
    (tmp_path / "Makefile").write_text(MAKEFILE.format(test_all=""))
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow: all of them\n")
    # As if they were installed already.
    for program in ("chromium-browser", "google-chrome", "chromium", "redis-server"):
        _script(tmp_path / "programs" / program, "")
    _script(tmp_path / ".venv" / "bin" / "python", f'exec "{sys.executable}" "$@"')
    return tmp_path


def _script(path: Path, command: str) -> None:
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o755)


def _run(project: Path) -> tuple[int, list[str]]:
    """Run it, and return its status and the lines of its output and its errors, in their order."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    environment["PATH"] = f"{project / 'programs'}:{os.environ['PATH']}"
    ended = subprocess.run(
        [project / ".ci" / "run"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout.splitlines()


def test_what_passes_when_run_again_is_named_at_the_very_end(project: Path) -> None:
    status, lines = _run(project)

    assert status == 0, lines
    assert lines[-2:] == ["demo: ok", f"{NAMED}test_it.py::test_it_fails[by chance]"]
    assert any("1 failed, 2 passed" in line for line in lines)
    assert any("1 passed in" in line for line in lines)


def test_nothing_is_named_where_nothing_failed(project: Path) -> None:
    (project / "been-here").touch()

    status, lines = _run(project)

    assert (status, lines[-1]) == (0, "demo: ok")
    assert not any(NAMED in line for line in lines)


def test_what_fails_again_fails_it(project: Path) -> None:
    (project / "broken").touch()

    status, lines = _run(project)

    assert status != 0
    assert "demo: ok" not in lines
    assert not any(NAMED in line for line in lines)


def test_what_is_not_a_test_is_not_run_again(project: Path) -> None:
    """Tests that failed in an earlier run must not stand in for what failed now, which is no test."""
    (project / "Makefile").write_text(MAKEFILE.format(test_all="false\n\t"))
    cache = project / ".pytest_cache" / "v" / "cache"
    cache.mkdir(parents=True)
    (cache / "lastfailed").write_text('{"test_it.py::test_it_fails[by chance]": true}')

    status, lines = _run(project)

    assert status != 0
    assert "demo: ok" not in lines
