"""Operator of the first step: which batches a run takes up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tidepool_airflow.operators.base import TidepoolOperator
from tidepool_airflow.operators.confirmed import note_confirmed
from tidepool_ingest.options import BATCHES_A_PACK, BATCHES_ALONE

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context


class TidepoolPlanOperator(TidepoolOperator):
    """List the ready batches of the run's days that the ledger does not know as done, in packs.

    Returns the packs, each a list of the ledger's numbers of batches, to map the next steps over: where the
    batches are few, each is a pack of its own. A run that is run again may have more places than packs, see
    :mod:`tidepool_airflow.mapping`. XCom ``plan`` holds the plan in numbers.

    :param data_set_type: ``normal`` or ``continuous``: for which type of data set it takes batches.
    :param batches_alone: up to so many batches, each has a mapped task of its own.
    :param batches_a_pack: batches a pack, where there are more.

    .. seealso:: ``docs/airflow.md``, "Which days a run takes".
    """

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

    def execute(self, context: Context) -> list[list[int]]:
        """Plan the run."""
        from tidepool_airflow.mapping import never_shorter
        from tidepool_airflow.run_window import window_of
        from tidepool_ingest.packs import packs_of
        from tidepool_ingest.plan import plan_run

        options = self.options(context)
        window = window_of(context, options)
        with self.ledger() as ledger:
            note_confirmed(ledger, options, context)
            plan = plan_run(
                self.root(options),
                window,
                ledger=ledger,
                options=options,
                api_host_of=self.connections.api_host_of,
                data_set_type=self.data_set_type,
            )
        packs = packs_of(plan.rows, alone=self.batches_alone, size=self.batches_a_pack)
        summary = {**plan.summary(), "packs": len(packs)}
        context["ti"].xcom_push(key="plan", value=summary)
        self.log.info("Plan for %s: %s", window, {key: value for key, value in summary.items() if value})
        if plan.older_than_uploaded and not options.allow_older:
            self.log.warning(
                "%d of these batches were staged before something that is verified of their device. Those "
                "that share a day of records with it are held; the parameter `allow_older` lets them win.",
                plan.older_than_uploaded,
            )
        if plan.days_outside:
            self.log.warning(
                "Ready batches lie outside %s, in the folders of %d days (%s): trigger a run with these "
                "days, or backfill them.",
                window,
                len(plan.days_outside),
                ", ".join(summary["days_outside"]),
            )
        return never_shorter(packs, context)
