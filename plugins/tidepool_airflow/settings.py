"""What a deployment sets by environment variables, read once when a DAG file is parsed."""

from __future__ import annotations

import os
from datetime import timedelta


def allowed_connections() -> list[str]:
    """Return which other connections a manifest may name: ``TIDEPOOL_ALLOWED_CONNECTIONS``, by commas."""
    return [
        name.strip() for name in os.environ.get("TIDEPOOL_ALLOWED_CONNECTIONS", "").split(",") if name.strip()
    ]


def retries() -> int:
    """Return how often a task is tried again: ``TIDEPOOL_RETRIES``, or three times."""
    return int(os.environ.get("TIDEPOOL_RETRIES", "3"))


def retry_delay() -> timedelta:
    """Return the pause before a retry, doubled each time: ``TIDEPOOL_RETRY_SECONDS``, or two minutes."""
    return timedelta(seconds=float(os.environ.get("TIDEPOOL_RETRY_SECONDS", "120")))
