"""Whom to tell when a run fails or takes too long: functions of a team's own, named by environment variables.

A function is named by its dotted path, takes Airflow's context, and has to be importable where it is called.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from typing import Any

from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from tidepool_ingest.errors import IngestError

FAILURE_VARIABLE = "TIDEPOOL_ON_FAILURE"
DEADLINE_VARIABLE = "TIDEPOOL_ON_DEADLINE"
MINUTES_VARIABLE = "TIDEPOOL_DEADLINE_MINUTES"


class NoticeError(IngestError):
    """A function that was named for a notice cannot be called."""


class Named:
    """A function by its path, imported when it is called: a DAG file that is parsed imports nobody's module.

    :param path: ``package.module.function``.
    :param variable: the environment variable that named it.
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
            raise NoticeError(
                f"{self.variable} names a function that cannot be found here.",
                remedy="Give the dotted path of one that takes Airflow's context, in a module that workers "
                "can import.",
                code="notice",
            ) from error
        function(context)


def on_failure() -> list[Named]:
    """Return what is called when a run has failed: ``TIDEPOOL_ON_FAILURE``.

    It belongs to the last task, which fails whenever one of the others has.
    """
    path = os.environ.get(FAILURE_VARIABLE, "")
    return [Named(path, FAILURE_VARIABLE)] if path else []


def deadline() -> DeadlineAlert | None:
    """Return the alert for runs that are not done in time: both other variables, or none.

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
