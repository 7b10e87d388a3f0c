"""Operator of the digest: what became of batches since yesterday, and what needs attention, as a notice."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.exceptions import AirflowSkipException

from tidepool_airflow import settings
from tidepool_airflow.notices import Notice, NoticeNotSentError, NoticeSettingsError, links_to, send
from tidepool_airflow.operators.base import TidepoolOperator

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

PERIOD = timedelta(days=1)
"""What a digest looks back on."""


class TidepoolDigestOperator(TidepoolOperator):
    """Send how many batches are in which state since yesterday, and what needs attention.

    It goes to the connection that ``TIDEPOOL_NOTIFY_CONNECTION`` names. What cannot be sent is tried again
    like any other task, and then skipped: a notice that fails makes no run fail.
    """

    about: ClassVar[str] = (
        "Counts by state the batches that have changed in the last 24 hours and those that need "
        "attention, and sends that to the connection that `TIDEPOOL_NOTIFY_CONNECTION` names. *Skipped* "
        "means that nothing was sent: the last line of its log says why."
    )

    def perform(self, context: Context) -> dict[str, Any]:
        """Send the digest.

        :raises NoticeNotSentError: if it was not sent and is to be tried again.
        """
        from tidepool_ingest.reports.digest import digest_of

        until = context["dag_run"].run_after
        with self.ledger() as ledger:
            digest = digest_of(ledger, until - PERIOD, until)
        for line in digest.lines():
            self.log.info("%s", line)
        if settings.deployment().notify_connection is None:
            raise AirflowSkipException("Nothing was sent: TIDEPOOL_NOTIFY_CONNECTION is not set.")
        problem = ""
        try:
            send(Notice(digest.title(), (*digest.lines(), *links_to())))
        except NoticeSettingsError as error:
            problem = str(error)
        except NoticeNotSentError as error:
            if context["ti"].try_number <= context["ti"].max_tries:
                raise
            problem = str(error)
        if problem:
            raise AirflowSkipException(problem)
        self.log.info("The digest was sent.")
        return digest.summary()
