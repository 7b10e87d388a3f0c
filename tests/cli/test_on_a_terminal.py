"""What only the terminal of a command shows: how far it has come, and what may quote a file."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import DEVICE, USER, Run, cbg, ndjson
from tests.timing import PATIENCE_SECONDS
from tidepool_ingest.cli import main, progress

COMMAND = [sys.executable, "-m", "tidepool_ingest"]


class Screen:
    """A pseudo-terminal that is the standard error of a command, and what was written to it."""

    def __init__(self) -> None:
        self._ours, theirs = pty.openpty()
        self.stream = os.fdopen(theirs, "w", encoding="utf-8")
        self._written: list[bytes] = []
        self.shown = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._ours, 4096)
            except OSError:  # the other end was closed
                return
            if not piece:
                return
            self._written.append(piece)
            if b"read" in piece or b"record" in piece or b"%" in piece or b"MB" in piece:
                self.shown.set()

    def text(self) -> str:
        """Return all of it, once nobody writes any more."""
        self.stream.close()
        self._reader.join(PATIENCE_SECONDS)
        return b"".join(self._written).decode()


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    made = Screen()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(progress, "AFTER_SECONDS", 0.0)
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.01)
    yield made
    made.stream.close()


def feed(fifo: Path, first: bytes, rest: bytes, screen: Screen) -> threading.Thread:
    """Write to a named pipe; the rest only once something is shown."""

    def write() -> None:
        with fifo.open("wb") as file:
            file.write(first)
            file.flush()
            assert screen.shown.wait(PATIENCE_SECONDS)
            file.write(rest)

    writer = threading.Thread(target=write)
    writer.start()
    return writer


LINES = [cbg(time=f"2026-03-01T{hour:02}:{minute:02}:00Z") for hour in range(24) for minute in range(60)]


@pytest.mark.parametrize(
    "command",
    [("validate",), ("inspect",), ("convert",), ("stage", "--user", USER, "--root", "staging")],
    ids=lambda command: command[0],
)
def test_a_terminal_shows_how_far_a_command_has_come(
    screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr("sys.stderr", screen.stream)
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    content = ndjson(*LINES)
    writer = feed(Path("pipe"), content[:5000], content[5000:], screen)

    assert main([command[0], "pipe", *command[1:]]) == 0

    writer.join(PATIENCE_SECONDS)
    text = screen.text()
    assert "\r\x1b[Kpipe: 0.0 MB" in text
    # Nothing of it stays.
    assert text[: text.rindex("\x1b[K")].endswith("\r")
    assert "MB" not in text[text.rindex("\x1b[K") :]


@pytest.mark.parametrize(
    ("name", "value"), [("TERM", "dumb"), ("TERM", "")], ids=["a dumb terminal", "one of no type"]
)
def test_a_terminal_that_cannot_rewrite_a_line_shows_none(
    screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setattr("sys.stderr", screen.stream)
    monkeypatch.setenv(name, value)
    (tmp_path / "a.ndjson").write_bytes(ndjson(*LINES))

    assert main(["validate", str(tmp_path / "a.ndjson")]) == 0

    assert screen.text() == ""


def test_what_is_piped_shows_none(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "AFTER_SECONDS", 0.0)
    (tmp_path / "a.ndjson").write_bytes(ndjson(*LINES))

    assert run("validate", "a.ndjson").err == ""


def test_a_line_names_records_rate_and_time_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tidepool_ingest.cli.given import given

    for name in ("a", "b"):
        (tmp_path / f"{name}.ndjson").write_bytes(b"x" * 1000)
    shown = progress.Progress(given([str(tmp_path / "a.ndjson"), str(tmp_path / "b.ndjson")]))
    shown._sizes = [1000, 1000]
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    shown._watch.begin("a")
    shown._watch.add(500)
    now = 5.0
    assert shown.line(200).endswith("a.ndjson: 50%, 0:15 left")
    shown._watch.add_records(12_000)
    assert shown.line(200).endswith("a.ndjson: 12,000 records, 2,400 a second, 0:15 left")
    assert shown.line(200).startswith("1 of 2, ")
    assert len(shown.line(60)) <= 60
    shown._things = shown._things[:1]
    assert shown.line(60).endswith("a.ndjson: 12,000 records, 0:15 left")
    shown._things = given([str(tmp_path / "a.ndjson"), str(tmp_path / "b.ndjson")])
    shown._watch.begin("a")  # once more, from its beginning
    shown._watch.add(1000)
    shown.at(1)
    shown._sizes = [1000, None]
    assert shown.line(200).endswith("b.ndjson: 0.0 MB")


# ---------------------------------------------------------------- what may quote a file


def spoilt(folder: Path, **changes: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "a.ndjson").write_bytes(ndjson(cbg()))
    file = {"name": "a.ndjson", "format": "ndjson"}
    manifest = {
        "userId": USER,
        "dataSet": {"deviceId": DEVICE},
        "files": [file | dict(changes.pop("file", {}))],
    }  # type: ignore[call-overload]
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))
    return folder


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"canaryKey": 1, "other\x1bKey": 2}, 'Not known: "canaryKey", "other\\u001bKey".'),
        ({"file": {"sha256": "0" * 64}}, "The sha256 that was found is "),
    ],
    ids=["key", "digest"],
)
def test_the_terminal_alone_names_what_may_quote_a_file(
    run: Run, tmp_path: Path, changes: dict[str, object], shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = spoilt(tmp_path / "batch", **changes)

    assert shown not in run("validate", folder).refusal
    assert shown not in run("validate", folder, "--json").out

    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen.stream)
    assert main(["validate", str(folder)]) == 1
    assert shown in screen.text()


# ---------------------------------------------------------------- what an encoding lacks


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"},
    ],
    ids=["ascii", "no UTF-8 at all"],
)
def test_nothing_fails_because_of_an_encoding(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "größe.ndjson").write_bytes(ndjson(cbg(), cbg(value=7, deviceId=None)))
    arguments = ["--user", USER, "--root", "wurzel-ü", "--device-id", "other"]
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))
    }
    ended = subprocess.run(
        [*COMMAND, "stage", "größe.ndjson", *arguments],
        cwd=tmp_path,
        env=kept | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.splitlines()) == 2
    assert b"Staged 2 batches" in ended.stderr
    assert len(list((tmp_path / "wurzel-ü").glob("*/*/*/manifest.json"))) == 2


def test_process_substitution_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(ndjson(cbg()))
    (tmp_path / "b.ndjson").write_bytes(ndjson(cbg(value=7), cbg(value=2000)))
    command = " ".join(COMMAND)
    ended = subprocess.run(
        ["bash", "-c", f"{command} validate <(cat a.ndjson) <(gzip < b.ndjson) --json"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )

    first, second = json.loads(ended.stdout)["validated"]
    assert (ended.returncode, first["accepted"], second["rejected"]) == (1, 1, 1)
    assert first["name"].startswith("/dev/fd/")


def test_a_stream_that_is_no_text_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(ndjson(cbg()))
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)

    assert main(["validate", str(tmp_path / "a.ndjson")]) == 0
    assert "1 accepted" in out.getvalue()


def test_a_mapping_and_who_is_who_may_be_pipes(tmp_path: Path, run: Run) -> None:
    mapping = {
        "time": {"column": "When", "format": "iso"},
        "deviceId": {"column": "Serial", "prefix": "S-"},
        "records": [{"record": {"type": "cbg", "units": "mg/dL", "value": {"column": "Glucose"}}}],
    }
    table = b"PtID,When,Serial,Glucose\n17,2026-03-05T07:00:00,A,112\n17,2026-03-05T07:05:00,A,115\n"
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_bytes(table)
    os.mkfifo("map")
    os.mkfifo("who")
    zone = ("--timezone", "Europe/London", "--mapping", "map")

    def written(pipe: str, content: bytes) -> threading.Thread:
        writer = threading.Thread(target=Path(pipe).write_bytes, args=(content,))
        writer.start()
        return writer

    writers = [written("map", json.dumps(mapping).encode())]
    assert run("validate", "a.csv", "b.csv", *zone).code == 0
    writers += [written("map", json.dumps(mapping).encode()), written("who", f"P,U\n17,{USER}\n".encode())]
    ran = run("stage", "a.csv", *zone, "--split-by", "PtID", "--users", "who", "--root", "staging")
    assert (ran.code, len(ran.lines)) == (0, 1)
    for writer in writers:
        writer.join(PATIENCE_SECONDS)
