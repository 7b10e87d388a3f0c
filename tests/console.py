"""The commands that documents show: the blocks marked ``console``, with what they print."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ELLIPSIS = "…"
"""Stands in an output for whatever is there: alone on a line for any number of lines."""

_BLOCK = re.compile(r"^( *)```console\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


_FILE = re.compile(r"^```\w+ (\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass
class Command:
    """A command as somebody types it.

    :param text: without the prompt; over several lines if its lines end in a backslash.
    :param output: the lines that the document shows below it.
    """

    text: str
    output: list[str] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        return self.text.split()


def blocks_of(document: Path) -> list[list[Command]]:
    """Return the commands of each block of a document."""
    found = []
    for block in _BLOCK.finditer(document.read_text()):
        lines = (line.removeprefix(block[1]) for line in block[2].splitlines())
        found.append(list(_commands(lines)))
    return found


def files_of(document: Path) -> dict[str, str]:
    """Return the files that a document shows, by the names that it gives them."""
    return {file[1]: file[2] for file in _FILE.finditer(document.read_text())}


def _commands(lines: Iterator[str]) -> Iterator[Command]:
    command: Command | None = None
    for line in lines:
        if command is not None and command.text.endswith("\\"):
            command.text += f"\n{line}"
        elif line.startswith("$ "):
            if command is not None:
                yield command
            command = Command(line.removeprefix("$ "))
        elif command is None:
            raise AssertionError(f"an output without a command: {line}")
        else:
            command.output.append(line)
    if command is not None:
        yield command


def shows(shown: Sequence[str], printed: str) -> bool:
    """Return whether an output is the one that a document shows."""
    parts = [
        "(?:.*\n)*"
        if line.strip() == ELLIPSIS
        else ".*".join(map(re.escape, line.rstrip().split(ELLIPSIS))) + " *\n"
        for line in shown
    ]
    return re.fullmatch("".join(parts), printed if printed.endswith("\n") else f"{printed}\n") is not None
