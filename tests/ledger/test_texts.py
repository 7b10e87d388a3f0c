"""Texts that one database would keep and another one not reach neither."""

from __future__ import annotations

import pickle
import re
from typing import Any

import pytest
from sqlalchemy import String, func, insert, select, update
from sqlalchemy.exc import DontWrapMixin

from tests.factories import found
from tidepool_ingest.ledger import Ledger, LedgerTextError, check_found_texts
from tidepool_ingest.ledger.schema import (
    INDEXED_LENGTH,
    USER_ID_LENGTH,
    LedgerText,
    batches,
    metadata,
    refresh_tokens,
)
from tidepool_ingest.privacy import is_user_id
from tidepool_ingest.staging import manifest

CANARY = "canary"
ODD = {"U+0000": f"{CANARY}\0", "half of a surrogate pair": f"{CANARY}\ud800"}

COLUMNS = [column for table in metadata.sorted_tables for column in table.columns]
TEXTS = [column for column in COLUMNS if isinstance(column.type, LedgerText)]


def test_no_column_of_texts_is_left_out() -> None:
    assert len(TEXTS) > 40
    assert [column for column in COLUMNS if isinstance(column.type, String)] == []


@pytest.mark.parametrize("problem", ODD)
def test_each_column_refuses_odd_text_by_its_name(ledger: Ledger, problem: str) -> None:
    for column in TEXTS:
        with pytest.raises(LedgerTextError) as caught, ledger.database.writing() as connection:
            connection.execute(update(column.table).values({column: ODD[problem]}))
        assert (caught.value.column, caught.value.problem) == (f"{column.table}.{column.name}", problem)
        assert CANARY not in str(caught.value)


def test_each_column_refuses_what_is_longer_than_it_is(ledger: Ledger) -> None:
    bounded = [column for column in TEXTS if column.type.most is not None]
    assert len(bounded) > 15
    for column in bounded:
        with pytest.raises(LedgerTextError) as caught, ledger.database.writing() as connection:
            connection.execute(update(column.table).values({column: "x" * (column.type.most + 1)}))
        assert caught.value.column == f"{column.table}.{column.name}"
        assert caught.value.problem == f"more than its {column.type.most} characters"


def test_one_among_many_stops_the_statement_before_it_is_sent(ledger: Ledger) -> None:
    rows = [found(batch_id=f"b-{number}", content_key=f"{number:064x}") for number in range(3)]

    with pytest.raises(LedgerTextError):
        ledger.batches.register_all([*rows, found(device_id="a\0", content_key="f" * 64)])

    with ledger.database.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(batches)) == 0


def test_what_no_column_can_hold_equals_nothing(ledger: Ledger) -> None:
    ledger.batches.register(found())

    with ledger.database.reading() as connection:
        for text in ("x" * (USER_ID_LENGTH + 1), "\N{SNOWMAN}" * 300):
            assert connection.execute(select(batches).where(batches.c.user_id == text)).all() == []
            assert connection.execute(select(batches).where(batches.c.user_id.in_([text]))).all() == []
        assert connection.execute(select(batches).where(batches.c.label.icontains("model"))).all() == []
        assert len(connection.execute(select(batches).where(batches.c.label.icontains("dexcom"))).all()) == 1


def test_it_crosses_processes_and_is_not_wrapped() -> None:
    error = pickle.loads(pickle.dumps(LedgerTextError("batches.label", "U+0000")))

    assert (error.column, error.code, isinstance(error, DontWrapMixin)) == (
        "batches.label",
        "ledger-text",
        True,
    )


@pytest.mark.parametrize(
    "texts", [{"device_id": "\0"}, {"client_name": "x" * 501}, {"device_id": "x" * 501}, {"label": "\udfff"}]
)
def test_what_was_found_of_a_batch_is_checked_the_same(texts: dict[str, Any]) -> None:
    check_found_texts({"device_id": "x" * 500, "label": "x" * 10_000, "client_name": "x" * 500})
    with pytest.raises(LedgerTextError):
        check_found_texts(texts)


def test_a_manifest_is_bounded_as_the_columns_are() -> None:
    assert manifest.MAX_INDEXED_LENGTH == INDEXED_LENGTH
    assert is_user_id("a" * 8 + "-aaaa-aaaa-aaaa-" + "a" * 12)
    assert len("a" * 8 + "-aaaa-aaaa-aaaa-" + "a" * 12) == USER_ID_LENGTH
    assert not any(re.fullmatch(manifest.USER_ID_PATTERN, "a" * length) for length in range(37, 80))
    assert refresh_tokens.c.connection.type.most >= manifest.MAX_CONNECTION_LENGTH


def test_the_longest_names_fit_into_an_index(ledger: Ledger) -> None:
    """PostgreSQL indexes 2,704 bytes of a row, and compresses what repeats itself."""
    wide = "".join(chr(0x10000 + 7 * number % 60_000) for number in range(INDEXED_LENGTH))
    host = "".join(chr(ord("a") + number * number % 26) for number in range(255))
    user = "01234567-89ab-cdef-0123-456789abcdef"

    batch = ledger.batches.register(found(api_host=host, user_id=user, batch_id=wide[:200]))
    with ledger.database.writing() as connection:
        values = {"api_host": host, "user_id": user, "client_name": wide, "data_set_type": "normal"}
        connection.execute(insert(metadata.tables["feeds"]).values(**values, created_at=batch.created_at))
