"""Operator of the actions that people request on the uploads page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.exceptions import AirflowSkipException

from tidepool_airflow.links import TidepoolUploadLink
from tidepool_airflow.operators.base import TidepoolOperator, record_stop
from tidepool_ingest.texts import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk.definitions.context import Context

    from tidepool_ingest.errors import IngestError
    from tidepool_ingest.ledger import ActionRow, BatchRow, Ledger
    from tidepool_ingest.upload import UploadContext


class TidepoolActionOperator(TidepoolOperator):
    """Verify batches again or withdraw them, as somebody has requested on the uploads page; each once.

    A batch of a feed is withdrawn by another one, which is staged and retracts it.

    The run's parameter ``action`` is the number of the request in the ledger's audit log, which names this
    run: nothing is done that was not requested there. The result is recorded with it. Of several that were
    requested together, it is the number of the first; they are carried out one after the other, and one that
    fails does not keep the others from it.
    """

    serves_other_dags: ClassVar[bool] = True
    about: ClassVar[str] = (
        "Carries out what the run was started for, one request after the other, and records what came of "
        "each in the audit log. If it fails, the uploads page shows why; request it there again once that is "
        "mended."
    )
    operator_extra_links = (TidepoolUploadLink(),)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch: int | None = None
        self._upload_context: UploadContext | None = None

    def perform(self, context: Context) -> dict[str, Any]:
        """Carry the action out, or each one of several that were requested together."""
        from tidepool_ingest.errors import Disposition, IngestError
        from tidepool_ingest.ledger import ActionStatus

        with self.ledger() as ledger:
            requested = self._requested(ledger, context)
            left = [action for action in requested if action.status is not ActionStatus.DONE]
            if not left:
                raise AirflowSkipException("This is done already. Request it again on the uploads page.")
            if len(requested) == 1:
                self.batch = requested[0].batch
                return self._one(ledger, context, left[0])
            errors: list[IngestError] = []
            for action in left:
                try:
                    self._one(ledger, context, action)
                except IngestError as error:
                    self._go_on_after(error, ledger, left)
                    errors.append(error)
        self.log.info("%s: %d of %d done.", requested[0].kind, len(left) - len(errors), len(left))
        if errors:
            # One that may succeed later lets Airflow try again; what is done is not repeated.
            raise next((one for one in errors if one.disposition is Disposition.RETRIABLE), errors[0])
        return {"what": str(requested[0].kind), "done": len(requested)}

    def _one(self, ledger: Ledger, context: Context, action: ActionRow) -> dict[str, Any]:
        """Carry one action out, and record its result."""
        from tidepool_ingest.errors import IngestError
        from tidepool_ingest.ledger import ActionStatus

        row = ledger.batches.get(int(action.batch or 0))
        self.log.info("Requested by %s: %s %s.", action.actor, action.kind, row.label)
        try:
            detail = self._carry_out(ledger, action, row)
        except IngestError as error:
            ledger.actions.finish(action.id, ActionStatus.FAILED, reason=error.code)
            record_stop(ledger, row.id, context, error)
            raise
        ledger.actions.finish(action.id, ActionStatus.DONE, detail=detail)
        self.log.info("%s: %s.", row.label, detail)
        return {"what": str(action.kind), "label": row.label, "detail": detail}

    def _go_on_after(self, error: IngestError, ledger: Ledger, requested: Sequence[ActionRow]) -> None:
        """Log why one action of several has failed, unless that ends the others too.

        :raises IngestError: it does; those that have not ended are recorded as failed with it.
        """
        from tidepool_ingest.ledger import ActionStatus
        from tidepool_ingest.upload.guarded_requests import UploadStoppedError

        if isinstance(error, UploadStoppedError):
            for action in requested:
                if ledger.actions.get(action.id).status is ActionStatus.ASKED:
                    ledger.actions.finish(action.id, ActionStatus.FAILED, reason=error.code)
            raise error
        self.log.error("%s", error.what)
        self.log.error("What to do: %s", error.remedy)

    def _requested(self, ledger: Ledger, context: Context) -> list[ActionRow]:
        """Return the requests that this run was started for, in their order.

        :raises UnknownActionError: if there is none: somebody triggered the DAG by hand.
        """
        from tidepool_ingest.ledger.database import UnknownActionError

        number = int(context["params"].get("action") or 0)
        action = ledger.actions.get(number)
        run = context["ti"].dag_id, context["ti"].run_id
        if (action.dag_id, action.run_id) != run:
            raise UnknownActionError(number)
        return [one for one in reversed(ledger.actions.of_run(*run)) if one.kind is action.kind]

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
