"""What the logs of a run's tasks tell: cause and remedy first, and no traceback for data."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from airflow.sdk.exceptions import AirflowSkipException

from tests.airflow.world import AirflowWorld
from tests.factories import found, meter_readings, row
from tidepool_airflow.errors import TidepoolBatchesRemainingError, TidepoolRunFailedError, causes_told
from tidepool_airflow.operators import TidepoolPlanOperator, TidepoolReportOperator
from tidepool_ingest.ledger import BatchState, Ledger
from tidepool_ingest.ledger.states import IllegalTransitionError
from tidepool_ingest.plan import Plan
from tidepool_ingest.reports.run import Report
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.window import Window


class Told(list[tuple[str, str, bool]]):
    """Level, text and whether there was a traceback, of each line that a task's own loggers wrote."""

    def add(self, _logger: Any, method: str, event: dict[str, Any]) -> Mapping[str, Any]:
        text = str(event["event"])
        if arguments := event.get("positional_args"):
            text %= arguments
        self.append((event.get("level", method), text, bool(event.get("exc_info"))))
        raise structlog.DropEvent

    def of(self, level: str) -> list[str]:
        return [text for given, text, _traced in self if given == level]

    @property
    def traced(self) -> list[str]:
        return [text for _level, text, traced in self if traced]


@contextmanager
def listening() -> Iterator[Told]:
    """Hear what structlog is given, behind what this project has put there, and leave all as it was."""
    told, processors = Told(), structlog.get_config()["processors"]
    before = list(processors)
    processors[:] = [told.add]
    try:
        yield told
    finally:
        processors[:] = before


# ---------------------------------------------------------------- one error


def told_of(error: BaseException, *, label: str = "", level: int = logging.INFO) -> Told:
    """Return what a task's log has of an error, as Airflow's task runner logs it."""
    log = structlog.get_logger("task")
    logging.getLogger("airflow").setLevel(level)
    with listening() as told:
        try:
            with causes_told(log, {"label": label}):
                raise error
        except BaseException:
            log.exception("Task failed with exception")
    return told


@pytest.fixture(autouse=True)
def _level() -> Iterator[None]:
    logger = logging.getLogger("airflow")
    before = logger.level
    yield
    logger.setLevel(before)


def test_cause_and_remedy_are_two_lines_and_there_is_no_traceback() -> None:
    told = told_of(BatchError("file-missing", batch="2026-03-05/abc"))

    cause, remedy, airflows = told.of("error")
    assert cause == "batch 2026-03-05/abc: a file named in manifest.json is missing [file-missing]."
    assert remedy.startswith("What to do: ")
    assert airflows == "Task failed with exception"
    assert told.traced == []


def test_the_batch_is_named_where_the_error_does_not() -> None:
    named, *_ = told_of(BatchError("file-missing"), label="2026-03-05 Meter abcdef0123").of("error")
    assert named.startswith("2026-03-05 Meter abcdef0123: ")

    error = BatchError("file-missing", batch="2026-03-05/abcdef0123")
    once, *_ = told_of(error, label="2026-03-05 Meter abcdef0123").of("error")
    assert once.startswith("batch 2026-03-05/abcdef0123: ")


def test_a_traceback_is_there_for_who_debugs_and_for_what_may_be_our_fault() -> None:
    assert told_of(BatchError("file-missing"), level=logging.DEBUG).traced
    assert told_of(IllegalTransitionError("batch", "gone", "verified")).traced


def test_an_unknown_error_has_two_lines_before_its_traceback_and_no_value_in_them() -> None:
    told = told_of(KeyError("canary"))

    *ours, _airflows = told.of("error")
    assert ours[0] == "This task has met an error that it does not know: KeyError."
    assert ours[1].startswith("What to do: clear it to try again")
    assert "canary" not in "".join(ours)
    assert told.traced == ["Task failed with exception"]


def test_a_skipped_task_has_no_error() -> None:
    told = told_of(AirflowSkipException("Nothing to do."))

    assert told.of("error") == ["Task failed with exception"], "as written by this test"


# ---------------------------------------------------------------- what the report fails with


def test_failed_batches_are_counted_and_not_tasks() -> None:
    rows = (
        row(1, state=BatchState.VERIFIED),
        row(2, state=BatchState.FAILED, reason="file-missing"),
        row(3, state=BatchState.PREPARED),
    )
    tasks = ["batch.prepare_1", "batch.upload_1"]
    report = Report(rows, {})

    assert TidepoolRunFailedError(tasks, report, 2).what == (
        "2 of 3 batches of this run are not done. Batches: 1 failed, 1 prepared, 1 verified."
    )
    assert "1 of 3 batches of this run would not be uploaded." in str(
        TidepoolRunFailedError(tasks, report, 1, dry_run=True)
    )
    assert TidepoolRunFailedError(["plan"], Report((), {}), 0).what == (
        "This run has processed no batch: 1 task failed (plan)."
    )
    assert "though 1 task failed (remaining)" in str(TidepoolRunFailedError(["remaining"], report, 0))
    assert TidepoolBatchesRemainingError(1, report).what.startswith("1 of 3 batches that this run took up is")


# ---------------------------------------------------------------- whole runs


def test_a_run_with_every_kind_of_failure_reads_well(
    world: AirflowWorld, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="tidepool_ingest")
    world.stage(meter_readings(20))
    (world.stage(meter_readings(3), batch="broken", device="broken") / "manifest.json").write_text("{")
    world.stage([{"type": "smbg"}] * 10, batch="bad", device="bad")
    world.stage(meter_readings(3), user="0123456789", batch="of-a-stranger")
    with listening() as told:
        assert world.run_dag().state == "failed"

    assert told.traced == []
    errors = told.of("error")
    assert len([text for text in errors if text.startswith("What to do: ")]) == 4, "3 batches, and the report"
    assert "3 of 4 batches of this run are not done. Batches: 2 failed, 1 held, 1 verified." in errors
    assert len([text for text in errors if text.startswith("1 batch, ")]) == 3
    infos = told.of("info")
    headings = next(at for at, text in enumerate(infos) if text.startswith("batch  "))
    results = [re.split("  +", text)[1] for text in infos[headings + 2 : headings + 6]]
    assert results == ["failed", "failed", "held", "verified"]
    assert told.of("warning") == []
    everything = [text for _level, text, _traced in told] + caplog.messages
    assert not [text for text in everything if "None of None" in text or "{'" in text]


# ---------------------------------------------------------------- warnings


class TaskInstance:
    """A task of a DAG that has so many runs queued or running, this one among them."""

    dag_id = "dag"

    def __init__(self, runs: int) -> None:
        self.runs = runs

    def get_dr_count(self, dag_id: str, states: list[str]) -> int:
        assert (dag_id, states) == ("dag", ["queued", "running"])
        return self.runs


def context_of(runs: int, run_type: str = "scheduled", **params: Any) -> Any:
    return {"ti": TaskInstance(runs), "dag_run": SimpleNamespace(run_type=run_type), "params": params}


@pytest.mark.parametrize(("runs", "level"), [(1, "warning"), (3, "info")])
def test_days_outside_are_warned_of_unless_other_runs_may_take_them(runs: int, level: str) -> None:
    day = date(2026, 3, 5)
    plan = Plan(Window(day, day), days_outside=[str(day - timedelta(days=n)) for n in range(1, 31)])
    with listening() as told:
        TidepoolPlanOperator(task_id="plan")._tell_days_outside(context_of(runs), plan)

    ((given, text, _traced),) = told
    assert given == level
    assert text.startswith("Ready batches wait outside 2026-03-05, in 30 day folders")
    assert ("2026-03-04" in text) == (level == "warning")


@pytest.fixture
def stopped(tmp_path: Any) -> Iterator[Ledger]:
    """A ledger in which a device has sent its last batch two weeks ago, and all were uploaded just now."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.migrate()
    today = datetime.now(UTC).date()
    for ago in range(14, 22):
        name, day = f"batch-{ago}", today - timedelta(days=ago)
        batch = ledger.batches.register(
            found(content_key=name.ljust(64, "x"), batch_id=name, folder=f"/{name}", device_id="d", day=day)
        )
        ledger.batch_days.replace_for_batch(batch.id, {day: {"cbg": 288}})
    yield ledger
    ledger.close()


@pytest.mark.parametrize(
    ("context", "named"),
    [
        (context_of(1), 1),
        (context_of(2), 0),
        (context_of(1, "manual"), 1),
        (context_of(1, "backfill"), None),
        (context_of(1, "manual", first_day="2026-03-05"), None),
    ],
    ids=["daily", "beside a backfill", "by hand", "of a backfill", "for a day"],
)
def test_a_device_in_the_middle_of_its_backfill_is_not_called_inactive(
    stopped: Ledger, context: Any, named: int | None
) -> None:
    report = TidepoolReportOperator(task_id="report", packs=[])
    with listening() as told:
        summary = report._inactive(context, stopped)

    assert summary.get("silent", {}).get("devices") == named
    assert len(told.of("warning")) == (named or 0)
