"""Two runs that note the same thing in the same instant."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from functools import partial
from typing import Any

from sqlalchemy import event

from tests.factories import found
from tidepool_ingest.ledger import Ledger, ReadManifest

RUNS = 3


def meeting(ledger: Ledger, statement: str, call: Callable[[], Any]) -> list[Any]:
    """Do something in several threads that have all carried out a statement before any goes on.

    SQLite takes one writer at a time: there they do not come to meet, and each goes on after a while.

    :param statement: how the statement begins.
    :return: what each call returned.
    """
    barrier, met, results = threading.Barrier(RUNS), threading.local(), []

    def wait_for_the_others(_connection: Any, _cursor: Any, text: str, *_rest: Any) -> None:
        if text.startswith(statement) and not hasattr(met, "before"):
            met.before = True
            with suppress(threading.BrokenBarrierError):
                barrier.wait(0.5)

    def run() -> None:
        try:
            results.append(call())
        except Exception as error:
            results.append(error)

    event.listen(ledger.database.engine, "after_cursor_execute", wait_for_the_others)
    threads = [threading.Thread(target=run) for _ in range(RUNS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_a_batch_is_noted_once(ledger: Ledger) -> None:
    noted = meeting(ledger, "SELECT batches", lambda: ledger.batches.register(found()))

    assert noted == [ledger.batches.get(noted[0].id)] * RUNS


def test_days_are_noted_once(ledger: Ledger) -> None:
    batch = ledger.batches.register(found()).id
    days = {date(2026, 1, 1): {"cbg": 288, "basal": 24}}

    assert (
        meeting(ledger, "SELECT batch_days", lambda: ledger.batch_days.replace_for_batch(batch, days))
        == [None] * RUNS
    )
    assert ledger.batch_days.of_batch(batch) == days


def test_changed_days_are_noted_once(ledger: Ledger) -> None:
    batch = ledger.batches.register(found()).id
    days = {date(2026, 1, 1): {"cbg": 288}}
    ledger.batch_days.replace_for_batch(batch, {date(2026, 1, 1): {"cbg": 7}})

    assert (
        meeting(ledger, "SELECT batch_days", lambda: ledger.batch_days.replace_for_batch(batch, days))
        == [None] * RUNS
    )
    assert ledger.batch_days.of_batch(batch) == days


def test_reasons_are_noted_once(ledger: Ledger) -> None:
    batch = ledger.batches.register(found()).id
    for records in (7, 8):
        reasons = {"cbg": {"value-out-of-range": records}}
        noting = partial(ledger.quarantine_reasons.replace_for_batch, batch, reasons)

        assert meeting(ledger, "SELECT quarantine_reasons", noting) == [None] * RUNS
        assert ledger.quarantine_reasons.of_batch(batch) == reasons


def test_a_digest_is_noted_once(ledger: Ledger) -> None:
    def digest(fingerprint: str = "1") -> str:
        return ledger.file_digests.digest_of("staged.ndjson", fingerprint, lambda: fingerprint * 64)

    assert meeting(ledger, "SELECT file_digests", digest) == ["1" * 64] * RUNS
    assert meeting(ledger, "SELECT file_digests", lambda: digest("2")) == ["2" * 64] * RUNS
    assert ledger.file_digests.digest_of("staged.ndjson", "2", lambda: "never") == "2" * 64


def test_a_manifest_is_noted_once(ledger: Ledger) -> None:
    read = ReadManifest(fingerprint="1" * 64, user_id="0123456789", content_key="c" * 64, label="label")

    assert meeting(ledger, "SELECT manifests", lambda: ledger.manifests.save({"/a": read})) == [None] * RUNS
    assert ledger.manifests.known({"/a": "1" * 64}) == {"/a": read}


def test_many_batches_that_several_runs_note_are_noted_once(ledger: Ledger) -> None:
    """Their windows overlap, so that each meets some that another one is inserting."""
    many = [
        found(content_key=f"{number:064x}", folder=f"/{number}", batch_id=str(number))
        for number in range(900)
    ]
    windows = iter([many[:600], many[150:750], many[300:]])
    taking = threading.Lock()

    def note() -> list[str]:
        with taking:
            window = next(windows)
        rows = ledger.batches.register_all(window)
        assert [row.content_key for row in rows] == [one.content_key for one in window]
        return [f"{row.content_key} {row.id}" for row in rows]

    results = meeting(ledger, "SELECT batches", note)

    assert [result for result in results if not isinstance(result, list)] == []
    assert len({noted for result in results for noted in result}) == len(many)
