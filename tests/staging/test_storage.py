from __future__ import annotations

import gc
import hashlib
import os
import stat
from pathlib import Path

import pytest
from upath import UPath

from tests.storages import BucketFile
from tidepool_ingest.errors import Disposition
from tidepool_ingest.staging import local, storage
from tidepool_ingest.staging.errors import BatchError

SECRET = "aaaaaaaaaa"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def listing(root: UPath) -> list[str]:
    return sorted(name.rpartition("/")[2] for name in root.fs.find(root.path))


def write_and_stop(path: UPath, content: bytes) -> None:
    with storage.WholeFileWriter(path) as file:
        file.write(content)
        raise RuntimeError("stop")


def write_all(path: UPath, content: bytes) -> None:
    with storage.WholeFileWriter(path) as file:
        file.write(content)


def test_a_file_is_read_in_blocks_and_hashed(root: UPath) -> None:
    content = os.urandom(storage.READ_BYTES * 2 + 5)
    storage.make_folder(root)
    storage.write_whole(root / "a", content)
    blocks = list(storage.read_blocks(root / "a"))
    assert [len(block) for block in blocks] == [storage.READ_BYTES, storage.READ_BYTES, 5]
    assert b"".join(blocks) == content
    assert storage.sha256_of(root / "a") == hashlib.sha256(content).hexdigest()
    assert storage.read_range(root / "a", 7, 9, missing="file-missing") == content[7:16]
    assert storage.read_at_most(root / "a", 10, missing="file-missing") == content[:11]


def test_a_file_that_is_not_there(root: UPath) -> None:
    for read in (
        lambda: list(storage.read_blocks(root / SECRET, file_number=4)),
        lambda: storage.read_range(root / SECRET, 0, 1, missing="file-missing"),
        lambda: storage.read_at_most(root / SECRET, 1, missing="file-missing"),
    ):
        with pytest.raises(BatchError) as caught:
            read()
        assert caught.value.code == "file-missing"
        assert SECRET not in str(caught.value)


def test_a_storage_that_fails_in_the_middle_is_retriable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        reads = 0
        closed = False

        def read(self, _: int) -> bytes:
            self.reads += 1
            if self.reads == 2:
                raise TimeoutError(f"reading /{SECRET}")
            return b"x"

        def close(self) -> None:
            self.closed = True

    file = Failing()
    path = UPath(tmp_path / "a")
    monkeypatch.setattr(local, "open_file", lambda *_: file)
    blocks = storage.read_blocks(path, file_number=2)
    assert next(blocks) == b"x"
    with pytest.raises(BatchError) as caught:
        next(blocks)
    assert (caught.value.code, caught.value.file_number, caught.value.detail) == (
        "staging-unreadable",
        2,
        "TimeoutError",
    )
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__
    assert file.closed


def test_whole_or_nothing(root: UPath) -> None:
    storage.make_folder(root)
    storage.write_whole(root / "kept", b"old")
    with pytest.raises(RuntimeError, match="stop"):
        write_and_stop(root / "new", b"half")
    assert listing(root) == ["kept"]
    with storage.WholeFileWriter(root / "new") as file:
        file.write(b"one")
        file.write(b"two")
        assert file.size == 6
    assert listing(root) == ["kept", "new"]
    assert storage.read_at_most(root / "new", 100, missing="file-missing") == b"onetwo"


@pytest.mark.parametrize("kind", ["local", "bucket"])
def test_an_older_file_stays_until_the_new_one_is_whole(kind: str, tmp_path: Path, bucket: UPath) -> None:
    root = UPath(tmp_path) if kind == "local" else bucket
    storage.write_whole(root / "a", b"old")
    with pytest.raises(RuntimeError, match="stop"):
        write_and_stop(root / "a", b"x" * 10_000_000)
    assert storage.read_at_most(root / "a", 100, missing="file-missing") == b"old"
    assert listing(root) == ["a"]


def test_a_multi_part_upload_given_up_never_appears(bucket: UPath) -> None:
    with pytest.raises(RuntimeError, match="stop"):
        write_and_stop(bucket / "big", b"x" * 20_000_000)
    gc.collect()  # a file object that is still open would be completed now
    assert bucket.fs.objects.get((bucket / "big").path) is None


def refuse(*_: object) -> None:
    raise ConnectionError("the store is gone")


def test_an_upload_that_cannot_even_be_given_up_never_appears(
    bucket: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BucketFile, "discard", refuse)
    with pytest.raises(RuntimeError, match="stop"):
        write_and_stop(bucket / "half", b"half")
    gc.collect()
    assert bucket.fs.objects.get((bucket / "half").path) is None


def test_an_upload_that_cannot_be_completed_is_given_up(
    bucket: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up = []
    monkeypatch.setattr(BucketFile, "_upload_chunk", refuse)
    monkeypatch.setattr(BucketFile, "discard", lambda file: given_up.append(file.path))
    with pytest.raises(BatchError, match="staging-unwritable"):
        write_all(bucket / "half", b"half")
    assert given_up == [(bucket / "half").path]


def test_local_files_are_private(tmp_path: Path) -> None:
    root = UPath(tmp_path / "a" / "b")
    storage.make_folder(root)
    storage.write_whole(root / "c", b"")
    assert mode_of(tmp_path / "a" / "b") == 0o700
    assert mode_of(tmp_path / "a" / "b" / "c") == 0o600


def test_a_disk_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / SECRET).write_bytes(b"a file, no folder")
    for write in (
        lambda: storage.make_folder(UPath(tmp_path / SECRET / "x")),
        lambda: storage.write_whole(UPath(tmp_path / SECRET / "x"), b""),
    ):
        with pytest.raises(BatchError) as caught:
            write()
        assert caught.value.code == "staging-unwritable"
        assert caught.value.disposition is Disposition.RETRIABLE
        assert SECRET not in str(caught.value)


def test_an_unknown_kind_of_storage_is_told_and_not_tried_again() -> None:
    class Nowhere:
        protocol = "nowhere"

        @property
        def fs(self) -> None:
            raise ValueError(f"no filesystem registered for nowhere://{SECRET}")

    with pytest.raises(BatchError) as caught:
        list(storage.read_blocks(Nowhere()))  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.detail) == ("staging-unreachable", "ValueError")
    assert caught.value.disposition is Disposition.DATA
    assert caught.value.__context__ is None


def test_removing(root: UPath) -> None:
    storage.make_folder(root / "x")
    storage.write_whole(root / "x" / "a", b"1")
    storage.write_whole(root / "x" / "b", b"2")
    storage.remove_file(root / "x" / "a")
    storage.remove_file(root / "x" / "a")
    assert listing(root) == ["b"]
    storage.remove_folder(root / "x")
    storage.remove_folder(root / "x")
    assert listing(root) == []
    assert not root.fs.exists((root / "x").path)
