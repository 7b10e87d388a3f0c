"""Who is told of runs: functions of a team's own, and a connection to Slack, to a mail server or to others.

A function is named by its dotted path, takes Airflow's context, and has to be importable wherever it is
called. What goes to a connection are numbers, codes and links: no name, no id and no value of anybody. The
providers that send it are imported when something is sent, so that no DAG file needs them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, BaseNotifier, CronTriggerTimetable
from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from tidepool_airflow.links import airflow_url, uploads_url
from tidepool_airflow.settings import deployment, variable_of
from tidepool_ingest.errors import FAULTS_BY_CODE, Disposition, IngestError

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

DIGEST_AT = "0 7 * * *"
"""When the digest is sent, in UTC: the daily uploads, of 03:00, are done by then."""

SECONDS = 15
"""How long Slack may take to answer."""

QUIET = logging.getLogger(f"{__name__}.quiet")
QUIET.disabled = True
"""For libraries that would log what they sent, and to which secret address."""


class NoticeError(IngestError):
    """A function that a deployment names to be notified cannot be called."""

    code = "notice"
    sentence = "a function that was named for a notice cannot be found"
    remedy = "Give the dotted path of one that takes Airflow's context, in a module that workers can import."


class NoticeSettingsError(IngestError):
    """What a deployment says about its notices does not fit together."""

    code = "notice-settings"
    sentence = "a notice cannot be sent with the settings of this deployment"
    remedy = (
        "Let TIDEPOOL_NOTIFY_CONNECTION name a connection of type slackwebhook, slack, smtp or apprise, "
        "TIDEPOOL_NOTIFY_TO who gets it by smtp or slack, and install the extra of that type."
    )


class NoticeNotSentError(IngestError):
    """A notice could not be sent; what the other side or a library said of it may hold a secret."""

    disposition = Disposition.RETRIABLE
    code = "notice-not-sent"
    sentence = "a notice could not be sent"
    remedy = (
        "Check that the connection that TIDEPOOL_NOTIFY_CONNECTION names is right, and that workers reach "
        "its host. No upload depends on it."
    )


# ---------------------------------------------------------------- functions of a team's own


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


def deadline() -> DeadlineAlert | None:
    """Return the alert for runs that take too long, if there is one.

    The time counts from when a run is queued: a run that somebody triggers may have no logical date.
    """
    path, minutes = deployment().on_deadline, deployment().deadline_minutes
    if path is None or minutes is None:
        return None
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(minutes=minutes),
        callback=SyncCallback(path),
        name="tidepool_run",
    )


def on_failure() -> list[Callable[[Any], None]]:
    """Return what is called when an upload run has failed.

    It belongs to the last task, which fails whenever one of the others has: once a run, not once a task.
    """
    path = deployment().on_failure
    own = [NamedCallback(path, variable_of("on_failure"))] if path else []
    return [*own, *told_of_failure()]


# ---------------------------------------------------------------- a connection


@dataclass(frozen=True)
class Notice:
    """A message to people.

    :param title: what it is about, in a line.
    :param lines: its other lines, without markup.
    :param is_failure: whether something has failed.
    """

    title: str
    lines: tuple[str, ...]
    is_failure: bool = False

    def text(self) -> str:
        """Return its lines as one text."""
        return "\n".join(self.lines)

    def html(self) -> str:
        """Return its lines as a mail's body."""
        return "".join(f"<div>{escape(line) or '&nbsp;'}</div>\n" for line in self.lines)

    def slack(self) -> str:
        """Return all of it as Slack's text, which has three characters of its own."""
        return escape(f"{self.title}\n{self.text()}", quote=False)


def told_of_failure() -> list[Callable[[Any], None]]:
    """Return what tells a connection that the run of a task has failed; nothing if none is named."""
    wanted = deployment()
    if wanted.notify_connection is None or wanted.notify_of == "digest":
        return []
    return [TidepoolFailureNotifier()]


def digest_schedule() -> CronTriggerTimetable | None:
    """Return when the digest is sent; never if no connection is named for it."""
    wanted = deployment()
    if wanted.notify_connection is None or wanted.notify_of == "failures":
        return None
    return CronTriggerTimetable(DIGEST_AT, timezone="UTC")


class TidepoolFailureNotifier(BaseNotifier):
    """Tells the connection that ``TIDEPOOL_NOTIFY_CONNECTION`` names that a run has failed.

    For ``on_failure_callback`` of a DAG's last task. If that cannot be sent, the log says so in one line, and
    nothing else comes of it.
    """

    def notify(self, context: Context) -> None:
        """Send the notice."""
        try:
            send(failure_notice(context))
        except IngestError as error:
            self.log.warning("%s", error)
        except Exception as error:
            # What it says may hold anything: the context of a callback is not always the one of a task.
            self.log.warning("No notice of this failure was sent: %s.", type(error).__name__)


def failure_notice(context: Mapping[str, Any]) -> Notice:
    """Return the notice that the run of a task has failed.

    It leaves out the run's id, which whoever starts a run may choose, and the error's own text.

    :param context: the context of the task that failed.
    """
    task_instance, run = context["ti"], context.get("dag_run")
    dag_id = task_instance.dag_id
    began = getattr(run, "run_after", None)
    lines = [f"The run of {began:%Y-%m-%d %H:%M} UTC has failed." if began else "A run has failed."]
    code = str(getattr(context.get("exception"), "code", ""))
    if fault := FAULTS_BY_CODE.get(code):
        lines += [f"Cause: {fault.sentence} ({code}).", f"What to do: {fault.remedy}"]
    if counted := _batches_of(task_instance):
        lines.append("Batches: " + ", ".join(f"{number} {state}" for state, number in counted) + ".")
    return Notice(f"Tidepool: {dag_id} failed", (*lines, *links_to(dag_id)), is_failure=True)


def _batches_of(task_instance: Any) -> list[tuple[str, int]]:
    """Return how many batches of the run are in which state, as far as its task has reported that."""
    summary = None
    with suppress(Exception):  # of a task that died, the callback runs where there may be no XCom
        summary = task_instance.xcom_pull(task_ids=task_instance.task_id, key="summary")
    counted = summary.get("batches") if isinstance(summary, Mapping) else None
    return sorted(counted.items()) if isinstance(counted, Mapping) else []


def links_to(dag_id: str | None = None) -> tuple[str, ...]:
    """Return the lines that lead to the uploads page, and to a DAG's runs."""
    runs = (f"Runs: {airflow_url()}/dags/{dag_id}",) if dag_id else ()
    return (f"Uploads: {uploads_url()}", *runs)


def send(notice: Notice) -> None:
    """Send a notice to the connection that the deployment names, by the provider of its type.

    :raises NoticeSettingsError: if the connection, its type or the provider is not there.
    :raises NoticeNotSentError: if it was not sent.
    """
    conn_id, to = deployment().notify_connection, deployment().notify_to
    if conn_id is None:
        raise NoticeSettingsError(f"{variable_of('notify_connection')} is not set.")
    problem: IngestError | None = None
    try:
        conn_type = BaseHook.get_connection(conn_id).conn_type
        sender = SENDERS.get(conn_type or "")
        if sender is None:
            problem = NoticeSettingsError("The connection for notices is of a type that sends none.")
        elif not to and sender in (_by_slack, _by_mail):
            problem = NoticeSettingsError(f"{variable_of('notify_to')} is not set.")
        else:
            with _quietly():
                sender(conn_id, to, notice)
    except ImportError:
        problem = NoticeSettingsError(f"The provider for connections of type {conn_type} is not installed.")
    except Exception as error:
        problem = NoticeNotSentError(f"A notice could not be sent ({type(error).__name__}).")
    if problem is not None:
        # Outside of `except`: a traceback would show what the provider said, with a token in an address.
        raise problem


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep a library from logging addresses, whose paths are secrets, for the length of a ``with`` block."""
    library = logging.getLogger("apprise")
    before, library.disabled = library.disabled, True
    try:
        yield
    finally:
        library.disabled = before


def _by_webhook(conn_id: str, to: Sequence[str], notice: Notice) -> None:
    from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook

    hook = SlackWebhookHook(slack_webhook_conn_id=conn_id, timeout=SECONDS, logger=QUIET)
    hook.send_text(notice.slack(), unfurl_links=False)


def _by_slack(conn_id: str, to: Sequence[str], notice: Notice) -> None:
    from airflow.providers.slack.hooks.slack import SlackHook

    hook = SlackHook(slack_conn_id=conn_id, timeout=SECONDS, logger=QUIET)
    for channel in to:
        message = {"channel": channel, "text": notice.slack(), "unfurl_links": False}
        hook.call("chat.postMessage", json=message)


def _by_mail(conn_id: str, to: Sequence[str], notice: Notice) -> None:
    from airflow.providers.smtp.hooks.smtp import SmtpHook

    with SmtpHook(smtp_conn_id=conn_id) as hook:
        hook.send_email_smtp(to=list(to), subject=notice.title, html_content=notice.html())


def _by_apprise(conn_id: str, to: Sequence[str], notice: Notice) -> None:
    from airflow.providers.apprise.hooks.apprise import AppriseHook
    from apprise import Apprise, NotifyType

    # The hook's own method does not say whether anything was sent.
    hook, services = AppriseHook(apprise_conn_id=conn_id), Apprise()
    hook.set_config_from_conn(conn=hook.get_connection(conn_id), apprise_obj=services)
    kind = NotifyType.FAILURE if notice.is_failure else NotifyType.INFO
    if not services.notify(title=notice.title, body=notice.text(), notify_type=kind, tag="all"):
        raise ConnectionError


SENDERS: Mapping[str, Callable[[str, Sequence[str], Notice], None]] = {
    "slackwebhook": _by_webhook,
    "slack": _by_slack,
    "smtp": _by_mail,
    "apprise": _by_apprise,
}
"""What sends a notice, by the type of a connection."""
