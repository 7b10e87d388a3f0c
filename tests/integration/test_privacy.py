"""Nothing that belongs to a person stands in a log line or in an error, whatever happens to the batch."""

from __future__ import annotations

import hashlib
import json
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.factories import cbg, readings
from tests.integration.canaries import (
    DEVICE,
    GOOD,
    KEY,
    REFUSED,
    VALUE,
    nothing_private,
    secrets_of,
    settings,
    stage,
    told_by,
)
from tests.world import Listener, World
from tidepool_ingest.cli import main
from tidepool_simulator.faults import Fault


def test_of_a_whole_run(world: World, listener: Listener) -> None:
    stage(world, [*GOOD, *REFUSED])

    outcome = world.run(max_quarantined_percent=50)

    assert len(outcome.uploaded) == 1
    assert len(listener.lines) > 10
    assert len(world.quarantine(outcome.plan.batches[0])) == len(REFUSED)
    assert nothing_private(world, outcome, listener)


def change(**manifest: Any) -> Callable[[World], Any]:
    return lambda world: stage(world, GOOD, **manifest)


def text(content: str) -> Callable[[World], Any]:
    return lambda world: (stage(world, GOOD) / "manifest.json").write_text(content)


def lock_out(world: World) -> None:
    name = next(account.name for account in world.simulator.accounts if account.id == world.user)
    world.simulator.accounts.grant("service", of=name, permissions=())
    stage(world, GOOD)


def fault(struck: Fault) -> Callable[[World], Any]:
    def plant(world: World) -> None:
        world.simulator.faults.add(struck)
        stage(world, GOOD)

    return plant


FAILURES: dict[str, tuple[str, Callable[[World], Any]]] = {
    "too many refused": ("too-many-refused", lambda world: stage(world, REFUSED)),
    "implausible unit": (
        "glucose-units-implausible",
        lambda world: stage(world, [cbg(at, VALUE, deviceId=DEVICE, units="mg/dL") for at in range(9)]),
    ),
    "broken manifest": ("manifest-malformed", text('{"canary": "canary-value", ')),
    "unknown key": ("manifest-malformed", change(canaryKey="canary-value")),
    "wrong type": ("manifest-malformed", change(replaces=["canary-value"])),
    "user of another": ("manifest-user", change(userId="0123456789")),
    "bad file name": ("file-name", change(files=[{"name": "../canary-file", "format": "ndjson"}])),
    "missing file": ("file-missing", change(files=[{"name": "canary-file.ndjson", "format": "ndjson"}])),
    "wrong digest": ("file-sha256", change(file={"sha256": "0" * 64})),
    "bad body": ("data-set-body", change(data_set={"version": "1", "canaryField": "canary-value"})),
    "unknown deduplicator": ("deduplicator", change(data_set={"deduplicator": {"name": "org.canary.none"}})),
    "connection": ("connection-not-allowed", change(connection="canary_connection")),
    "no permission": ("tidepool-permission", lock_out),
    "rejected by Tidepool": ("tidepool-unreachable", fault(Fault.refused("post", 500, times=None))),
    "create lost": ("tidepool-unreachable", fault(Fault.lost_answer("create"))),
    "busy": ("tidepool-busy", fault(Fault.refused("close", 429, retry_after="30"))),
    "token refused": ("tidepool-authentication", fault(Fault.refused("create", 401, times=None))),
    "cut answer": ("tidepool-unreachable", fault(Fault(operation="read-back", answer="reset-body"))),
}


@pytest.mark.parametrize(("code", "spoil"), FAILURES.values(), ids=FAILURES.keys())
def test_of_a_run_that_fails(
    world: World, listener: Listener, code: str, spoil: Callable[[World], Any]
) -> None:
    spoil(world)

    outcome = world.run()

    assert outcome.codes == [code]
    assert nothing_private(world, outcome, listener)


def test_of_what_tidepool_refuses_by_name_and_value(
    world: World, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = json.dumps(settings(basalSchedules={KEY: [{"start": 7, "rate": 7.654321}]})).encode()
    stage(world, GOOD)
    monkeypatch.setattr(
        "tidepool_ingest.staging.work_area.WorkArea.read_chunk",
        lambda area, chunk: [refused] * chunk.records,
    )

    outcome = world.run()

    assert outcome.codes == ["too-many-refused"]
    (error,) = outcome.errors.values()
    assert KEY not in "".join(traceback.format_exception(error))
    assert KEY not in repr(pickle.loads(pickle.dumps(error)))
    assert not any(KEY in line or "654321" in line for line in listener.lines)


def test_of_the_labels_that_stand_for_a_batch(world: World) -> None:
    stage(world, [*readings(3)], data_set={"deviceModel": "Model 5"})

    (number,) = world.plan().batches

    assert not [secret for secret in secrets_of(world) if secret in world.row(number).label]


@pytest.mark.parametrize("failure", ["unknown key", "wrong digest"])
def test_of_what_the_terminal_of_a_command_alone_names(
    world: World,
    listener: Listener,
    failure: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, spoil = FAILURES[failure]
    spoil(world)
    (folder,) = [path.parent for path in Path(str(world.root)).glob("*/*/*/manifest.json")]
    (file,) = folder.glob("*.ndjson*")
    quoted = "canaryKey" if failure == "unknown key" else hashlib.sha256(file.read_bytes()).hexdigest()

    outcome = world.run()

    (error,) = outcome.errors.values()
    assert quoted not in told_by(world, outcome, listener)
    assert quoted not in str(world.row(outcome.plan.batches[0]))
    assert (error.on_terminal, error.typed) == ("", "")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    assert main(["validate", str(folder)]) == 1
    assert quoted in capsys.readouterr().err
