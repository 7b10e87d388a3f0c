"""How each command ends, as docs/command-line.md has it: with 0, 1 or 2."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import PROJECT, happenings
from tests.cli.commands import DEVICE, USER, Run, cbg, ndjson
from tests.world import World, a_world
from tidepool_ingest.cli import COMMANDS

TO = f"--root staging --user {USER}"
BATCH = f"staging/2026-03-01/{USER}/b"
DEAD = "--ledger postgresql://nobody@127.0.0.1:1/x"

CASES = (
    ("inspect good.ndjson", 0),
    ("inspect bad.ndjson", 1),
    ("inspect empty.ndjson", 1),
    (f"inspect good.ndjson {DEAD}", 1),
    ("inspect nowhere", 2),
    ("inspect good.ndjson --nonsense", 2),
    ("validate good.ndjson", 0),
    (f"validate {BATCH}", 0),
    ("validate bad.ndjson", 1),
    ("validate good.ndjson empty.ndjson", 1),
    ("validate broken", 1),
    ("validate broken/manifest.json", 1),
    ("validate good.ndjson --device-id other --set deviceId=null", 1),
    ("validate nowhere", 2),
    ("validate good.ndjson nowhere", 2),
    ("validate good.ndjson --mapping nowhere", 2),
    ("validate good.ndjson --device-tag pump", 2),
    (f"validate {BATCH} --format json", 2),
    ("convert good.ndjson", 0),
    ("convert empty.ndjson", 1),
    ("convert broken", 1),
    ("convert nowhere", 2),
    ("convert good.ndjson --serial 1", 2),
    (f"stage good.ndjson {TO}", 0),
    (f"stage empty.ndjson {TO}", 1),
    (f"stage good.ndjson empty.ndjson {TO}", 1),
    (f"stage other.ndjson {TO} --day 2026-03-01 --batch-id b", 1),
    (f"stage good.ndjson --root good.ndjson --user {USER}", 1),
    ("stage good.ndjson --root staging --user bob", 2),
    (f"stage {BATCH} {TO}", 2),
    (f"stage good.ndjson {TO} --set units", 2),
    (f"stage good.ndjson --root s4://nowhere --user {USER}", 2),
    ("upload none --ledger LEDGER --connection CONNECTION", 0),
    (f"upload staging --connection CONNECTION {DEAD}", 1),
    ("upload staging --connection CONNECTION", 2),
    ("upload staging --ledger LEDGER --connection nowhere", 2),
    ("upload nowhere --ledger LEDGER --connection CONNECTION", 2),
    ("upload staging --ledger nonsense --connection CONNECTION", 2),
    ("upload staging --ledger LEDGER --connection CONNECTION --max-quarantined-percent 101", 2),
    ("people none --connection CONNECTION", 0),
    ("people staging --connection CONNECTION", 1),
    ("people nowhere --connection CONNECTION", 2),
    ("people staging/2026-03-01 --connection CONNECTION", 2),
    ("people --connection nowhere", 2),
    ("people --connection good.ndjson", 2),
    ("retract feed --root staging", 2),
    (f"retract {BATCH} --root staging", 1),
    ("retract --root staging", 2),
    ("simulate --port PORT", 1),
    ("simulate --accounts good.ndjson", 1),
    ("simulate --accounts nowhere", 2),
    ("simulate --port 70000", 2),
    ("sessions --ledger LEDGER", 0),
    (f"sessions {DEAD}", 1),
    ("sessions --ledger nonsense", 2),
    ("sessions --limit 0", 2),
    ("inactive --ledger LEDGER", 0),
    (f"inactive {DEAD}", 1),
    ("inactive --today tomorrow", 2),
    ("cleanup --root staging --ledger LEDGER --dry-run", 0),
    (f"cleanup --root staging {DEAD}", 1),
    ("cleanup --root staging --ledger sqlite:///nowhere.db", 2),
    ("cleanup --ledger LEDGER", 2),
    ("ledger throttles --ledger LEDGER", 0),
    (f"ledger throttles {DEAD}", 1),
    ("ledger rebuild --root staging --ledger LEDGER --connection nowhere", 2),
    ("ledger", 2),
    (f"erase --user {USER} --root staging --ledger LEDGER", 0),
    (f"erase --user {USER} --root staging {DEAD}", 1),
    ("erase --user bob --root staging --ledger LEDGER", 2),
)


@pytest.fixture(scope="module")
def shared_world(tmp_path_factory: pytest.TempPathFactory, empty_ledger: Path) -> Iterator[World]:
    with a_world(tmp_path_factory.mktemp("world"), empty_ledger, World) as made:
        yield made


@pytest.fixture(scope="module")
def address(shared_world: World) -> str:
    """The address of an empty ledger."""
    return shared_world.ledger_address


@pytest.fixture(scope="module")
def connection(shared_world: World) -> str:
    """A file with a connection to a simulated Tidepool."""
    file = shared_world.folder / "connection.json"
    file.touch(0o600)
    file.write_text(happenings.connection(shared_world))
    return str(file)


@pytest.fixture
def desk(tmp_path: Path, run: Run, address: str, connection: str) -> Iterator[dict[str, str]]:
    """Files and a ledger, and what the words in capitals stand for."""
    (tmp_path / "good.ndjson").write_bytes(ndjson(cbg()))
    (tmp_path / "other.ndjson").write_bytes(ndjson(cbg(value=7)))
    (tmp_path / "bad.ndjson").write_bytes(ndjson(cbg(value=2000)))
    (tmp_path / "empty.ndjson").write_bytes(b"")
    (tmp_path / "none").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_text("{")
    batch = tmp_path / BATCH
    batch.mkdir(parents=True)
    (batch / "a.ndjson").write_bytes(ndjson(cbg()))
    files = [{"name": "a.ndjson", "format": "ndjson"}]
    (batch / "manifest.json").write_text(
        json.dumps({"userId": USER, "dataSet": {"deviceId": DEVICE}, "files": files})
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield {"LEDGER": address, "CONNECTION": connection, "PORT": str(taken.getsockname()[1])}


@pytest.mark.parametrize(("words", "code"), CASES, ids=[words for words, _ in CASES])
def test_a_command_ends_as_it_is_documented(run: Run, desk: dict[str, str], words: str, code: int) -> None:
    ran = run(*(desk.get(word, word) for word in words.split()))

    assert ran.code == code, ran
    assert "Traceback" not in ran.err
    if code == 2:
        assert len(ran.err.splitlines()) == 1
        assert ran.out == ""


def test_each_command_is_tried_and_documented() -> None:
    page = (PROJECT / "docs" / "command-line.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|[^|]*\|[^|]*\|$", page, re.MULTILINE)
    assert set(rows) == set(COMMANDS)
    for name in COMMANDS:
        codes = {code for words, code in CASES if words.split()[0] == name}
        # `simulate` ends well only when it is told to stop, and `retract` takes a batch that was uploaded.
        assert codes >= ({1, 2} if name in ("simulate", "retract") else {0, 1, 2}), name


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_the_exit_codes_mean(run: Run, command: str) -> None:
    said = " ".join(run(command, "--help").out.split())

    assert "0 all went well, 1 something was refused or has failed" in said
    assert "2 wrong use" in said
