"""Operator of the actions that people request on the uploads page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.exceptions import AirflowSkipException

from tidepool_airflow.links import TidepoolUploadLink
from tidepool_airflow.operators.base import TidepoolOperator
from tidepool_ingest.texts import counted

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from tidepool_ingest.ledger import ActionRow, BatchRow, Ledger
    from tidepool_ingest.upload import UploadContext


class TidepoolActionOperator(TidepoolOperator):
    """Verify a batch again or withdraw it, as somebody has requested on the uploads page; once.

    A batch of a feed is withdrawn by another one, which is staged and retracts it.

    The run's parameter ``action`` is the number of the request in the ledger's audit log, which names this
    run: nothing is done that was not requested there. The result is recorded with it.
    """

    about: ClassVar[str] = (
        "Carries out the one request that the run was started for, and records what came of it in the "
        "audit log. If it fails, the uploads page shows why; request it there again once that is mended."
    )
    operator_extra_links = (TidepoolUploadLink(),)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch: int | None = None
        self._upload_context: UploadContext | None = None

    def perform(self, context: Context) -> dict[str, Any]:
        """Carry the action out."""
        from tidepool_ingest.errors import IngestError
        from tidepool_ingest.ledger import ActionStatus

        with self.ledger() as ledger:
            action = self._requested(ledger, context)
            if action.status is ActionStatus.DONE:
                raise AirflowSkipException("This is done already. Request it again on the uploads page.")
            row = ledger.batches.get(int(action.batch or 0))
            self.batch = row.id
            self.log.info("Requested by %s: %s %s.", action.actor, action.kind, row.label)
            try:
                detail = self._carry_out(ledger, action, row)
            except IngestError as error:
                ledger.actions.finish(action.id, ActionStatus.FAILED, reason=error.code)
                raise
            ledger.actions.finish(action.id, ActionStatus.DONE, detail=detail)
        self.log.info("%s: %s.", row.label, detail)
        return {"what": str(action.kind), "label": row.label, "detail": detail}

    def _requested(self, ledger: Ledger, context: Context) -> ActionRow:
        """Return the request that this run was started for.

        :raises UnknownActionError: if there is none: somebody triggered the DAG by hand.
        """
        from tidepool_ingest.ledger.database import UnknownActionError

        number = int(context["params"].get("action") or 0)
        action = ledger.actions.get(number)
        if (action.dag_id, action.run_id) != (context["ti"].dag_id, context["ti"].run_id):
            raise UnknownActionError(number)
        return action

    def _carry_out(self, ledger: Ledger, action: ActionRow, row: BatchRow) -> str:
        from tidepool_ingest.ledger import ActionKind
        from tidepool_ingest.maintenance.retracting import retract_batch
        from tidepool_ingest.prepare.step import ensure_prepared
        from tidepool_ingest.upload import reverify, withdraw_batch

        hook = self.connections.hook(row.connection)
        if action.kind is ActionKind.WITHDRAW and row.data_set_type == "continuous":
            root = self.root_of(row)
            self._upload_context = hook.upload_context(ledger, root)
            by, summary = retract_batch(
                self._upload_context,
                row,
                root=root,
                api_host_of=self.connections.api_host_of,
                at=action.created_at,
                key=str(action.id),
            )
            return f"{counted(summary.deleted, 'record')} deleted, retracted by {by.label}"
        if action.kind is ActionKind.WITHDRAW:
            self._upload_context = hook.upload_context(ledger)
            deleted = withdraw_batch(self._upload_context, row)
            return f"{counted(deleted, 'data set')} deleted"
        root = self.root_of(row)
        # Long after the upload, its work area may have been cleaned up.
        ensure_prepared(root, row, ledger=ledger, api_host_of=self.connections.api_host_of)
        self._upload_context = hook.upload_context(ledger, root)
        found = reverify(self._upload_context, row)
        if found is None:
            return "no longer verified, so there is nothing to compare"
        return f"{counted(found.comparison.visible, 'row')} visible, {found.comparison.superseded} superseded"

    def on_kill(self) -> None:
        """Stop between two requests, as an upload does."""
        if self._upload_context is not None:
            self._upload_context.stop()
