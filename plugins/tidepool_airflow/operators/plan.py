"""Operators that list batches for the mapped tasks of a run: all of them in packs, then those that remain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from tidepool_airflow.mapping import other_runs, pad_plan, window_of
from tidepool_airflow.operators.base import TidepoolOperator
from tidepool_airflow.operators.pack import DONE_KEY, STOPPED_KEY
from tidepool_airflow.settings import DEFAULT_CONN_ID
from tidepool_airflow.turns import run_of
from tidepool_ingest.options import BATCHES_A_PACK, BATCHES_ALONE
from tidepool_ingest.texts import counted

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from tidepool_airflow.mapping import Packs
    from tidepool_ingest.plan import Plan

NOBODY = "(nobody: a schedule or a backfill)"
"""What the audit log says instead of a name where Airflow knows none."""


def started_by(context: Mapping[str, Any]) -> str:
    """Return who started a run, as far as Airflow knows.

    :param context: the context of the planning task.
    """
    return getattr(context["dag_run"], "triggering_user_name", None) or NOBODY


def _map_indexes(packs: Sequence[Sequence[int]]) -> dict[int, int | None]:
    """Return the index of each batch's mapped task; none in a larger pack, which it may still leave."""
    return {batch: index if len(pack) == 1 else None for index, pack in enumerate(packs) for batch in pack}


class TidepoolPlanOperator(TidepoolOperator):
    """List the ready batches of the run's days that are not done according to the ledger, in packs.

    Returns the packs, each a list of the ledger's numbers of its batches, to map the next steps over: if
    there are only a few batches, each is a pack of its own. A run that is cleared may have more mapped tasks
    than packs, see :mod:`tidepool_airflow.mapping`. XCom ``plan`` holds the plan in numbers.

    :param data_set_type: ``normal`` or ``continuous``: the type of data set whose batches it plans.
    :param batches_alone: up to this many batches, each has a mapped task of its own.
    :param batches_a_pack: how many batches share a mapped task, at most, if there are more; fewer do where
        that lets as many tasks work as the DAG may run at once.

    .. seealso:: ``docs/airflow.md``, "Which days a run takes".
    """

    about: ClassVar[str] = (
        "Lists the batches that are ready in the run's days, leaves out what the ledger knows to be done, "
        "and divides the others among tasks. If it fails, staging or the ledger cannot be read, or a "
        "parameter of the run is wrong."
    )

    def __init__(
        self,
        *,
        data_set_type: str = "normal",
        batches_alone: int = BATCHES_ALONE,
        batches_a_pack: int = BATCHES_A_PACK,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.data_set_type = data_set_type
        self.batches_alone = batches_alone
        self.batches_a_pack = batches_a_pack

    def perform(self, context: Context) -> list[list[int]]:
        """Plan the run."""
        from tidepool_ingest.packs import packs_of
        from tidepool_ingest.plan import plan_run

        options = self.options(context)
        window = window_of(context, options)
        with self.ledger() as ledger:
            run = self.this_run(context, ledger, options)
            run.record_confirmation(started_by(context))
            plan = plan_run(
                self.root(options),
                window,
                ledger=ledger,
                options=options,
                api_host_of=self.connections.api_host_of,
                data_set_type=self.data_set_type,
                connection=None if self.tidepool_conn_id == DEFAULT_CONN_ID else self.tidepool_conn_id,
            )
            if options.batches:
                run.reopen(plan.batches, started_by(context))
            packs = packs_of(
                plan.rows,
                alone=self.batches_alone,
                size=self.batches_a_pack,
                at_once=self.dag.max_active_tasks,
            )
            if self.data_set_type == "normal":
                run.plan_turns(_map_indexes(packs))
        summary = {**plan.summary(), "packs": len(packs)}
        context["ti"].xcom_push(key="plan", value=summary)
        self.log.info("%s", plan.sentence())
        if len(packs) < len(plan.rows):
            self.log.info("They share %s.", counted(len(packs), "mapped task"))
        if remark := plan.named_remark():
            self.log.warning("%s", remark)
        if remark := plan.users_remark(options):
            self.log.warning("%s", remark)
        if remark := plan.older_remark(options):
            self.log.info("%s", remark)
        if plan.days_outside:
            self._tell_days_outside(context, plan)
        return pad_plan(packs, context)

    def _tell_days_outside(self, context: Context, plan: Plan) -> None:
        """Warn of days whose batches no run takes, unless runs that may take them are queued or running."""
        waiting, days = plan.outside_remark()
        if other_runs(context):
            self.log.info(
                "%s; other runs of this DAG are queued or running, such as those of a backfill, and may take "
                "them.",
                waiting,
            )
        else:
            self.log.warning("%s: trigger a run for these days, or backfill them (%s).", waiting, days)


class TidepoolLeftOperator(TidepoolOperator):
    """List the batches that remain of packs: they failed there, a person has to be asked, or the task died.

    Returns them as packs of one, to map the steps over once more, so that each has its own log, retries and
    question to a person. Batches that a pack did not reach because of a cause that is not their own (Tidepool
    is down, a wrong secret) are not listed: that cause failed the pack's task. Neither are more than Airflow
    maps.

    :param packs: the plan step's return value.
    """

    about: ClassVar[str] = (
        "Where batches share tasks, lists those that failed there or need a decision, for the tasks of "
        "`one_by_one`; each gets a log, retries and a question of its own. Empty in a small run."
    )
    template_fields: Sequence[str] = (*TidepoolOperator.template_fields, "packs")

    def __init__(self, *, packs: Packs | None, trigger_rule: str = "all_done", **kwargs: Any) -> None:
        super().__init__(trigger_rule=trigger_rule, **kwargs)
        self.packs = packs

    def perform(self, context: Context) -> list[list[int]]:
        """List them."""
        from tidepool_ingest.packs import MAX_PACKS

        settled = self._pulled(context, DONE_KEY) | self._pulled(context, STOPPED_KEY)
        remaining = [
            int(batch)
            for pack in self.packs or ()
            if len(pack) > 1
            for batch in pack
            if int(batch) not in settled
        ]
        if remaining and not self.options(context).force:
            remaining = self._not_verified(remaining)
        own = remaining[:MAX_PACKS]
        if own:
            self.log.info("%s now in a task of its own each.", counted(len(own), "batch"))
            self._move_turns(context, own)
        elif self.packs is None:
            self.log.info("There is no plan: nothing is to be done here.")
        else:
            self.log.info("No batch needs a task of its own: none was set aside in a larger pack.")
        if remaining[MAX_PACKS:]:
            self.log.info("%s for the next run.", counted(len(remaining[MAX_PACKS:]), "further batch"))
        return pad_plan([[batch] for batch in own], context)

    def _not_verified(self, batches: Sequence[int]) -> list[int]:
        """Return those that are not verified: a task that was killed has not told which ones it had done."""
        from tidepool_ingest.ledger import BatchState

        with self.ledger() as ledger:
            rows = ledger.batches.get_all(batches)
        verified = {row.id for row in rows if row.state is BatchState.VERIFIED}
        return [batch for batch in batches if batch not in verified]

    def _move_turns(self, context: Context, batches: Sequence[int]) -> None:
        """Let newer batches of a device wait for the tasks that are to come."""
        with self.ledger() as ledger:
            waited_for = {
                turn.batch
                for turn in ledger.turns.of_batches(batches)
                if (turn.dag_id, turn.run_id) == run_of(context)
            }
            indexes = {batch: index for index, batch in enumerate(batches) if batch in waited_for}
            ledger.turns.plan(*run_of(context), indexes)

    def _pulled(self, context: Context, key: str) -> set[int]:
        """Return the batches that the tasks of the packs have put into XCom."""
        upstream = sorted(self.get_flat_relative_ids(upstream=True))
        pulled = context["ti"].xcom_pull(task_ids=upstream, key=key)
        return {int(batch) for batches in pulled or () for batch in batches or ()}
