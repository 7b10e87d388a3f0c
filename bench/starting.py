"""What it costs to start a command, and what the whole process of ``validate`` costs beside parsing.

CPU seconds of child processes, from their start to their end, the best of several rounds. The measure of a
start is that of a bare interpreter, and of a whole process ``json.loads`` of the same records; both are
measured between the rounds, since what else loads the machine slows all alike.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.result import Result
from bench.validation import json_microseconds

from tidepool_ingest.ledger import Ledger

ROUNDS = 10
WHOLE_ROUNDS = 3
USER = "0123456789"
HEADINGS = ("measured", "bare ms", "start ms", "times")

BARE = ("-c", "pass")
COMMAND = ("-m", "tidepool_ingest")


class Start(NamedTuple):
    """The start of a command.

    :param command: the command.
    :param bare: CPU seconds of a bare interpreter.
    :param own: those of the command with one record.
    """

    command: str
    bare: float
    own: float

    @property
    def times(self) -> float:
        """How many times as long the command takes."""
        return self.own / self.bare


def measure_starts(lines: list[bytes]) -> list[tuple[object, ...]]:
    """Measure the start of commands with one record, beside a bare interpreter's.

    :param lines: records as from an uploader.
    """
    with tempfile.TemporaryDirectory(prefix="tidepool-bench-") as folder:
        starts = list(_starts(Path(folder), lines[0]))
    return [
        (
            f"start: {start.command}",
            *(round(seconds * 1e3, 1) for seconds in start[1:]),
            round(start.times, 1),
        )
        for start in starts
    ]


def _starts(folder: Path, line: bytes) -> Iterator[Start]:
    data, ledger = folder / "one.ndjson", f"sqlite:///{folder}/ledger.db"
    data.write_bytes(line + b"\n")
    opened = Ledger(ledger)
    opened.migrate()
    opened.close()
    for command, arguments in (
        ("validate", (str(data),)),
        ("stage", (str(data), "--user", USER, "--device-id", "a-device", "--root", str(folder / "staging"))),
        ("inspect", (str(data),)),
        ("sessions", ("--ledger", ledger)),
    ):
        bare, own = [], []
        for _ in range(ROUNDS):
            shutil.rmtree(folder / "staging", ignore_errors=True)
            bare.append(_seconds(BARE))
            own.append(_seconds((*COMMAND, command, *arguments)))
        yield Start(command, min(bare), min(own))


def measure_whole_validate(lines: list[bytes]) -> Iterator[Result]:
    """Measure ``validate`` on a plain file, the whole process, beside ``json.loads`` of its records.

    :param lines: records as from an uploader.
    """
    parsing, own = [json_microseconds(lines, rounds=WHOLE_ROUNDS)], []
    with tempfile.TemporaryDirectory(prefix="tidepool-bench-") as folder:
        data = Path(folder) / "records.ndjson"
        data.write_bytes(b"\n".join(lines) + b"\n")
        for _ in range(WHOLE_ROUNDS):
            own.append(_seconds((*COMMAND, "validate", str(data))))
            parsing.append(json_microseconds(lines, rounds=WHOLE_ROUNDS))
    yield Result(
        what="validate, whole process",
        records=len(lines),
        rejected=0,
        json_microseconds=min(parsing),
        microseconds=min(own) * 1e6 / len(lines),
    )


def _seconds(arguments: Sequence[str]) -> float:
    """Run an interpreter to its end; return its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Bytecode is kept, as an installation has it, whatever this process does.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(
        [sys.executable, *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
