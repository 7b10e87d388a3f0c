from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from upath import UPath

from tests import SHARED
from tidepool_ingest.formats import SourceReader
from tidepool_ingest.formats.reader import TOO_LARGE, Block
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import StagedFile
from tidepool_ingest.staging.source_file import SourceFile

Put = Callable[[UPath, bytes], UPath]

LINES = [b'{"n":%d}' % number for number in range(2345)]
NDJSON = b"\n".join(LINES) + b"\n"
ARRAY = b"[\n" + b",\n".join(LINES) + b"\n]\n"


def blocks(file: SourceFile) -> list[Block]:
    with SourceReader([file]) as reader:
        return list(reader)


def read(path: UPath, file_format: str = "ndjson") -> list[bytes]:
    return [line for block in blocks(SourceFile(path, file_format, 1)) for line in block.lines]


def refusal(path: UPath, file_format: str = "ndjson") -> BatchError:
    with pytest.raises(BatchError) as caught:
        blocks(SourceFile(path, file_format, 2))
    assert caught.value.file_number == 2
    return caught.value


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
@pytest.mark.parametrize("file_format", ["ndjson", "json"])
def test_every_format_on_every_storage(root: UPath, put: Put, file_format: str, ending: str) -> None:
    text = NDJSON if file_format == "ndjson" else ARRAY
    content = {"": text, ".gz": gzip.compress(text), ".zst": zstandard.compress(text)}[ending]
    put(root / f"a{ending}", content)
    file = SourceFile(root / f"a{ending}", file_format, 1, digested=True)
    with SourceReader([file]) as reader:
        assert [line for block in reader for line in block.lines] == LINES
    assert reader.rows == {1: len(LINES)}
    assert file.staged_bytes == len(content)
    assert file.sha256 == hashlib.sha256(content).hexdigest()


def test_check_holds_the_manifest_against_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(NDJSON)
    digest = hashlib.sha256(NDJSON).hexdigest()
    for staged in (
        StagedFile(name="a", format="ndjson"),
        StagedFile(name="a", format="ndjson", sha256=digest, records=len(LINES)),
        StagedFile(name="a", format="ndjson", sha256=digest.upper()),
    ):
        assert blocks(SourceFile(UPath(path), "ndjson", 7, staged))
    with pytest.raises(BatchError) as caught:
        blocks(SourceFile(UPath(path), "ndjson", 7, StagedFile(name="a", format="ndjson", sha256="0" * 64)))
    assert (caught.value.code, caught.value.file_number) == ("file-sha256", 7)
    with pytest.raises(BatchError) as caught:
        blocks(SourceFile(UPath(path), "ndjson", 7, StagedFile(name="a", format="ndjson", records=9)))
    assert (caught.value.code, caught.value.detail) == ("file-records", "2345 instead of 9")


def test_digest_is_not_told_before_all_was_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(NDJSON * 100)
    file = SourceFile(UPath(tmp_path / "a"), "ndjson", digested=True)
    with SourceReader([file]) as reader:
        next(iter(reader))
    with pytest.raises(RuntimeError, match="not read to its end"):
        _ = file.sha256


def test_what_a_reader_left_unread_is_digested_too(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(NDJSON)
    digest = hashlib.sha256(NDJSON).hexdigest()
    for wanted, refused in ((digest, False), ("0" * 64, True)):
        staged = StagedFile(name="a", format="ndjson", sha256=wanted)
        file = SourceFile(UPath(tmp_path / "a"), "ndjson", 1, staged)
        next(file.pieces())
        with pytest.raises(BatchError, match="file-sha256") if refused else contextlib.nullcontext():
            file.check(0)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_seekable_copy_is_expanded_and_digested_as_staged(root: UPath, put: Put, ending: str) -> None:
    content = gzip.compress(NDJSON) if ending else NDJSON
    put(root / f"a{ending}", content)
    file = SourceFile(root / f"a{ending}", "ndjson", 1, digested=True)
    with file.seekable() as copy:
        copy.seek(-len(LINES[-1]) - 1, os.SEEK_END)
        assert copy.read() == LINES[-1] + b"\n"
        copy.seek(0)
        assert copy.read() == NDJSON
    assert file.sha256 == hashlib.sha256(content).hexdigest()


def test_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    (tmp_path / "a").write_bytes(mark + NDJSON)
    (tmp_path / "b").write_bytes(mark + ARRAY)
    (tmp_path / "c.gz").write_bytes(gzip.compress(mark + NDJSON))
    assert read(UPath(tmp_path / "a")) == read(UPath(tmp_path / "c.gz")) == LINES
    assert read(UPath(tmp_path / "b"), "json") == LINES


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_other_encodings_are_told(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a").write_bytes(NDJSON.decode().encode(encoding))
    assert refusal(UPath(tmp_path / "a")).code == "file-encoding"


@pytest.mark.parametrize(
    ("name", "content", "file_format", "code"),
    [
        ("a", b"", "ndjson", "file-empty"),
        ("a", b"\n \r\n", "ndjson", "file-empty"),
        ("a", b"[ ]", "json", "file-empty"),
        ("a.gz", b"", "ndjson", "file-empty"),
        ("a.gz", gzip.compress(b"", mtime=0), "ndjson", "file-empty"),
        ("a.zst", b"", "json", "file-empty"),
        ("a.gz", gzip.compress(NDJSON, mtime=0)[:-9], "ndjson", "file-truncated"),
        ("a.gz", gzip.compress(ARRAY, mtime=0)[:500], "json", "file-truncated"),
        ("a.zst", zstandard.compress(NDJSON)[:-1], "ndjson", "file-truncated"),
        ("a.json", ARRAY[:-9], "json", "file-truncated"),
        ("a.json", NDJSON, "json", "file-not-array"),
        ("a.gz", NDJSON, "ndjson", "file-compression"),
        ("a", gzip.compress(NDJSON, mtime=0), "ndjson", "file-compression"),
        ("a.gz", gzip.compress(b"\n" * 80_000_000, 1, mtime=0), "ndjson", "file-bomb"),
    ],
)
def test_files_that_cannot_be_taken(
    tmp_path: Path, name: str, content: bytes, file_format: str, code: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert refusal(UPath(tmp_path / name), file_format).code == code


def test_a_file_that_is_not_there(root: UPath) -> None:
    assert refusal(root / "a.gz").code == "file-missing"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert refusal(UPath(tmp_path)).code == "file-missing"


def test_lines_come_as_staged(tmp_path: Path) -> None:
    lines = [b'{ "v" : 6.10, "w":1e3 }', b'{"t":"\xc3\xa9\\u00e9"}', b"\xff\xfebroken", b'{"a":1,"a":2}']
    (tmp_path / "a").write_bytes(b"\n".join(lines))
    assert read(UPath(tmp_path / "a")) == lines


MEASURE = """
import resource, sys
from upath import UPath
from tidepool_ingest.formats import SourceReader
from tidepool_ingest.staging.source_file import SourceFile
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
for _ in SourceReader([SourceFile(UPath(sys.argv[1]), sys.argv[3])]):
    pass
before = peak()
reader = SourceReader([SourceFile(UPath(sys.argv[2]), sys.argv[3])])
refused = [tuple(row)[:2] for block in reader for row in block.rejected]
print(peak() - before, reader.rows[1], refused)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["line", "compressed line", "array"])
def test_a_line_of_100_mb_is_refused_in_bounded_memory(tmp_path: Path, kind: str) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    if kind == "compressed line":
        small, large = tmp_path / "small.gz", tmp_path / "large.gz"
    file_format = "json" if kind == "array" else "ndjson"
    start, between, end = (b"[", b",", b"]") if kind == "array" else (b"", b"\n", b"\n")
    noise = os.urandom(50_000).hex().encode()
    write = gzip.open if kind == "compressed line" else open
    for path, size in ((small, 1_000), (large, 100_000_000)):
        options = {"compresslevel": 1} if kind == "compressed line" else {}
        with write(path, "wb", **options) as file:  # type: ignore[operator]
            file.write(start + b'{"a":1}' + between + b'{"note":"')
            for _ in range(max(1, size // len(noise))):
                file.write(noise)
            file.write(b'"}' + between + b'{"a":2}' + end)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", MEASURE, str(small), str(large), file_format]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    grown, rest = answer.stdout.split(" ", 1)
    assert rest.strip() == f"3 [(1, '{TOO_LARGE}')]"
    assert int(grown) <= 64, f"{grown} MB more for a line of 100 MB"


BENCH = SHARED / "bench" / "uploader-like-200k.ndjson.gz"


@pytest.mark.skipif(not BENCH.exists(), reason="the shared folder is not there")
def test_two_hundred_thousand_records(tmp_path: Path) -> None:
    with SourceReader([SourceFile(UPath(BENCH), "ndjson")]) as reader:
        text = b"".join(line + b"\n" for block in reader for line in block.lines)
    assert reader.rows == {1: 200_000}
    assert text == gzip.decompress(BENCH.read_bytes())
    assert json.loads(text[: text.index(b"\n")])
