"""Exchanges recorded from the Platform's own handlers, played against the simulator."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tidepool_simulator import Simulator


def test_recorded_exchanges_are_answered_as_recorded(
    shared: Path, simulator: Simulator, tmp_path: Path
) -> None:
    roles = tmp_path / "roles.json"
    roles.write_text(json.dumps(simulator.roles()))
    folder = shared / "conformance"
    played = subprocess.run(
        [
            sys.executable,
            folder / "replay.py",
            "--base-url",
            simulator.base_url,
            "--roles",
            roles,
            folder / "http-exchanges.ndjson.gz",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert played.stdout.splitlines()[-1].endswith(" 0 scenarios differ"), played.stdout
