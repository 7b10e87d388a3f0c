"""The command line as a user meets it: arguments in, lines and an exit code out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tidepool_ingest.cli import main

USER = "0123456789"
DEVICE = "DexG6-SN1234567"
CBG = {"type": "cbg", "time": "2026-03-01T00:00:00Z", "deviceId": DEVICE, "units": "mmol/L", "value": 6.5}


def cbg(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in (CBG | changes).items() if value is not None}


def ndjson(*records: Any) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def error(self) -> str:
        """The one line that tells of wrong use; nothing else was printed."""
        return self._line_of(2)

    @property
    def refusal(self) -> str:
        """The one line that tells what was refused or has failed; nothing else was printed."""
        return self._line_of(1)

    @property
    def told(self) -> str:
        """The one line that tells an error of either kind; nothing else was printed."""
        return self._line_of(self.code)

    def _line_of(self, code: int) -> str:
        assert (self.code, self.out) == (code, ""), self
        assert code in (1, 2)
        (line,) = self.err.splitlines()
        return line


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command in this process, in an empty folder and with no settings in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TIDEPOOL_LEDGER", raising=False)
    monkeypatch.delenv("TIDEPOOL_STAGING_ROOT", raising=False)

    def run(*arguments: object) -> Ran:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as ending:
            code = int(ending.code or 0)
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return run
