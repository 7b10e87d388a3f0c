from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import Run, cbg, ndjson
from tests.timing import PATIENCE_SECONDS
from tidepool_ingest import __version__
from tidepool_ingest.cli import COMMANDS, parser

COMMAND = [sys.executable, "-m", "tidepool_ingest"]


def test_help_names_every_command(run: Run) -> None:
    ran = run("--help")

    assert ran.code == 0
    for name, summary in COMMANDS.items():
        assert f"{name} " in ran.out
        assert summary in ran.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_argument_of_a_command_is_explained(run: Run, command: str) -> None:
    commands: Any = next(action for action in parser(command)._actions if action.dest == "command")
    described = commands.choices[command]
    assert described.description
    assert [action.dest for action in described._actions if not action.help] == []
    ran = run(command, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"usage: tidepool-ingest {command} ")


def test_the_version_is_told(run: Run) -> None:
    assert run("--version").out == f"tidepool-ingest {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ([], "COMMAND"),
        (["download"], "invalid choice"),
        (["upload"], "BATCH|DAY|ROOT"),
        (["validate"], "PATH"),
        (["validate", "a", "--format", "xml"], "invalid choice"),
        (["validate", "a", "--verd"], "unrecognized arguments: --verd. See: tidepool-ingest validate --help"),
        (["simulate", "--port", "65536"], "0 to 65535"),
        (["simulate", "--port", "http"], "0 to 65535"),
        (["simulate", "--latency", "-1"], "zero or more"),
        (["simulate", "--token-lifetime", "nan"], "zero or more"),
        (["stage", "a", "--user", "0123456789"], "--root"),
        (["stage", "a", "--root", "b"], "--user"),
        (["stage", "a", "--user", "0123456789", "--root", "b", "--day", "2026-02-30"], "YYYY-MM-DD"),
        (["sessions", "--limit", "0"], "at least 1"),
        (["sessions", "--state", "lost"], "invalid choice"),
    ],
)
def test_wrong_usage_is_one_line(run: Run, arguments: list[str], what: str) -> None:
    error = run(*arguments).error

    assert what in error
    assert error.startswith("tidepool-ingest")
    assert error.endswith("--help")


def test_an_error_of_the_system_names_the_file(run: Run) -> None:
    assert run("simulate", "--accounts", "nowhere").error == (
        "tidepool-ingest: No such file or directory: nowhere"
    )


def test_a_reader_that_has_seen_enough_ends_it_quietly(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(ndjson(cbg()) * 20_000)
    with subprocess.Popen(
        [*COMMAND, "validate", "--verdicts", tmp_path / "a.ndjson"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b'{"index":0,"accepted":true,"errors":[]}\n'
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(PATIENCE_SECONDS) == 0


@pytest.mark.parametrize(("redirected", "code"), [("a.ndjson >&-", 0), ("nowhere 2>&-", 2)])
def test_an_output_that_is_closed_changes_nothing(tmp_path: Path, redirected: str, code: int) -> None:
    (tmp_path / "a.ndjson").write_bytes(ndjson(cbg()))
    ran = subprocess.run(
        ["sh", "-c", f'"$@" {redirected}', "sh", *COMMAND, "validate"],
        cwd=tmp_path,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )

    assert (ran.returncode, ran.stdout, ran.stderr) == (code, b"", b"")


def test_the_installed_command_ends_with_its_code(tmp_path: Path) -> None:
    ran = subprocess.run(
        [Path(sys.executable).with_name("tidepool-ingest"), "validate", "nowhere"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )

    assert (ran.returncode, ran.stdout) == (2, "")
    assert (
        ran.stderr == "tidepool-ingest: nowhere: There is no such data file [file-missing]. Check the path.\n"
    )


def test_only_the_parser_of_the_command_is_made(run: Run) -> None:
    commands: Any = next(action for action in parser("validate")._actions if action.dest == "command")

    assert list(commands.choices) == ["validate"]
    assert COMMANDS["inspect"] in run("--help", "validate").out


def test_help_comes_without_loading_what_the_commands_need() -> None:
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from tidepool_ingest.cli import parser; parser().format_help(); print(*sys.modules)",
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    ).stdout.split()

    assert "tidepool_ingest.cli" in loaded
    assert {"tidepool_ingest.model", "sqlalchemy", "uvicorn"}.isdisjoint(loaded)
