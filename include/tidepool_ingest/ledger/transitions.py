"""Writes the states of batches and data sets, each only if it may follow the present one.

The tables of what may follow are in :mod:`.states`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Update,
    and_,
    bindparam,
    case,
    false,
    func,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from tidepool_ingest.ledger.database import batched
from tidepool_ingest.ledger.schema import NOW, batches, data_sets
from tidepool_ingest.ledger.states import (
    ALLOWED_OF_BATCHES,
    ALLOWED_OF_DATA_SETS,
    ALLOWED_OF_FEEDS,
    ALLOWED_OF_PARTS,
    DECLINED,
    BatchState,
    DataSetState,
    check_batch_state,
    check_data_set_state,
)

TIME_COLUMN = {
    DataSetState.OPEN: "opened_at",
    DataSetState.CLOSED: "closed_at",
    DataSetState.VERIFIED: "verified_at",
}
"""The column of the time at which a state is reached."""


_IS_DECLINED = func.coalesce(batches.c.reason, "") == DECLINED


def is_decided() -> ColumnElement[bool]:
    """Return the condition that a person has declined or dismissed a batch."""
    return or_(batches.c.dismissed.is_not(None), _IS_DECLINED)


def write_state(
    connection: Connection,
    which: ColumnElement[bool],
    state: BatchState,
    *,
    now: datetime | None = None,
    **values: Any,
) -> int:
    """Write the state of batches or parts, if it may follow the present state of each.

    :param connection: a transaction that writes.
    :param which: the condition that selects them.
    :param state: the new state.
    :param now: the time of the change; by default the present.
    :param values: other columns to be written with it.
    :return: how many there are.
    :raises IllegalTransitionError: one of them may not go to this state.
    """
    values = _with_what_ends(state, values)
    present = select(batches.c.id, batches.c.state, batches.c.part_of).where(which)
    rows = connection.execute(present.order_by(batches.c.id).with_for_update()).all()
    for row in rows:
        check_batch_state(BatchState(row.state), state, is_part=row.part_of is not None)
    moment = now or NOW
    for batch_of_ids in batched([row.id for row in rows]):
        written = update(batches).where(batches.c.id.in_(batch_of_ids))
        connection.execute(written.values(**values, state=state, updated_at=moment))
    return len(rows)


def _with_what_ends(state: BatchState, values: dict[str, Any]) -> dict[str, Any]:
    """Return columns to be written: what was said of an earlier reason does not outlive it.

    Nor does a dismissal outlive that the batch is done after all. Until then, what a person has decided
    stays, whatever a task comes to that was at work meanwhile; and so does the reason that it was about.
    """
    if "reason" not in values:
        return {**({"dismissed": None} if state.is_done else {}), **values}
    values = {"reason_detail": None, "stopped_in": None, **values}
    reason = values["reason"]
    if state.is_done:
        return values if reason else {"dismissed": None, **values}
    if reason == DECLINED:
        return values
    stays = _IS_DECLINED if reason else is_decided()
    told = ("reason", "reason_detail", "stopped_in")
    return {**values, **{name: case((stays, batches.c[name]), else_=values[name]) for name in told}}


def is_one_of(column: ColumnElement[Any], values: Iterable[Any]) -> ColumnElement[bool]:
    """Return the condition ``column IN values`` for a statement that is made once.

    Written out: SQLAlchemy spells the list of an ``IN`` anew each time that a statement is executed.

    :param values: few of them.
    """
    return or_(false(), *(column == value for value in values))


def _batch_may_become(state: BatchState) -> ColumnElement[bool]:
    """Return the condition that a batch or part may go to a state, as :func:`check_batch_state` has it."""
    of_wholes, of_parts = (
        [before for before in BatchState if state is before or state in allowed[before]]
        for allowed in (ALLOWED_OF_BATCHES, ALLOWED_OF_PARTS)
    )
    is_whole = batches.c.part_of.is_(None)
    if of_wholes == of_parts:
        return is_one_of(batches.c.state, of_wholes)
    return or_(
        and_(is_whole, is_one_of(batches.c.state, of_wholes)),
        and_(not_(is_whole), is_one_of(batches.c.state, of_parts)),
    )


_BATCH_MAY_BECOME = {state: _batch_may_become(state) for state in BatchState}


def write_state_of(
    connection: Connection, batch: int, state: BatchState, *, unless: Sequence[BatchState] = (), **values: Any
) -> bool:
    """Write the state of one batch or part as :func:`write_state` does, in one statement.

    :param connection: a transaction that writes.
    :param batch: its number.
    :param state: the new state.
    :param unless: states in which it is left as it is.
    :param values: other columns to be written with it.
    :return: whether it was written: there is such a batch, in none of the states to be left alone.
    :raises IllegalTransitionError: it may not go to this state.
    """
    is_plain = all(value is None for value in values.values())
    made = (
        _to_plain_state(state, *unless, names=tuple(values))
        if is_plain
        else _to_state_of_batch(state, unless, values)
    )
    if connection.execute(made, {"number": batch}).rowcount:
        return True
    # Seldom: it is not there, is to be left alone, or may not go to this state.
    which = and_(batches.c.id == batch, batches.c.state.not_in(unless))
    return bool(write_state(connection, which, state, **values))


def _to_state_of_batch(state: BatchState, unless: Iterable[BatchState], values: dict[str, Any]) -> Update:
    """Return the statement that writes the state of the batch ``number``, if it may go there."""
    of_it = and_(batches.c.id == bindparam("number"), not_(is_one_of(batches.c.state, unless)))
    written = update(batches).where(of_it, _BATCH_MAY_BECOME[state])
    return written.values(**_with_what_ends(state, values), state=state, updated_at=NOW)


@cache
def _to_plain_state(state: BatchState, *unless: BatchState, names: tuple[str, ...]) -> Update:
    """Return the same of what each batch comes to, made once.

    :param names: columns that are emptied with it.
    """
    return _to_state_of_batch(state, unless, dict.fromkeys(names))


def _data_set_may_become(state: DataSetState) -> ColumnElement[bool]:
    """Return the condition that a data set may go to a state, as :func:`check_data_set_state` has it."""
    is_normal = data_sets.c.data_set_type == "normal"
    of_normal, of_feeds = (
        is_one_of(data_sets.c.state, [before for before in DataSetState if state in allowed[before]])
        for allowed in (ALLOWED_OF_DATA_SETS, ALLOWED_OF_FEEDS)
    )
    return or_(and_(is_normal, of_normal), and_(not_(is_normal), of_feeds))


_DATA_SET_MAY_BECOME = {state: _data_set_may_become(state) for state in DataSetState}


def write_data_set_state(
    connection: Connection, data_set: int, state: DataSetState, values: Mapping[str, Any]
) -> Row[Any]:
    """Write the state of a data set, and when it was reached, if it may follow the present one.

    :param connection: a transaction that writes.
    :param data_set: its number.
    :param state: the new state.
    :param values: other columns to be written with it.
    :return: the data set as it is now.
    :raises IllegalTransitionError: it may not go to this state.
    """
    given = {"number": data_set, **{f"new_{name}": value for name, value in values.items()}}
    names = tuple(sorted(values))
    if row := connection.execute(_to_state(state, names), given).one_or_none():
        return row
    # Seldom: the present state is read only to say what is wrong, or if it has just changed.
    present = select(data_sets.c.state, data_sets.c.data_set_type).where(data_sets.c.id == data_set)
    before, data_set_type = connection.execute(present.with_for_update()).one()
    check_data_set_state(DataSetState(before), state, data_set_type)
    return connection.execute(_to_state(state, names, is_checked=True), given).one()


@cache
def _to_state(
    state: DataSetState, names: tuple[str, ...], *, is_checked: bool = False
) -> ReturningUpdate[Any]:
    """Return the statement that writes a state, made once.

    :param names: the columns that are written with it.
    :param is_checked: whether the state is known to be allowed.
    """
    reached = {TIME_COLUMN[state]: NOW} if state in TIME_COLUMN else {}
    given = {name: bindparam(f"new_{name}", type_=data_sets.c[name].type) for name in names}
    written = update(data_sets).where(data_sets.c.id == bindparam("number"))
    if not is_checked:
        written = written.where(_DATA_SET_MAY_BECOME[state])
    return written.values(**given, **reached, state=state, updated_at=NOW).returning(*data_sets.c)
