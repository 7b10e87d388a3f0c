"""A command as a user meets it: arguments in, lines and an exit code out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
