"""What the processes of a schedule report to its supervisor: a file of lines, which outlives them."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path


class Journal:
    """A file of lines, each written in one piece.

    :param path: the file; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, line: str) -> None:
        """Append a line."""
        opened = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(opened, f"{line}\n".encode())
        finally:
            os.close(opened)

    def counts(self) -> Counter[str]:
        """Return how often each line was written."""
        return Counter(self._path.read_text().splitlines() if self._path.exists() else ())
