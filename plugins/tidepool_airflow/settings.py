"""What a deployment sets by environment variables, read once when a DAG file is parsed."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from tidepool_ingest.options import BATCHES_A_PACK, BATCHES_ALONE, QUARANTINE_DAYS, WORK_DAYS


def default_args() -> dict[str, Any]:
    """Return what the tasks of every upload DAG have in common."""
    return {
        "retries": retries(),
        "retry_delay": retry_delay(),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=30),
        "allowed_conn_ids": allowed_connections(),
    }


def upload_args() -> dict[str, Any]:
    """Return what every upload task has besides: how many requests it sends at once, counted by its pool."""
    return {
        "parallel_chunks": parallel_chunks(),
        "pool": pool(),
        "pool_slots": parallel_chunks(),
    }


def plan_args() -> dict[str, int]:
    """Return how the plan of every upload DAG divides batches among tasks.

    ``TIDEPOOL_BATCHES_ALONE``, or 100: up to so many, each has a mapped task of its own.
    ``TIDEPOOL_BATCHES_A_PACK``, or 50: where there are more, so many share one.
    """
    return {
        "batches_alone": int(os.environ.get("TIDEPOOL_BATCHES_ALONE", BATCHES_ALONE)),
        "batches_a_pack": int(os.environ.get("TIDEPOOL_BATCHES_A_PACK", BATCHES_A_PACK)),
    }


def allowed_connections() -> list[str]:
    """Return which other connections a manifest may name: ``TIDEPOOL_ALLOWED_CONNECTIONS``, by commas."""
    return [
        name.strip() for name in os.environ.get("TIDEPOOL_ALLOWED_CONNECTIONS", "").split(",") if name.strip()
    ]


def parallel_chunks() -> int:
    """Return how many chunks of one data set go out at the same time: ``TIDEPOOL_PARALLEL_CHUNKS``, or 4.

    Each upload task takes as many slots of its pool.
    """
    return int(os.environ.get("TIDEPOOL_PARALLEL_CHUNKS", "4"))


def pool() -> str:
    """Return the Airflow pool of the upload tasks: ``TIDEPOOL_POOL``, or Airflow's own ``default_pool``.

    Airflow never starts a task whose pool does not exist, so that one of your own is named, not assumed.
    """
    return os.environ.get("TIDEPOOL_POOL", "default_pool")


def retries() -> int:
    """Return how often a task is tried again: ``TIDEPOOL_RETRIES``, or three times."""
    return int(os.environ.get("TIDEPOOL_RETRIES", "3"))


def retry_delay() -> timedelta:
    """Return the pause before a retry, doubled each time: ``TIDEPOOL_RETRY_SECONDS``, or two minutes."""
    return timedelta(seconds=float(os.environ.get("TIDEPOOL_RETRY_SECONDS", "120")))


def answer_within() -> timedelta:
    """Return how long a task waits for a person's decision: ``TIDEPOOL_ANSWER_HOURS``, or a day."""
    return timedelta(hours=float(os.environ.get("TIDEPOOL_ANSWER_HOURS", "24")))


def watch_seconds() -> float:
    """Return the pause between two looks for new manifests: ``TIDEPOOL_WATCH_SECONDS``, or a minute."""
    return float(os.environ.get("TIDEPOOL_WATCH_SECONDS", "60"))


def keep_work_days() -> int:
    """Return how long accepted records of batches that are done are kept: ``TIDEPOOL_KEEP_WORK_DAYS``, or 30.

    0 keeps them for ever.
    """
    return int(os.environ.get("TIDEPOOL_KEEP_WORK_DAYS", WORK_DAYS))


def keep_quarantine_days() -> int:
    """Return how long refused records are kept: ``TIDEPOOL_KEEP_QUARANTINE_DAYS``, or 365; 0 for ever."""
    return int(os.environ.get("TIDEPOOL_KEEP_QUARANTINE_DAYS", QUARANTINE_DAYS))
