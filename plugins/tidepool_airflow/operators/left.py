"""Operator between packs and report: which batches get a task of their own after all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tidepool_airflow.operators.base import TidepoolOperator
from tidepool_airflow.operators.pack import DONE_KEY, STOPPED_KEY

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from tidepool_airflow.mapping import Packs


class TidepoolLeftOperator(TidepoolOperator):
    """List the batches that packs have left: they failed there, a person has to be asked, or the task died.

    Returns them as packs of one, to map the steps over once more: each has its own log, retries and question
    to a person then. What a pack left because of a cause that is not the batches' own (Tidepool away, a wrong
    secret) is left out; it failed the pack's task. So is what lies beyond the tasks that Airflow maps.

    :param packs: the plan step's return value.
    """

    template_fields: Sequence[str] = (*TidepoolOperator.template_fields, "packs")

    def __init__(self, *, packs: Packs | None, trigger_rule: str = "all_done", **kwargs: Any) -> None:
        super().__init__(trigger_rule=trigger_rule, **kwargs)
        self.packs = packs

    def execute(self, context: Context) -> list[list[int]]:
        """List them."""
        from tidepool_airflow.mapping import never_shorter
        from tidepool_ingest.packs import MAX_PACKS

        ended = self._told(context, DONE_KEY) | self._told(context, STOPPED_KEY)
        left = [
            int(batch)
            for pack in self.packs or ()
            if len(pack) > 1
            for batch in pack
            if int(batch) not in ended
        ]
        if left:
            self.log.info("%d batches get a task of their own now.", len(left[:MAX_PACKS]))
        if left[MAX_PACKS:]:
            self.log.warning("%d more wait for the next run.", len(left[MAX_PACKS:]))
        return never_shorter([[batch] for batch in left[:MAX_PACKS]], context)

    def _told(self, context: Context, key: str) -> set[int]:
        """Return the batches that the tasks of the packs have put into XCom."""
        told = context["ti"].xcom_pull(task_ids=sorted(self.get_flat_relative_ids(upstream=True)), key=key)
        return {int(batch) for one in told or () for batch in one or ()}
