"""The time zone names that the Platform knows."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Final

_PART: Final = "[A-Z][A-Za-z0-9_+-]*"
_NAME: Final = re.compile(f"{_PART}(?:/{_PART})*")


@cache
def timezone_names() -> frozenset[str]:
    """Return the names, from the pinned ``tzdata`` package rather than from this machine's zone files.

    The Platform takes every file below its ``zoneinfo`` folder whose path has capitalised parts (P:
    time/zone/zone.go); so ``EST``, ``Zulu`` and ``Etc/GMT+8`` are names, ``posixrules`` and ``PST`` are not.
    """
    listed = (files("tzdata") / "zones").read_text(encoding="utf-8").split()
    return frozenset(name for name in listed if _NAME.fullmatch(name))
