from __future__ import annotations

import os
import pickle
import uuid
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from tidepool_ingest.errors import Disposition
from tidepool_ingest.staging import local
from tidepool_ingest.staging.batches import (
    Arrivals,
    BatchFolder,
    Ignored,
    days,
    days_with_batches,
    find_batches,
    list_batches,
    removed_folders,
)
from tidepool_ingest.staging.errors import BatchError

A, B = "aaaaaaaaaa", "bbbbbbbbbb"
JAN_1, JAN_2, JAN_3 = date(2026, 1, 1), date(2026, 1, 2), date(2026, 1, 3)

Put = Callable[[UPath, bytes], UPath]


@pytest.fixture
def filled(root: UPath, put: Put) -> UPath:
    ready = [
        f"2026-01-02/{B}/b1",
        f"2026-01-02/{A}/b2",
        f"2026-01-02/{A}/b1",
        f"2026-01-01/{A}/late",
        f"2026-01-03/{B}/b9",
    ]
    for name in ready:
        put(root / name / "cbg.ndjson", b"{}")
        put(root / name / "manifest.json", b"not even JSON: listing opens nothing")
    put(root / f"2026-01-02/{A}/unfinished/cbg.ndjson", b"{}")
    put(root / f"2026-01-02/{A}/deep/inside/manifest.json", b"{}")
    put(root / "2026-01-02/not-a-user/b1/manifest.json", b"{}")
    put(root / f"2026-01-02/{A}/_hidden/manifest.json", b"{}")
    put(root / f"2026-01-02/{A}/loose.txt", b"")
    put(root / "2026-01-02/loose.txt", b"")
    put(root / "_work/aa/prepared.json", b"{}")
    put(root / ".snapshot/x", b"")
    put(root / "2026-13-02/x/y/manifest.json", b"{}")
    put(root / "notes/x", b"")
    put(root / "readme.txt", b"")
    return root


def test_finds_ready_batches_of_a_window_in_order(filled: UPath) -> None:
    found = list(find_batches(filled, JAN_1, JAN_2))
    assert [batch.name for batch in found] == [
        f"2026-01-01/{A}/late",
        f"2026-01-02/{A}/b1",
        f"2026-01-02/{A}/b2",
        f"2026-01-02/{B}/b1",
    ]
    assert (found[0].day, found[0].user_id, found[0].batch_id) == (JAN_1, A, "late")
    assert (found[0].path / "manifest.json").fs.exists((found[0].path / "manifest.json").path)
    assert [batch.batch_id for batch in find_batches(filled, JAN_3, JAN_3)] == ["b9"]
    assert list(find_batches(filled, date(2027, 1, 1), date(2027, 1, 2))) == []


def test_counts_what_is_no_ready_batch(filled: UPath) -> None:
    ignored = Ignored()
    list(find_batches(filled, JAN_1, JAN_3, ignored))
    assert ignored.counts == {
        "not-a-day": 2,
        "loose-file": 1,
        "not-a-user": 2,
        "not-a-batch": 1,
        "no-manifest": 2,
    }
    assert len(ignored.examples["no-manifest"]) == 2
    assert A not in str(ignored)


def test_days_come_from_one_listing(filled: UPath) -> None:
    assert days(filled) == [JAN_1, JAN_2, JAN_3]


def test_days_with_batches_leave_out_empty_ones(filled: UPath, put: Put) -> None:
    put(filled / f"2026-02-01/{A}/unfinished/cbg.ndjson", b"{}")
    put(filled / "2026-02-02/nobody/b1/manifest.json", b"{}")
    assert days_with_batches(filled) == [JAN_1, JAN_2, JAN_3]


def code_of_listing(root: UPath) -> str:
    listings: tuple[Callable[[], Any], ...] = (
        lambda: days(root),
        lambda: list(find_batches(root, JAN_1, JAN_3)),
        lambda: days_with_batches(root),
        lambda: removed_folders(root, [BatchFolder.at(root, f"2026-01-02/{A}/b1")]),
        lambda: Arrivals(root).look(JAN_1, JAN_3),
    )
    codes = set()
    for listing in listings:
        with pytest.raises(BatchError) as caught:
            listing()
        codes.add(caught.value.code)
        assert caught.value.disposition is Disposition.DATA
        assert "TIDEPOOL_STAGING_ROOT" in str(caught.value)
        assert root.path not in str(caught.value)
    (code,) = codes
    return code


def test_an_empty_root_holds_nothing(root: UPath) -> None:
    root.fs.makedirs(root.path, exist_ok=True)
    assert days(root) == []
    assert list(find_batches(root, JAN_1, JAN_3)) == []
    assert days_with_batches(root) == []


@pytest.mark.parametrize("kind", ["local", "file://", "memory", "bucket"])
def test_a_root_that_is_not_there_is_an_error(kind: str, tmp_path: Path, bucket: UPath) -> None:
    addresses = {"file://": f"file://{tmp_path}/nowhere", "memory": f"memory://{uuid.uuid4().hex}"}
    if kind == "bucket":
        bucket.fs.buckets.clear()
        root = bucket
    else:
        root = UPath(addresses.get(kind, tmp_path / "nowhere"))

    assert code_of_listing(root) == "staging-root-missing"


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_root_that_is_a_file_is_an_error(kind: str, tmp_path: Path) -> None:
    file = UPath(tmp_path / "file" if kind == "local" else f"memory://{uuid.uuid4().hex}/file")
    file.fs.pipe_file(file.path, b"x")
    assert code_of_listing(file) == "staging-root-missing"


def test_a_bucket_that_may_not_be_asked_about_counts_as_there(
    bucket: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(bucket.fs, "info", refuse)
    assert days(bucket) == []


def test_an_object_store_is_listed_in_few_calls_and_no_object_is_opened(bucket: UPath, put: Put) -> None:
    for number in range(500):
        for name in ("manifest.json", "a.gz", "b.gz"):
            put(bucket / f"2026-01-0{1 + number % 5}" / f"{number:010x}" / "b1" / name, b"{}")
    store = bucket.fs
    store.calls.clear()
    assert len(list(find_batches(bucket, JAN_1, JAN_3))) == 300
    assert store.calls == {"list": 4}
    store.calls.clear()
    assert len(days_with_batches(bucket)) == 5
    assert "get" not in store.calls
    assert store.calls["list"] <= 1 + 5 * 3


def test_names_lead_back_to_folders(root: UPath) -> None:
    name = f"2026-01-02/{A}/b1"
    batch = BatchFolder.at(root, name)
    assert batch == BatchFolder(JAN_2, A, "b1", root / name)
    assert batch.name == name
    assert batch.path.path == (root / name).path


@pytest.mark.parametrize(
    "name",
    [
        "",
        "2026-01-02",
        f"2026-01-02/{A}",
        f"2026-1-2/{A}/b",
        f"2026-02-30/{A}/b",
        "2026-01-02/x/b",
        f"2026-01-02/{A}/..",
        f"2026-01-02/{A}/b/c",
        f"2026-01-02/{A}/_work",
    ],
)
def test_other_names_do_not(root: UPath, name: str) -> None:
    with pytest.raises(BatchError) as caught:
        BatchFolder.at(root, name)
    assert caught.value.code == "batch-folder"
    assert A not in str(caught.value)


def test_label_is_short_and_stable_and_hides_the_user(tmp_path: object) -> None:
    root = UPath(str(tmp_path))
    one, other = BatchFolder.at(root, f"2026-01-02/{A}/b1"), BatchFolder.at(root, f"2026-01-02/{B}/b1")
    assert one.label != other.label
    assert len(one.label) == 10
    assert one.label == BatchFolder.at(root / "elsewhere", one.name).label


def test_a_batch_folder_can_be_pickled(tmp_path: object) -> None:
    batch = BatchFolder.at(UPath(str(tmp_path)), f"2026-01-02/{A}/b1")
    again = pickle.loads(pickle.dumps(batch))
    assert (again, again.path) == (batch, batch.path)


def test_a_failing_storage_is_told_without_its_text(root: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError(f"no route to /{A}/secret")

    monkeypatch.setattr(root.fs, "ls", fail)
    monkeypatch.setattr(local, "entries", fail)
    with pytest.raises(BatchError) as caught:
        days(root)
    assert caught.value.code == "staging-unreadable"
    assert caught.value.disposition is Disposition.RETRIABLE
    assert caught.value.detail == "ConnectionError"
    assert A not in str(caught.value)


def test_a_mark_changes_when_any_file_of_its_batch_does_and_no_other_one(tmp_path: Path, put: Put) -> None:
    root = UPath(tmp_path / "staging")
    for batch in ("b1", "b2"):
        for name in ("manifest.json", "cbg.ndjson"):
            put(root / f"2026-01-01/{A}/{batch}/{name}", b"{}")

    def marks() -> list[str]:
        return [mark for _folder, mark in list_batches(root, JAN_1, JAN_1)]

    seen = [marks()]
    assert all(len(mark) == 64 for mark in seen[0])
    assert marks() == seen[0]
    for change in (
        lambda: put(root / f"2026-01-01/{A}/b2/cbg.ndjson", b"{ }"),
        lambda: put(root / f"2026-01-01/{A}/b2/more.ndjson", b"{}"),
        lambda: os.utime((root / f"2026-01-01/{A}/b2/manifest.json").path, (1, 1)),
        lambda: Path((root / f"2026-01-01/{A}/b2/more.ndjson").path).unlink(),
    ):
        change()
        seen.append(marks())
    assert len({first for first, _second in seen}) == 1
    assert len({second for _first, second in seen}) == 5


def test_what_a_storage_tells_no_change_of_has_no_mark(
    bucket: UPath, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bucket / f"2026-01-01/{A}/b1/manifest.json", b"{}")
    put(bucket / f"2026-01-01/{A}/b1/cbg.ndjson", b"{}")
    assert [mark for _folder, mark in list_batches(bucket, JAN_1, JAN_1)] == [""]
    listing = bucket.fs.find

    def find(*given: Any, **more: Any) -> Any:
        return {name: {**info, "ETag": "1"} for name, info in listing(*given, **more).items()}

    monkeypatch.setattr(bucket.fs, "find", find)
    bucket.fs.calls.clear()
    ((_folder, mark),) = list_batches(bucket, JAN_1, JAN_1)
    assert len(mark) == 64
    assert bucket.fs.calls == {"list": 2}
