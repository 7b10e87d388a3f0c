"""What a person gives to a command is not staging: it may be a pipe, which can be read only once."""

from __future__ import annotations

import gzip
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from tests.cli.commands import USER, Run, cbg, ndjson

CONTENT = ndjson(*[cbg(time=f"2026-03-01T00:0{minute}:00Z") for minute in range(5)])
KINDS = {"plain": CONTENT, "gz": gzip.compress(CONTENT), "zst": zstandard.compress(CONTENT), "short": b"{}"}


@pytest.fixture
def pipe() -> Iterator[int]:
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as file:
            file.write(CONTENT)

    writer = threading.Thread(target=write)
    writer.start()
    yield reading
    os.close(reading)
    writer.join()


@pytest.mark.parametrize("kind", KINDS)
def test_the_standard_input_is_validated(run: Run, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(KINDS[kind])))

    ran = run("validate", "-")

    assert ran.code == (1 if kind == "short" else 0)
    assert ran.err == ""


def test_a_pipe_is_validated(run: Run, pipe: int) -> None:
    assert run("validate", f"/dev/fd/{pipe}").code == 0


def test_a_pipe_is_staged(run: Run, pipe: int, tmp_path: Path) -> None:
    ran = run("stage", "--user", USER, "--root", tmp_path / "staging", f"/dev/fd/{pipe}")

    (folder,) = ran.lines
    (file,) = Path(folder).glob("*.ndjson.gz")
    assert gzip.decompress(file.read_bytes()) == CONTENT
