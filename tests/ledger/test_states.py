"""Which state may follow which: the tables, what the database takes, and what docs/architecture.md draws."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Set
from enum import StrEnum
from itertools import product
from typing import Any

import pytest
from sqlalchemy import update

from tests import PROJECT
from tests.factories import begin_data_set, found, set_batch_state, set_data_set_state
from tidepool_ingest.ledger import (
    DECLINED,
    SUPERSEDED_STATES,
    BatchState,
    DataSetState,
    FoundPart,
    IllegalTransitionError,
    Ledger,
    TaskOrigin,
)
from tidepool_ingest.ledger.schema import batches, data_sets
from tidepool_ingest.ledger.states import (
    ALLOWED_OF_BATCHES,
    ALLOWED_OF_DATA_SETS,
    ALLOWED_OF_FEEDS,
    ALLOWED_OF_PARTS,
)
from tidepool_ingest.ledger.transitions import write_state

Table = Mapping[Any, Set[Any]]

PART = FoundPart(content_key="d" * 64, records=1, expected_rows=1, chunks=1)


# ---------------------------------------------------------------- what the database takes


@pytest.mark.parametrize("is_part", [False, True], ids=["whole", "part"])
def test_a_batch_goes_where_the_table_lets_it(ledger: Ledger, is_part: bool) -> None:
    whole = ledger.batches.register(found())
    (part,) = ledger.parts.register(whole, [PART])
    number = part.id if is_part else whole.id
    allowed = ALLOWED_OF_PARTS if is_part else ALLOWED_OF_BATCHES

    for before, after in product(BatchState, repeat=2):
        set_batch_state(ledger, number, before)
        taken = after in allowed[before] or after is before
        try:
            with ledger.database.writing() as connection:
                assert write_state(connection, batches.c.id == number, after) == 1
        except IllegalTransitionError:
            assert not taken, (before, after)
        else:
            assert taken, (before, after)
        assert ledger.batches.get(number).state is (after if taken else before)


def data_set_steps(ledger: Ledger, number: int) -> dict[DataSetState, Callable[[], object]]:
    """Return the named step to each state that one leads to."""
    sets = ledger.data_sets
    return {
        DataSetState.OPEN: lambda: sets.mark_open(number),
        DataSetState.CLOSING: lambda: sets.begin_close(number),
        DataSetState.CLOSED: lambda: sets.mark_closed(number),
        DataSetState.VERIFIED: lambda: sets.mark_verified(number, expected_rows=5, visible_rows=5),
        DataSetState.DELETING: lambda: sets.begin_delete(number),
        DataSetState.DELETED: lambda: sets.mark_deleted(number),
        DataSetState.NOT_CREATED: lambda: sets.mark_not_created(number),
        DataSetState.UNREACHABLE: lambda: sets.mark_unreachable(number),
        DataSetState.ABANDONED: lambda: sets.begin_opening(
            sets.get(number).batch,
            data_set_type="continuous",
            deduplicator="org.example.d",
            expected_rows=5,
            origin=TaskOrigin(),
            data_set_id="upid_0123456789ab",
            instead_of=number,
        ),
    }


@pytest.mark.parametrize(
    ("data_set_type", "allowed"), [("normal", ALLOWED_OF_DATA_SETS), ("continuous", ALLOWED_OF_FEEDS)]
)
def test_a_data_set_goes_where_the_table_lets_it(ledger: Ledger, data_set_type: str, allowed: Table) -> None:
    number = begin_data_set(ledger, ledger.batches.register(found()).id, data_set_type)
    steps = data_set_steps(ledger, number)

    for before, after in product(DataSetState, steps):
        set_data_set_state(ledger, number, before)
        taken = after in allowed[before]
        try:
            steps[after]()
        except IllegalTransitionError:
            assert not taken, (before, after)
        else:
            assert taken, (before, after)
        assert ledger.data_sets.get(number).state is (after if taken else before)
    # Nothing leads back to the beginning.
    assert set(DataSetState) - set(steps) == {DataSetState.OPENING}
    assert not any(DataSetState.OPENING in following for following in allowed.values())


def test_the_named_steps_of_a_batch_lead_where_they_say(ledger: Ledger) -> None:
    number = ledger.batches.register(found()).id
    steps: list[tuple[Callable[..., object], list[Any], BatchState, str | None]] = [
        (ledger.batches.mark_prepared, [], BatchState.PREPARED, None),
        (ledger.batches.hold, ["some-guard"], BatchState.HELD, "some-guard"),
        (ledger.batches.decline, [], BatchState.HELD, DECLINED),
        (ledger.batches.approve, [], BatchState.PREPARED, None),
        (ledger.batches.begin_upload, [], BatchState.UPLOADING, None),
        (ledger.batches.mark_unfinished, ["some-code"], BatchState.UPLOADING, "some-code"),
        (ledger.batches.mark_failed, ["some-code"], BatchState.FAILED, "some-code"),
        (ledger.batches.mark_verified, [], BatchState.VERIFIED, None),
        (ledger.batches.set_reason, ["changed"], BatchState.VERIFIED, "changed"),
        (ledger.batches.mark_nothing_accepted, [], BatchState.NOTHING_ACCEPTED, None),
        (ledger.parts.set_all, [BatchState.REPLACED], BatchState.REPLACED, None),
    ]
    for step, arguments, state, reason in steps:
        step(number, *arguments)
        row = ledger.batches.get(number)
        assert (row.state, row.reason) == (state, reason)


def test_what_is_deleted_is_not_verified_opened_or_closed_again(ledger: Ledger) -> None:
    number = begin_data_set(ledger, ledger.batches.register(found()).id)
    ledger.data_sets.mark_open(number, "upid_0123456789ab")
    ledger.data_sets.begin_delete(number)
    ledger.data_sets.mark_deleted(number)

    steps = data_set_steps(ledger, number)
    for state in (DataSetState.VERIFIED, DataSetState.OPEN, DataSetState.CLOSING, DataSetState.CLOSED):
        with pytest.raises(IllegalTransitionError, match=f"that is deleted cannot become {state}"):
            steps[state]()
    row = ledger.data_sets.get(number)
    assert (row.state, row.verified_at, row.closed_at) == (DataSetState.DELETED, None, None)


def test_no_upload_begins_where_another_batch_stands_in_its_place(ledger: Ledger) -> None:
    number = ledger.batches.register(found()).id
    started = set()
    for state in BatchState:
        set_batch_state(ledger, number, state)
        if ledger.batches.begin_upload(number):
            started.add(state)
        else:
            assert ledger.batches.get(number).state is state

    assert set(BatchState) - started == set(SUPERSEDED_STATES)


def test_one_of_many_that_may_not_go_keeps_the_others_back(ledger: Ledger) -> None:
    whole = ledger.batches.register(found())
    (part,) = ledger.parts.register(whole, [PART])
    set_batch_state(ledger, whole.id, BatchState.VERIFIED)
    set_batch_state(ledger, part.id, BatchState.REPLACED)

    with pytest.raises(IllegalTransitionError):
        ledger.parts.set_all(whole.id, BatchState.WITHDRAWN)
    assert ledger.batches.get(whole.id).state is BatchState.VERIFIED


def test_a_step_goes_by_the_state_that_another_writer_has_just_left(ledger: Ledger) -> None:
    number = begin_data_set(ledger, ledger.batches.register(found()).id)
    set_data_set_state(ledger, number, DataSetState.CLOSING)
    refused: list[IllegalTransitionError] = []

    def close() -> None:
        try:
            ledger.data_sets.mark_closed(number)
        except IllegalTransitionError as error:
            refused.append(error)

    closing = threading.Thread(target=close)
    with ledger.database.writing() as connection:
        deleted = update(data_sets).where(data_sets.c.id == number).values(state=DataSetState.DELETED)
        connection.execute(deleted)
        closing.start()
        closing.join(0.3)  # it waits for this transaction
        assert closing.is_alive()
    closing.join(30)

    assert [(one.before, one.after) for one in refused] == [("deleted", "closed")]
    assert ledger.data_sets.get(number).state is DataSetState.DELETED


def test_the_error_names_no_batch_and_nobody(ledger: Ledger) -> None:
    number = ledger.batches.register(found()).id
    set_batch_state(ledger, number, BatchState.REPLACED)

    with pytest.raises(IllegalTransitionError) as caught:
        ledger.batches.mark_verified(number)
    assert (
        caught.value.what
        == f"A batch that is {BatchState.REPLACED} cannot become verified. Nothing was written."
    )
    assert caught.value.code == "state-not-allowed"


# ---------------------------------------------------------------- the tables themselves


@pytest.mark.parametrize(
    ("table", "beginning", "unused"),
    [
        (ALLOWED_OF_BATCHES, BatchState.PLANNED, set()),
        (ALLOWED_OF_PARTS, BatchState.PREPARED, {BatchState.PLANNED, BatchState.GONE}),
        (ALLOWED_OF_DATA_SETS, DataSetState.OPENING, {DataSetState.ABANDONED}),
        (
            ALLOWED_OF_FEEDS,
            DataSetState.OPEN,
            set(DataSetState) - {DataSetState.OPEN, DataSetState.VERIFIED, DataSetState.ABANDONED},
        ),
    ],
    ids=["batch", "part", "data set", "feed"],
)
def test_every_state_is_reached(table: Table, beginning: StrEnum, unused: set[StrEnum]) -> None:
    seen, waiting = {beginning}, [beginning]
    while waiting:
        following = table[waiting.pop()] - seen
        seen |= following
        waiting += following

    assert set(table) == set(type(beginning))
    assert set(table) - seen == unused


def test_the_last_states_are_the_last() -> None:
    ends = {state for state, following in ALLOWED_OF_DATA_SETS.items() if not following}
    assert ends == {
        DataSetState.DELETED,
        DataSetState.NOT_CREATED,
        DataSetState.UNREACHABLE,
        DataSetState.ABANDONED,
    }
    assert {state for state, following in ALLOWED_OF_BATCHES.items() if not following} == {
        BatchState.REPLACED
    }


# ---------------------------------------------------------------- docs/architecture.md

ALIAS = re.compile(r'^ +state "([^"]+)" as (\w+)$')
ARROW = re.compile(r"^ +(\[\*\]|\w+) --> (\w+): (.+)$")
ROW = re.compile(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|", flags=re.MULTILINE)

Arrows = set[tuple[str, str]]


def section() -> str:
    text = (PROJECT / "docs" / "architecture.md").read_text()
    return text.partition("\n## States\n")[2].partition("\n## ")[0]


def drawn(number: int) -> tuple[Arrows, Arrows]:
    """Return the arrows of a diagram, and apart from them those for continuous data sets."""
    diagram = re.findall(r"```mermaid\nstateDiagram-v2\n(.*?)```", section(), flags=re.DOTALL)[number]
    names: dict[str, str] = {}
    normal: Arrows = set()
    continuous: Arrows = set()
    for line in filter(None, diagram.splitlines()):
        if alias := ALIAS.match(line):
            names[alias[2]] = alias[1]
            continue
        arrow = ARROW.match(line)
        assert arrow is not None, line
        ends = names.get(arrow[1], arrow[1]), names.get(arrow[2], arrow[2])
        (continuous if arrow[3].startswith("continuous") else normal).add(ends)
    return normal, continuous


def pairs(table: Table) -> Arrows:
    return {(str(before), str(after)) for before, following in table.items() for after in following}


def test_the_documentation_lists_what_may_follow_each_state_of_a_batch() -> None:
    rows = {before: (to, of_parts) for before, to, of_parts in ROW.findall(section())}
    listed = {before: set(re.findall("`([^`]+)`", to)) for before, (to, _) in rows.items()}
    of_parts = {before: set(re.findall("`([^`]+)`", more)) for before, (_, more) in rows.items()}

    assert listed == {str(one): set(map(str, following)) for one, following in ALLOWED_OF_BATCHES.items()}
    assert of_parts == {
        str(one): set(map(str, following - ALLOWED_OF_BATCHES[one]))
        for one, following in ALLOWED_OF_PARTS.items()
    }


def test_the_diagram_of_a_batch_shows_every_state_and_only_what_is_allowed() -> None:
    arrows, _ = drawn(0)

    assert {after for _, after in arrows} == set(map(str, BatchState))
    assert arrows - pairs(ALLOWED_OF_BATCHES) == {("[*]", "planned")}


def test_the_diagram_of_a_data_set_shows_all_that_is_allowed() -> None:
    normal, continuous = drawn(1)

    # The second is one that Tidepool had and the ledger did not know.
    assert normal == pairs(ALLOWED_OF_DATA_SETS) | {("[*]", "opening"), ("[*]", "verified")}
    assert continuous == pairs(ALLOWED_OF_FEEDS) | {("[*]", "open")}
