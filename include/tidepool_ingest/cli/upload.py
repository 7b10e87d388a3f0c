"""``tidepool-ingest upload``: plan, prepare, upload and verify staged batches, without Airflow."""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, get_args

from upath import UPath

from tidepool_ingest.cli import FAILED
from tidepool_ingest.cli.arguments import (
    LEDGER_VARIABLE,
    ROOT_VARIABLE,
    CommandError,
    add_ledger,
    day,
)
from tidepool_ingest.cli.given import about
from tidepool_ingest.cli.ledgers import add_connection, who_runs
from tidepool_ingest.cli.staged import Where, where
from tidepool_ingest.ledger import COMMAND_LINE, TaskOrigin
from tidepool_ingest.options import CHUNK_RECORDS, LOOK_BACK_DAYS, OptionsError, RunOptions, WhenRefused
from tidepool_ingest.staging.batches import days
from tidepool_ingest.texts import counted
from tidepool_ingest.window import Window

if TYPE_CHECKING:
    from types import FrameType

    from pydantic.fields import FieldInfo

    from tidepool_ingest.cli.run_progress import RunProgress
    from tidepool_ingest.cli.upload_run import RunAtTerminal
    from tidepool_ingest.guards import Decision
    from tidepool_ingest.ledger import BatchRow, Ledger
    from tidepool_ingest.plan import Plan
    from tidepool_ingest.prepare.summary import PrepareSummary

SIGNALLED = 128
"""What a shell adds to the number of the signal that ended a command."""

CHUNKS_AT_ONCE = 4
"""Chunks that are sent at the same time unless an option says otherwise, as in Airflow."""

MOST_AT_ONCE = 32
"""The most that an option can ask for, as a deployment of Airflow can."""

OTHER_WORDS: Final = {
    "first_day": "oldest day folder to take (default: that of the path, or the root's oldest)",
    "last_day": "newest day folder to take; with one of the two days, only that one is taken",
    "dry_run": "only look: validate every record, compare with what Tidepool shows, open nothing",
    "users": "only these people: Tidepool user ids, or short hashes as logs show them, separated by commas",
    "look_back_days": "take the days since so many before today, and not all of the root",
    "when_refused": "whether somebody is asked on the terminal about a batch of which too many records are "
    "rejected; without a terminal, it is held either way",
    "chunk_records": "records in one request; fewer only help where requests are too large (default: "
    f"{CHUNK_RECORDS})",
    "parallel_chunks": f"requests at the same time (default: {CHUNKS_AT_ONCE})",
}
"""Help on options whose words in Airflow's form would be wrong here."""

NAMED_BY_PATH: Final = ("staging_root", "batches")
"""Parameters of a run that have no option here: the path says it."""

_TYPES: Final = {date: "DAY", int: "NUMBER", float: "PERCENT", str: "ID[,ID]"}


def describe(command: argparse.ArgumentParser) -> None:
    """Add what the command takes: the parameters of a run, as :class:`RunOptions` declares them."""
    command.description = (
        "Upload staged batches to Tidepool, each record exactly once, and read back what became visible, by "
        "the same steps and with the same ledger as the DAGs in Airflow. Run again after an interruption of "
        "whatever kind, it goes on where it stopped; Airflow's tasks may work at the same time."
    )
    root = os.environ.get(ROOT_VARIABLE, "").strip() or None
    command.add_argument(
        "path",
        nargs="?" if root else None,
        default=root,
        metavar="BATCH|DAY|ROOT",
        help="batch folder, day folder or a person's in it, or staging root, of which all days are taken "
        f"(default: ${ROOT_VARIABLE})",
    )
    add_ledger(command, default=None, otherwise="it has to be given")
    add_connection(command)
    command.add_argument(
        "--json", action="store_true", help="print what came of it as JSON (docs/upload.schema.json)"
    )
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name, field in RunOptions.model_fields.items():
        if name not in NAMED_BY_PATH:
            section = str(_of_form(field, "section")).lower()
            group = groups.setdefault(section, command.add_argument_group(section))
            _add_option(group, name, field)
    command.set_defaults(run=run)


def _add_option(group: argparse._ArgumentGroup, name: str, field: FieldInfo) -> None:
    flag, words = f"--{name.replace('_', '-')}", OTHER_WORDS.get(name) or _words(field)
    if field.annotation is bool:
        group.add_argument(flag, action="store_true", help=words)
        return
    kinds = [kind for kind in _kinds(field.annotation) if isinstance(kind, type)]
    if choices := [kind for kind in kinds if issubclass(kind, StrEnum)]:
        group.add_argument(flag, choices=[str(choice) for choice in choices[0]], help=words)
        return
    metavar = next(shown for kind, shown in _TYPES.items() if kind in kinds)
    group.add_argument(flag, metavar=metavar, type=day if date in kinds else str, help=words)


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yield the types that an annotation is made of."""
    yield annotation
    for inner in get_args(annotation):
        yield from _kinds(inner)


def _words(field: FieldInfo) -> str:
    text = str(field.description).rstrip(".").replace("%", "%%")
    default = f" (default: {field.default})" if field.default not in (None, False, ()) else ""
    return f"{text[0].lower()}{text[1:]}{default}"


def _of_form(field: FieldInfo, name: str) -> Any:
    extra = field.json_schema_extra
    return extra.get(name) if isinstance(extra, dict) else None


# ---------------------------------------------------------------- what is asked for


def asked(options: argparse.Namespace, place_: Where) -> RunOptions:
    """Return the parameters of the run.

    :raises CommandError: one of them cannot be used.
    """
    given = {name: getattr(options, name, None) for name in RunOptions.model_fields}
    given["users"] = [name for name in (options.users or "").split(",") if name.strip()]
    if place_.day is not None:
        if given["first_day"] or given["last_day"] or given["look_back_days"]:
            raise CommandError(
                "The path names a day, and so does an option.",
                "Leave the option out, or name the staging root.",
            )
        given |= {"first_day": place_.day, "last_day": place_.day}
    if place_.user is not None:
        if given["users"]:
            raise CommandError("The path names a person, and so does --users.", "Leave --users out.")
        given["users"] = [place_.user]
    try:
        found = RunOptions.of_params({name: value for name, value in given.items() if value is not False})
    except OptionsError as error:
        named = "; ".join(f"--{name.replace('_', '-')}: {why}" for name, why in error.wrong.items())
        raise CommandError(f"An option cannot be used: {named}.", "Correct it.") from None
    if found.asks and not sys.stdin.isatty():
        return found.model_copy(update={"when_refused": WhenRefused.FAIL})
    return found


def window_of(options: argparse.Namespace, wanted: RunOptions, root: UPath) -> Window:
    """Return the days that the run looks into: those of its options, or all that the root has."""
    if wanted.first_day or wanted.last_day:
        return Window.of_days(wanted.first_day, wanted.last_day)
    today = datetime.now(UTC).date()
    if options.look_back_days is not None:
        return Window.recent(today, wanted.look_back_days)
    found = days(root)
    return Window(found[0], found[-1]) if found else Window.recent(today, LOOK_BACK_DAYS)


# ---------------------------------------------------------------- the run


def run(options: argparse.Namespace) -> int:
    """Carry out the run, and report it."""
    if options.ledger is None:
        raise CommandError(
            "There is no ledger to record the uploads in.",
            f"Give --ledger, for example sqlite:////home/me/tidepool_ledger.db, or set {LEDGER_VARIABLE}. "
            "Keep it: it knows what is uploaded.",
        )
    from tidepool_ingest.cli.tidepool import CommandConnection, migrated

    place_ = where(options.path)
    wanted = asked(options, place_)
    connection = CommandConnection(options.connection)
    with migrated(options.ledger) as ledger:
        from tidepool_ingest.plan import plan_run
        from tidepool_ingest.run import Run

        run_of = Run(
            ledger=ledger,
            options=wanted,
            origin=TaskOrigin(dag_id=COMMAND_LINE),
            turns_of=(COMMAND_LINE, secrets.token_hex(8)),
            asked_at=ledger.database.now(),
        )
        plan = plan_run(
            place_.root,
            window_of(options, wanted, place_.root),
            ledger=ledger,
            options=wanted,
            api_host_of=connection.api_host_of,
            data_set_type=None,
            only=place_.batch,
        )
        with about(options.path):
            _check_found(place_, plan)
        _tell(plan, wanted)
        with connection.client(ledger) as client:
            if plan.rows and not wanted.dry_run:
                client.who_am_i()  # signs in, so that a wrong secret is known before anything is prepared
            run_of.record_confirmation(who_runs())
            if place_.batch is not None:
                run_of.reopen(plan.batches, who_runs())
            context = connection.context(client, ledger, place_.root)
            return _worked(options, run_of, plan, place_.root, connection, context)


def _check_found(place_: Where, plan: Plan) -> None:
    """Make sure that what a path names is there.

    :raises CommandError: it is not.
    """
    if place_.batch is not None and not (plan.rows or plan.done or plan.declined):
        raise CommandError(
            "There is no ready batch in this folder.",
            "Check the path; a batch is ready once it has a manifest.json.",
        )
    if place_.user is not None and not (plan.rows or plan.done or plan.declined):
        raise CommandError("There is no ready batch in this folder.", "Check the path.")
    if place_.day is not None and not plan.rows and place_.day not in days(place_.root):
        raise CommandError("There is no such day folder.", "Check the path.")


def _tell(plan: Plan, wanted: RunOptions) -> None:
    """Say on standard error what the run takes, and what it leaves."""
    lines = [plan.sentence(), plan.users_remark(wanted), plan.older_remark(wanted)]
    if plan.days_outside:
        waiting, outside = plan.outside_remark()
        lines.append(f"{waiting}: {outside}.")
    for line in filter(None, lines):
        print(line, file=sys.stderr)


def _worked(
    options: argparse.Namespace, run_of: Any, plan: Plan, root: UPath, connection: Any, context: Any
) -> int:
    from tidepool_ingest.cli.run_progress import RunProgress
    from tidepool_ingest.cli.upload_run import RunAtTerminal
    from tidepool_ingest.upload.guarded_requests import UploadStoppedError

    with RunProgress(len(plan.rows)) as progress, _warnings_beside(progress):
        work = RunAtTerminal(
            run=run_of,
            root=root,
            connection=connection,
            context=context,
            at_once=min(run_of.options.parallel_chunks or CHUNKS_AT_ONCE, MOST_AT_ONCE),
            progress=progress,
            ask=_Question(run_of),
        )
        with _stopped_by_signals(work, progress) as struck:
            try:
                work.work_through(plan.rows)
            except (KeyboardInterrupt, UploadStoppedError):
                struck.setdefault("signal", signal.SIGINT)
    return _reported(options, run_of, plan, root, work, struck.get("signal"))


@contextmanager
def _stopped_by_signals(work: RunAtTerminal, progress: RunProgress) -> Iterator[dict[str, int]]:
    """End the run between two requests when a signal asks for it; at once while none is in progress.

    A second one ends it in any case. What it leaves is the same: the ledger merely knows more of it if no
    request is cut off.
    """
    struck: dict[str, int] = {}

    def stop(number: int, _frame: FrameType | None) -> None:
        if struck:
            os._exit(SIGNALLED + number)
        struck["signal"] = number
        work.stop()
        if not work.is_uploading:
            raise KeyboardInterrupt
        with progress.paused():
            print(
                "Stopping once the requests in progress are answered; again to end at once.", file=sys.stderr
            )

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield struck
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _WarningsBeside(logging.Handler):
    """Writes what the library warns of to standard error, beside the progress."""

    def __init__(self, progress: RunProgress) -> None:
        super().__init__(logging.WARNING)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        with self._progress.paused():
            print(record.getMessage(), file=sys.stderr)


@contextmanager
def _warnings_beside(progress: RunProgress) -> Iterator[None]:
    library, handler = logging.getLogger("tidepool_ingest"), _WarningsBeside(progress)
    library.addHandler(handler)
    try:
        yield
    finally:
        library.removeHandler(handler)


class _Question:
    """Asks at the terminal whether a batch with too many rejected records is uploaded."""

    def __init__(self, run_of: Any) -> None:
        self._run = run_of

    def __call__(self, row: BatchRow, summary: PrepareSummary) -> Decision:
        """Ask until there is an answer, and record it."""
        from tidepool_ingest.guards import Decision
        from tidepool_ingest.prepare.summary import question_of

        subject, body = question_of(summary, self._run.options.max_quarantined_percent)
        choices = list(Decision)
        print(f"\n{subject}\n\n{body.replace('**', '')}\n", file=sys.stderr)
        for number, choice in enumerate(choices, 1):
            print(f"  {number}  {choice.answer}", file=sys.stderr)
        while True:
            print(f"Which one? 1 to {len(choices)}: ", end="", file=sys.stderr, flush=True)
            line = sys.stdin.readline()
            if not line:
                # Nobody is there any more: what is not confirmed is not uploaded.
                raise KeyboardInterrupt
            if line.strip() in map(str, range(1, len(choices) + 1)):
                decision = choices[int(line) - 1]
                self._run.record_decision(row, decision, actor=who_runs())
                return decision


def _reported(
    options: argparse.Namespace,
    run_of: Any,
    plan: Plan,
    root: UPath,
    work: RunAtTerminal,
    struck: int | None,
) -> int:
    """Print what became of the batches, and return the exit code."""
    from dataclasses import replace

    from tidepool_ingest.cli.run_report import dry_run_lines, outcomes, report_lines
    from tidepool_ingest.cli.summaries import RunOutcome, write_json
    from tidepool_ingest.reports.run import (
        BATCHES_NAMED,
        HELD_UP,
        counts_of,
        report_on,
        skipped_rows,
    )

    ledger: Ledger = run_of.ledger
    report = report_on(ledger, plan.batches)
    why = {row.id: row.reason or work.why_not_done(row.id) for row in report.not_done}
    named = tuple(replace(row, reason=why.get(row.id, row.reason)) for row in report.batches)
    report = replace(report, batches=named)
    if len(report.batches) <= BATCHES_NAMED:
        report = replace(
            report, skipped={row.id: skipped_rows(root, row) for row in report.batches if row.staged}
        )
    is_dry = run_of.options.dry_run
    not_done = [
        row for row in report.not_done if not is_dry or row.state in HELD_UP or row.id in work.failures
    ]
    counts = counts_of(root, report.batches) if is_dry else None
    stopped_by = "interrupted" if struck else work.stopped_by.code if work.stopped_by else None
    if options.json:
        outcome = RunOutcome(
            window=str(plan.window),
            done=plan.done,
            declined=plan.declined,
            left=plan.deferred + plan.same_content,
            days_outside=tuple(date.fromisoformat(day) for day in plan.days_outside),
            batches=outcomes(report),
            not_done=len(not_done),
            causes=tuple(report.causes()),
            dry_run=None if counts is None else {**counts.summary(), "compared": work.compared.summary()},
            stopped_by=stopped_by,
        )
        write_json(outcome)
    else:
        lines = report_lines(report)
        if lines and counts is not None:
            lines += ["", *dry_run_lines(counts, work.compared)]
        elif lines:
            lines += ["", report.outcome(), *report.causes()]
        for line in lines:
            print(line)
    if work.stopped_by is not None:
        print(f"tidepool-ingest: {work.stopped_by}", file=sys.stderr)
    if struck:
        left = counted(len(not_done), "batch")
        print(f"Interrupted, with {left} to go. Run it again: it goes on where it stopped.", file=sys.stderr)
        return SIGNALLED + struck
    return FAILED if not_done or work.stopped_by is not None else 0
