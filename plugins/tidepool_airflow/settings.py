"""What a deployment sets: environment variables, the staging root, the ledger, and who is notified.

Most of it is read when a DAG file is parsed, so this module imports little of the library. Functions that are
called when a run fails or misses its deadline are a team's own: they are named by their dotted paths, take
Airflow's context, and have to be importable wherever they are called.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from airflow.sdk import BaseHook
from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference
from airflow.sdk.exceptions import AirflowNotFoundException

from tidepool_ingest.errors import IngestError
from tidepool_ingest.options import BATCHES_A_PACK, BATCHES_ALONE, QUARANTINE_DAYS, WORK_DAYS

if TYPE_CHECKING:
    from upath import UPath

    from tidepool_ingest.ledger import Ledger

ROOT_VARIABLE = "TIDEPOOL_STAGING_ROOT"
"""Environment variable with the staging root."""

FAILURE_VARIABLE = "TIDEPOOL_ON_FAILURE"
DEADLINE_VARIABLE = "TIDEPOOL_ON_DEADLINE"
MINUTES_VARIABLE = "TIDEPOOL_DEADLINE_MINUTES"

DEFAULT_LEDGER_CONN_ID = "tidepool_ledger"

# ---------------------------------------------------------------- arguments of the tasks


def default_args() -> dict[str, Any]:
    """Return the arguments that the tasks of every upload DAG share."""
    return {
        "retries": retries(),
        "retry_delay": retry_delay(),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=30),
        "allowed_conn_ids": allowed_connections(),
    }


def plan_args() -> dict[str, int]:
    """Return how the plan of every upload DAG divides batches among tasks.

    ``TIDEPOOL_BATCHES_ALONE``, or 100: up to this many batches, each has a mapped task of its own.
    ``TIDEPOOL_BATCHES_A_PACK``, or 50: if there are more, this many share one.
    """
    return {
        "batches_alone": int(os.environ.get("TIDEPOOL_BATCHES_ALONE", BATCHES_ALONE)),
        "batches_a_pack": int(os.environ.get("TIDEPOOL_BATCHES_A_PACK", BATCHES_A_PACK)),
    }


def upload_args() -> dict[str, Any]:
    """Return the further arguments of every upload task: how many requests it sends at once, and its pool."""
    return {
        "parallel_chunks": parallel_chunks(),
        "pool": pool(),
        "pool_slots": parallel_chunks(),
    }


def allowed_connections() -> list[str]:
    """Return the other connections that a manifest may name: ``TIDEPOOL_ALLOWED_CONNECTIONS``, by commas."""
    return [
        name.strip() for name in os.environ.get("TIDEPOOL_ALLOWED_CONNECTIONS", "").split(",") if name.strip()
    ]


def parallel_chunks() -> int:
    """Return how many chunks an upload task sends at the same time: ``TIDEPOOL_PARALLEL_CHUNKS``, or 4.

    The task takes as many slots of its pool.
    """
    return int(os.environ.get("TIDEPOOL_PARALLEL_CHUNKS", "4"))


def pool() -> str:
    """Return the Airflow pool of the upload tasks: ``TIDEPOOL_POOL``, or Airflow's own ``default_pool``.

    Airflow never starts a task whose pool does not exist, so none but Airflow's own is assumed.
    """
    return os.environ.get("TIDEPOOL_POOL", "default_pool")


def retries() -> int:
    """Return how often a task is retried: ``TIDEPOOL_RETRIES``, or three times."""
    return int(os.environ.get("TIDEPOOL_RETRIES", "3"))


def retry_delay() -> timedelta:
    """Return the pause before a retry, doubled each time: ``TIDEPOOL_RETRY_SECONDS``, or two minutes."""
    return timedelta(seconds=float(os.environ.get("TIDEPOOL_RETRY_SECONDS", "120")))


def answer_within() -> timedelta:
    """Return how long a task waits for a person's decision: ``TIDEPOOL_ANSWER_HOURS``, or a day."""
    return timedelta(hours=float(os.environ.get("TIDEPOOL_ANSWER_HOURS", "24")))


def watch_seconds() -> float:
    """Return how often staging is checked for new manifests: ``TIDEPOOL_WATCH_SECONDS``, or every minute."""
    return float(os.environ.get("TIDEPOOL_WATCH_SECONDS", "60"))


def keep_work_days() -> int:
    """Return how many days accepted records of finished batches are kept: ``TIDEPOOL_KEEP_WORK_DAYS``, or 30.

    0 keeps them for ever.
    """
    return int(os.environ.get("TIDEPOOL_KEEP_WORK_DAYS", WORK_DAYS))


def keep_quarantine_days() -> int:
    """Return how many days rejected records stay: ``TIDEPOOL_KEEP_QUARANTINE_DAYS``, or 365; 0 for ever."""
    return int(os.environ.get("TIDEPOOL_KEEP_QUARANTINE_DAYS", QUARANTINE_DAYS))


# ---------------------------------------------------------------- who is notified


class NoticeError(IngestError):
    """A function that a deployment names to be notified cannot be called."""

    code = "notice"
    sentence = "a function that was named for a notice cannot be found"
    remedy = "Give the dotted path of one that takes Airflow's context, in a module that workers can import."


class NamedCallback:
    """A function by its path, imported when it is called: parsing a DAG file imports nobody's module.

    :param path: ``package.module.function``.
    :param variable: the environment variable that names it.
    """

    def __init__(self, path: str, variable: str) -> None:
        self.path = path
        self.variable = variable

    def __call__(self, context: dict[str, Any]) -> None:
        """Call it.

        :raises NoticeError: if there is no such function.
        """
        module, _, name = self.path.rpartition(".")
        try:
            function: Callable[[Any], Any] = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise NoticeError(f"{self.variable} names a function that cannot be found here.") from error
        function(context)


def on_failure() -> list[NamedCallback]:
    """Return what is called when a run has failed: ``TIDEPOOL_ON_FAILURE``.

    It belongs to the last task, which fails whenever one of the others has.
    """
    path = os.environ.get(FAILURE_VARIABLE, "")
    return [NamedCallback(path, FAILURE_VARIABLE)] if path else []


def deadline() -> DeadlineAlert | None:
    """Return the alert for runs that take too long, if ``TIDEPOOL_ON_DEADLINE`` and the minutes are set.

    The time counts from when a run is queued: a run that somebody triggers may have no logical date.
    """
    path, minutes = os.environ.get(DEADLINE_VARIABLE, ""), os.environ.get(MINUTES_VARIABLE, "")
    if not (path and minutes):
        return None
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(minutes=float(minutes)),
        callback=SyncCallback(path),
        name="tidepool_run",
    )


# ---------------------------------------------------------------- the staging root


def staging_root(address: str | None = None) -> UPath:
    """Return the folder that holds the day folders.

    :param address: a path, or an fsspec URL, optionally with an Airflow connection in it, as in
        ``s3://my_aws_connection@bucket/tidepool``. If not given: the environment variable
        ``TIDEPOOL_STAGING_ROOT``, or else ``staging`` in Airflow's own folder.
    """
    from airflow.sdk import ObjectStoragePath
    from upath import UPath

    address = address or os.environ.get(ROOT_VARIABLE) or str(_airflow_home() / "staging")
    if "://" not in address:
        return UPath(Path(address).expanduser().absolute())
    # It behaves like a UPath in every way, but its class is not derived from it.
    return cast("UPath", ObjectStoragePath(address))


def root_of_batch(folder: str, otherwise: str | None = None) -> UPath:
    """Return the staging root that a batch was prepared in: its run may have been given another one.

    :param folder: where the batch was staged, as the ledger keeps it.
    :param otherwise: the root to take if this machine has no such folder, because storage is mounted
        elsewhere here; the deployment's own if not given.
    """
    root = folder.rsplit("/", 3)[0]
    return staging_root(root if "://" in root or Path(root).is_dir() else otherwise)


# ---------------------------------------------------------------- the ledger


def open_ledger(conn_id: str = DEFAULT_LEDGER_CONN_ID) -> Ledger:
    """Return the ledger that a connection names, its tables migrated to this version.

    Without a connection ``tidepool_ledger`` the ledger is a SQLite file in Airflow's own folder, which is
    enough for one machine.

    :param conn_id: an Airflow connection to a PostgreSQL or SQLite database of the ledger's own.
    """
    from tidepool_ingest.ledger import Ledger

    ledger = Ledger(ledger_address(conn_id))
    ledger.migrate()
    return ledger


def ledger_address(conn_id: str = DEFAULT_LEDGER_CONN_ID) -> str:
    """Return the address of the ledger's database; see :func:`open_ledger`."""
    try:
        address = BaseHook.get_connection(conn_id).get_uri()
    except AirflowNotFoundException:
        if conn_id != DEFAULT_LEDGER_CONN_ID:
            raise
        address = f"sqlite:///{_airflow_home() / 'tidepool_ledger.db'}"
    return _as_sqlalchemy(address)


def _as_sqlalchemy(uri: str) -> str:
    """Turn a connection's URI into a database URL: Airflow writes SQLite paths with slashes of its own."""
    if not uri.startswith("sqlite:"):
        return uri
    path = unquote(uri.removeprefix("sqlite:")).lstrip("/")
    return f"sqlite:////{path}"


def _airflow_home() -> Path:
    return Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
