"""``python -m tests.airflow.fresh_process``: what loading the DAG files and plugins does to a new process.

It prints one JSON object: see :class:`tests.airflow.loading.Loaded`.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]
"""The checkout; not taken from another module, which would be loaded before anything is measured."""

WATCHED = ("json", "logging", "platform", "queue", "select", "signal", "token", "types", "uuid")
"""Modules of the standard library whose names a module of ours could easily have."""


def main() -> None:
    """Load everything and print what it did."""
    # What everything is measured beyond: a process that parses DAG files has loaded this already.
    import airflow.dag_processing.processor
    import airflow.sdk  # noqa: F401

    standard = {name: __import__(name).__file__ for name in WATCHED if hasattr(__import__(name), "__file__")}
    found: dict[str, Any] = {"connections": _watch_connections()}
    before = set(sys.modules)
    gc.disable()
    started = time.process_time()
    dags = [_load(path.stem) for path in sorted((PROJECT / "dags").glob("*.py"))]
    found["cpu_seconds"] = time.process_time() - started
    gc.enable()
    found["modules"] = sorted(set(sys.modules) - before)
    found["connections"] = list(found["connections"])
    found["dags"] = {dag.dag_id: _described(dag) for dag in dags}
    found["plugin_errors"], found["plugins"] = _load_plugins()
    found["replaced"] = [name for name, file in standard.items() if sys.modules[name].__file__ != file]
    json.dump(found, sys.stdout)


def _watch_connections() -> list[str]:
    """Record every attempt to connect a socket, and refuse it."""
    seen: list[str] = []

    def connect(self: socket.socket, address: Any) -> None:
        seen.append(str(address))
        raise OSError("a DAG file opens no connection")

    socket.socket.connect = connect  # type: ignore[method-assign]
    socket.socket.connect_ex = connect  # type: ignore[method-assign,assignment]
    return seen


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"dag_file_{name}", PROJECT / "dags" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.dag


def _described(dag: Any) -> dict[str, Any]:
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.serialization.serialized_objects import DagSerialization

    return {
        "hash": SerializedDagModel.hash(DagSerialization.to_dict(dag)),
        "retries": {task.task_id: task.retries for task in dag.tasks},
        "policies": {task.task_id: type(task.retry_policy).__name__ for task in dag.tasks},
    }


def _load_plugins() -> tuple[dict[str, str], list[str]]:
    from airflow import plugins_manager

    plugins, errors = plugins_manager._get_plugins()
    return dict(errors), [str(plugin.name) for plugin in plugins]


if __name__ == "__main__":
    main()
