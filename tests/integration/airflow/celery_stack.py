"""The production shape as plain processes: Redis, Celery workers on machines of their own, an S3 store."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from dev.components import airflow_command
from dev.home import Databases
from dev.processes import LocalProcess, end

from tests.integration.airflow.deployment import Deployment
from tests.ports import free_port
from tests.servers import serving

REDIS = "redis-server"
UPLOADS_QUEUE = "uploads"
DEFAULT_QUEUE = "default"

BUCKET = "tidepool-staging"
STAGING_ROOT = f"s3://staging_store@{BUCKET}/batches"

POLICY = f'''
def task_policy(task):
    """Send uploads to a queue of their own, as docs/deployment.md says."""
    if task.task_id.endswith("upload"):
        task.queue = "{UPLOADS_QUEUE}"
'''
"""``airflow_local_settings``, where a deployment gives Airflow its own rules."""

MACHINE = '''
import os


def name():
    """Name the machine that this process plays to be on."""
    return os.environ.get("MACHINE", "server")
'''
"""What Airflow asks for the name of the machine that a task runs on."""


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Run a Redis server, and return its address; the test is skipped where none is installed."""
    program = shutil.which(REDIS)
    if program is None:
        pytest.skip(
            "redis-server is not installed (apt-get install redis-server): Celery workers, staging on s3:// "
            "and a worker lost between the two were not tested"
        )
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    with serving(command, port, folder / "redis.log"):
        yield f"redis://127.0.0.1:{port}/0"


def store_connection(endpoint: str) -> dict[str, object]:
    """Return the Airflow connection to the S3 store."""
    extra = {"endpoint_url": endpoint, "region_name": "us-east-1"}
    return {"conn_type": "aws", "login": "any-key", "password": "any-secret", "extra": extra}


def celery_settings(first: Path, *, databases: Databases, broker: str, store: str) -> dict[str, str]:
    """Return what makes an Airflow one of Celery workers, with staging in the S3 store.

    :param first: folder for modules that each of its processes finds before all others.
    """
    (first / "airflow_local_settings.py").write_text(POLICY)
    (first / "machine.py").write_text(MACHINE)
    return {
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CORE__HOSTNAME_CALLABLE": "machine.name",
        "AIRFLOW__CELERY__BROKER_URL": broker,
        "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{databases.airflow}",
        "AIRFLOW_CONN_STAGING_STORE": json.dumps(store_connection(store)),
        "TIDEPOOL_STAGING_ROOT": STAGING_ROOT,
    }


@dataclass
class Workers:
    """The Celery workers of an Airflow, each as if it were the only process of a machine."""

    deployment: Deployment
    running: dict[str, LocalProcess] = field(default_factory=dict)

    def start(self, machine: str, queue: str) -> None:
        """Start a worker; what is in its queue waits for it."""
        airflow = self.deployment.airflow
        self.running[machine] = LocalProcess(
            airflow_command(
                *("celery", "worker", "--queues", queue, "--concurrency", "2"),
                *("--celery-hostname", machine, "--skip-serve-logs"),
                *("--pid", str(airflow.logs / f"{machine}.pid")),
            ),
            environment={**os.environ, **airflow.settings, "MACHINE": machine},
            log=airflow.logs / f"worker-{machine}.log",
        )

    def kill(self, machine: str) -> None:
        """Let a machine lose its power: the worker and each task on it are gone at once."""
        self.running.pop(machine).signal(signal.SIGKILL)

    def end(self) -> None:
        end([*self.running.values()])
