from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Iterator

import pytest
import zstandard

from tidepool_ingest.staging import compression
from tidepool_ingest.staging.compression import Compression, compression_of, expand
from tidepool_ingest.staging.errors import BatchError

TEXT = b"".join(b'{"value":%d}\n' % number for number in range(50_000))


def zst(text: bytes, **options: bool) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(text)


def cut(content: bytes, size: int) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


def refusal(blocks: list[bytes], kind: Compression) -> str:
    with pytest.raises(BatchError) as caught:
        for _ in expand(blocks, kind, 3):
            pass
    assert caught.value.file_number == 3
    return caught.value.code


def test_the_ending_tells_the_compression() -> None:
    names = ["a.ndjson.gz", "a.zst", "a.json", "gz", "a.gz.json"]
    assert [compression_of(name) for name in names] == ["gz", "zst", "none", "none", "none"]


@pytest.mark.parametrize("size", [1, 7, 1000, 10**9])
@pytest.mark.parametrize("kind", ["gz", "zst", "none"])
def test_expands_whatever_the_blocks_are(kind: Compression, size: int) -> None:
    text = TEXT if size > 7 else TEXT[:3000]
    packed = {"gz": gzip.compress(text), "zst": zst(text), "none": text}[kind]
    assert b"".join(expand(cut(packed, size), kind)) == text


@pytest.mark.parametrize("size", [1, 13, 10**9])
def test_members_and_frames_are_joined(size: int) -> None:
    parts = [b"", b"a", b"bc" * 1000, b"", b"d"]
    assert b"".join(expand(cut(b"".join(map(gzip.compress, parts)), size), "gz")) == b"".join(parts)
    assert b"".join(expand(cut(b"".join(map(zst, parts)), size), "zst")) == b"".join(parts)


def test_padding_and_skippable_frames_are_passed_over() -> None:
    padded = gzip.compress(b"a", mtime=0) + b"\0" * 700 + gzip.compress(b"b", mtime=0) + b"\0" * 3
    assert b"".join(expand(cut(padded, 50), "gz")) == b"ab"
    skipped = b"\x50\x2a\x4d\x18\x04\0\0\0note"
    assert b"".join(expand([skipped + zst(b"a") + skipped + zst(b"b")], "zst")) == b"ab"


def test_nothing_expands_to_nothing() -> None:
    for kind in ("gz", "zst", "none"):
        assert list(expand([], kind)) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_every_truncation_is_seen(kind: Compression) -> None:
    text = TEXT[:2000]
    packed = gzip.compress(text) * 2 if kind == "gz" else zst(text, write_checksum=True) * 2
    half = len(packed) // 2
    for length in range(4, len(packed)):
        if length != half:
            assert refusal([packed[:length]], kind) == "file-truncated", length


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_damage_is_seen(kind: Compression) -> None:
    noise = random.Random(7).randbytes(5000)
    packed = bytearray(gzip.compress(noise) if kind == "gz" else zst(noise, write_checksum=True))
    packed[2500] ^= 0xFF
    assert refusal([bytes(packed)], kind) == "file-damaged"


def test_rubbish_behind_a_member_is_damage() -> None:
    assert refusal([gzip.compress(b"a", mtime=0) + b"rubbish"], "gz") == "file-damaged"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b'{"a":1}\n', "gz"),
        (b'{"a":1}\n', "zst"),
        (gzip.compress(b"a", mtime=0), "none"),
        (zst(b"a"), "none"),
        (gzip.compress(b"a", mtime=0), "zst"),
        (zst(b"a"), "gz"),
    ],
)
def test_a_wrong_ending_is_told(content: bytes, kind: Compression) -> None:
    assert refusal([content], kind) == "file-compression"
    assert refusal(cut(content, 1), kind) == "file-compression"


def gz_bomb(size: int) -> Iterator[bytes]:
    packer = zlib.compressobj(wbits=31)
    piece = b"0" * 1_000_000
    for _ in range(size // len(piece)):
        yield packer.compress(piece)
    yield packer.flush()


def test_a_gzip_bomb_is_refused_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "RATIO_FROM_BYTES", 4_000_000)
    bomb = b"".join(gz_bomb(60_000_000))
    assert len(bomb) < 100_000
    pieces: list[int] = []
    with pytest.raises(BatchError) as caught:
        pieces.extend(map(len, expand(cut(bomb, 4096), "gz")))
    assert caught.value.code == "file-bomb"
    assert sum(pieces) <= 6_000_000
    assert max(pieces) <= 2 * compression.PIECE_BYTES


def test_a_zstd_bomb_is_refused_soon_and_no_piece_of_it_is_huge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "RATIO_FROM_BYTES", 40_000_000)
    bomb = zst(b"0" * 200_000_000)
    assert len(bomb) < 20_000
    pieces: list[int] = []
    with pytest.raises(BatchError) as caught:
        pieces.extend(map(len, expand([bomb], "zst")))
    assert caught.value.code == "file-bomb"
    assert 0 < max(pieces) <= 34 * 1024 * 1024


def test_much_that_is_small_is_no_bomb() -> None:
    assert sum(map(len, expand(list(gz_bomb(60_000_000)), "gz"))) == 60_000_000


def test_the_ratio_counts_from_the_start_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "RATIO_FROM_BYTES", 1000)
    noise = random.Random(7).randbytes(100_000)
    packed = gzip.compress(noise + b"0" * 10_000_000)
    assert sum(map(len, expand([packed], "gz"))) == 10_100_000


def test_there_is_an_absolute_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "MAX_EXPANDED_BYTES", 100_000)
    assert refusal([gzip.compress(TEXT, mtime=0)], "gz") == "file-bomb"
    assert refusal([zst(TEXT)], "zst") == "file-bomb"


def test_a_zstd_window_beyond_the_limit_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28, strategy=1)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    assert refusal([packer.compress(b"a" * 1000) + packer.flush()], "zst") == "file-damaged"
