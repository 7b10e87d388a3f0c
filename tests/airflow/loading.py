"""DAG files and plugins as a new process loads them, once for all tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

from dev.home import PROJECT


@dataclass(frozen=True)
class Loaded:
    """What a new process found.

    :param cpu_seconds: processor time that loading the DAG files took.
    :param modules: modules that they loaded, beyond those of Airflow's own process that parses DAG files.
    :param connections: sockets that they tried to connect.
    :param dags: by id: hash of the serialized form, retries and retry policy of each task.
    :param plugin_errors: what Airflow's plugin loader could not import.
    :param plugins: the plugins it found.
    :param replaced: modules of the standard library that are others afterwards.
    """

    cpu_seconds: float
    modules: list[str]
    connections: list[str]
    dags: dict[str, dict[str, Any]]
    plugin_errors: dict[str, str]
    plugins: list[str]
    replaced: list[str]


def _start(hash_seed: str) -> subprocess.Popen[str]:
    # As a deployment has it: without the settings that the other tests make.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("TIDEPOOL_")}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.airflow.fresh_process"],
        cwd=PROJECT,
        env={**plain, "PYTHONHASHSEED": hash_seed},
        stdout=subprocess.PIPE,
        text=True,
    )


def _ended(process: subprocess.Popen[str]) -> Loaded:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return Loaded(**json.loads(output.splitlines()[-1]))


@cache
def loaded() -> tuple[Loaded, Loaded]:
    """Load everything in two new processes, whose sets and dicts of strings are ordered differently."""
    first, second = [_ended(process) for process in (_start("1"), _start("2"))]
    return first, second
