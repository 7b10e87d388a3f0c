"""Which DAGs of this Airflow upload batches, maintain the ledger or carry out actions, whatever their ids.

A team may give the DAGs of :mod:`tidepool_airflow.dag_factory` other ids, and have several that upload.
Airflow's own database knows them: by their tag, the operators of their tasks, and the arguments that those
share. Only the API server asks; a task cannot reach that database.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tidepool_airflow.links import ACTION_DAG, DAG_OF_TYPE, RECONCILE_DAG
from tidepool_airflow.settings import DEFAULT_CONN_ID, OUR_TAG

if TYPE_CHECKING:
    from tidepool_ingest.ledger import BatchRow

ACTION, RECONCILE = "action", "reconcile"

KINDS = {
    "TidepoolUploadOperator": "normal",
    "TidepoolContinuousUploadOperator": "continuous",
    "TidepoolReconcileOperator": RECONCILE,
    "TidepoolActionOperator": ACTION,
}
"""What a DAG is for, by an operator that only such DAGs have."""

USUAL = {**DAG_OF_TYPE, RECONCILE: RECONCILE_DAG, ACTION: ACTION_DAG}
"""The usual id of each kind."""

USUAL_KINDS = {dag_id: kind for kind, dag_id in USUAL.items()}


@dataclass(frozen=True)
class KnownDag:
    """A DAG of this project in this Airflow.

    :param dag_id: its id.
    :param kind: a type of data set that it uploads, ``reconcile`` or ``action``.
    :param staging_root: its own, if it has one.
    :param conn_id: its own connection to Tidepool, if it has one.
    """

    dag_id: str
    kind: str
    staging_root: str | None = None
    conn_id: str | None = None


def known_dags() -> list[KnownDag]:
    """Return the DAGs of this project, in the order of their ids; none if Airflow's database does not say."""
    from sqlalchemy.exc import SQLAlchemyError

    with suppress(SQLAlchemyError):
        return list(_known_dags())
    return []


def _known_dags() -> Iterator[KnownDag]:
    from airflow.models.dag import DagModel, DagTag
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        versions = (
            select(SerializedDagModel.dag_id, SerializedDagModel.id, SerializedDagModel.dag_hash)
            .join(DagModel, DagModel.dag_id == SerializedDagModel.dag_id)
            .join(DagTag, DagTag.dag_id == SerializedDagModel.dag_id)
            .where(DagTag.name == OUR_TAG, DagModel.is_stale.is_(False))
            .order_by(SerializedDagModel.dag_id, SerializedDagModel.created_at)
        )
        newest = {dag_id: (number, digest) for dag_id, number, digest in session.execute(versions)}
    for dag_id, version in newest.items():
        if (found := _read(dag_id, *version)) is not None:
            yield found


@lru_cache(maxsize=256)
def _read(dag_id: str, number: Any, digest: str) -> KnownDag | None:
    """Return what Airflow has written of a DAG; the same for the same version and digest."""
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.session import create_session

    with create_session() as session:
        row = session.get(SerializedDagModel, number)
        dag = ((row.data if row else None) or {}).get("dag", {})
    operators = {str(task.get("__var", {}).get("task_type")) for task in dag.get("tasks", ())}
    kinds = [kind for operator, kind in KINDS.items() if operator in operators]
    arguments = dag.get("default_args", {}).get("__var", {})
    if not kinds:
        return None
    return KnownDag(dag_id, kinds[0], arguments.get("staging_root"), arguments.get("tidepool_conn_id"))


def kind_of(dag_id: object) -> str | None:
    """Return what a DAG is for; ``None`` for one that is not of this project.

    :param dag_id: as a request names it.
    """
    if not isinstance(dag_id, str):
        return None
    if dag_id in USUAL_KINDS:
        return USUAL_KINDS[dag_id]
    return next((dag.kind for dag in known_dags() if dag.dag_id == dag_id), None)


def gates() -> list[str]:
    """Return the ids of the DAGs whose runs somebody has to be allowed to see, to see the uploads page.

    It shows what every one of them has uploaded.
    """
    dags = known_dags()
    for kind in DAG_OF_TYPE:
        if found := [dag.dag_id for dag in dags if dag.kind == kind]:
            return found
    return [USUAL["normal"]]


def action_dag() -> str:
    """Return the id of the DAG that carries out what is requested on the uploads page."""
    found = [dag.dag_id for dag in known_dags() if dag.kind == ACTION]
    return found[0] if found and ACTION_DAG not in found else ACTION_DAG


def dag_for(batch: BatchRow, last: str | None) -> KnownDag:
    """Return the DAG that uploads a batch, if it is to be tried again.

    It is the one that has worked on it before, or else the one with its connection and its staging root.

    :param batch: the batch.
    :param last: id of the DAG that worked on its newest data set, if it has any.
    """
    kind = batch.data_set_type
    root = batch.folder.rsplit("/", 3)[0]

    def fits(dag: KnownDag) -> tuple[bool, bool, bool, bool, bool]:
        own_root = (dag.staging_root or "").rstrip("/")
        return (
            dag.dag_id == last,
            (dag.conn_id or DEFAULT_CONN_ID) == (batch.connection or DEFAULT_CONN_ID),
            own_root == root,
            not own_root,
            dag.dag_id == USUAL[kind],
        )

    candidates = [dag for dag in known_dags() if dag.kind == kind]
    return max(candidates, key=fits, default=KnownDag(USUAL[kind], kind))
