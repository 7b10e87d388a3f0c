"""What is written into a work area is sealed where there is a key, and opened by whoever has it."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from upath import UPath

from tests.staging.work_areas import KEY, fill
from tidepool_ingest.errors import Disposition
from tidepool_ingest.formats import SourceReader, guess_format
from tidepool_ingest.staging import encryption as sealing
from tidepool_ingest.staging.encryption import KEYS_VARIABLE, decrypt, decrypted, encrypt
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.quarantine import Place, QuarantineWriter, rewrite
from tidepool_ingest.staging.source_file import SourceFile
from tidepool_ingest.staging.storage import read_blocks
from tidepool_ingest.staging.work_area import WorkArea

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """One key is given."""
    monkeypatch.setenv(KEYS_VARIABLE, OLD)
    return monkeypatch


def content(path: UPath) -> bytes:
    return bytes(path.fs.cat_file(path.path))


def entries(path: UPath) -> list[int]:
    """Return the positions of what a quarantine file holds."""
    text = b"".join(decrypted(read_blocks(path)))
    return [json.loads(line)["position"] for line in text.splitlines()]


def test_a_sealed_area_is_read_as_it_was_written(root: UPath, keys: pytest.MonkeyPatch) -> None:
    area = WorkArea(root, KEY)
    prepared = fill(area)

    assert area.load() == prepared
    first, second = prepared.chunks
    assert area.read_chunk(second) == [b'{"v":3}']
    assert area.read_chunk(first) == [b'{"v":6.10}', b'{"v":"\xc3\xa9"}']
    assert entries(area.quarantine_path) == [2]
    for path in (area.accepted_path, area.quarantine_path, area.plan_path):
        assert all(line.startswith(b"gAAAAA") for line in content(path).splitlines())
    assert content(area.accepted_path)[second.offset :][: second.length].count(b"\n") == 1


def test_digests_are_those_of_an_area_that_is_not_sealed(root: UPath, keys: pytest.MonkeyPatch) -> None:
    sealed = fill(WorkArea(root, KEY))
    keys.delenv(KEYS_VARIABLE)
    plain = fill(WorkArea(root / "other", KEY))

    assert [chunk.digest for chunk in sealed.chunks] == [chunk.digest for chunk in plain.chunks]


def test_what_was_not_sealed_is_read_where_there_is_a_key(
    root: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    area = WorkArea(root, KEY)
    prepared = fill(area)
    monkeypatch.setenv(KEYS_VARIABLE, OLD)

    assert area.load() == prepared
    assert area.read_chunk(prepared.chunks[1]) == [b'{"v":3}']
    assert entries(area.quarantine_path) == [2]


def test_a_key_that_was_rotated_still_opens_and_the_new_one_seals(
    root: UPath, keys: pytest.MonkeyPatch
) -> None:
    area = WorkArea(root, KEY)
    prepared = fill(area)
    keys.setenv(KEYS_VARIABLE, f" {NEW} , {OLD},")

    assert area.load() == prepared
    assert area.read_chunk(prepared.chunks[0])[0] == b'{"v":6.10}'
    again = fill(area)
    keys.setenv(KEYS_VARIABLE, NEW)
    assert area.load() == again
    assert entries(area.quarantine_path) == [2]


@pytest.mark.parametrize("given", ["", " ", NEW], ids=["unset", "blank", "another"])
def test_without_the_key_the_error_says_which_variable_to_set(
    root: UPath, keys: pytest.MonkeyPatch, given: str
) -> None:
    area = WorkArea(root, KEY)
    prepared = fill(area)
    keys.setenv(KEYS_VARIABLE, given)

    for read in (
        area.load,
        lambda: area.read_chunk(prepared.chunks[0]),
        lambda: entries(area.quarantine_path),
        lambda: rewrite(area.quarantine_path, {}),
        lambda: list(SourceReader([SourceFile(area.quarantine_path, "quarantine")])),
    ):
        with pytest.raises(BatchError) as caught:
            read()
        told = str(caught.value)
        assert caught.value.code == "work-area-sealed"
        assert caught.value.disposition is not Disposition.RETRIABLE
        assert KEYS_VARIABLE in told
        assert not any(secret in told for secret in (OLD, NEW, "6.10", "gAAAAA"))
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("place", ["first letter", "inside", "end"])
def test_a_damaged_token_is_not_sent(root: UPath, keys: pytest.MonkeyPatch, place: str) -> None:
    area = WorkArea(root, KEY)
    prepared = fill(area)
    text = bytearray(content(area.accepted_path))
    chunk = prepared.chunks[0]
    at = {"first letter": 0, "inside": chunk.length // 2, "end": chunk.length - 12}[place]
    text[at] = ord("A") if text[at] != ord("A") else ord("B")
    area.accepted_path.fs.pipe_file(area.accepted_path.path, bytes(text))

    with pytest.raises(BatchError) as caught:
        area.read_chunk(chunk)

    assert caught.value.code in ("work-area-sealed", "work-area-damaged")
    assert area.read_chunk(prepared.chunks[1]) == [b'{"v":3}']


def test_a_token_of_other_lines_is_not_sent(root: UPath, keys: pytest.MonkeyPatch) -> None:
    area = WorkArea(root, KEY)
    prepared = fill(area)
    chunk = prepared.chunks[1]
    other = encrypt(b'{"v":4}\n')
    assert len(other) == chunk.length
    text = content(area.accepted_path)[: chunk.offset] + other
    area.accepted_path.fs.pipe_file(area.accepted_path.path, text)

    with pytest.raises(BatchError, match=r"\[work-area-damaged\]"):
        area.read_chunk(chunk)


@pytest.mark.parametrize(
    "given", ["no key", f"{OLD},half", "ключ", "a" * 44], ids=["words", "half a key", "letters", "no base64"]
)
def test_what_is_no_key_is_refused_without_repeating_it(
    root: UPath, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv(KEYS_VARIABLE, given)
    area = WorkArea(root, KEY)
    with pytest.raises(BatchError) as caught:
        fill(area)

    assert caught.value.code == "work-keys"
    assert not any(part in str(caught.value) for part in given.split(","))
    assert area.load() is None


# ---------------------------------------------------------------- the quarantine file


def many(path: UPath, count: int) -> None:
    path.fs.makedirs(path.parent.path, exist_ok=True)
    with QuarantineWriter(path) as quarantine:
        for position in range(count):
            quarantine.add(Place(1, position), [("x", "/y")], b'{"v":%d,"t":"%s"}' % (position, b"x" * 1000))


def test_a_sealed_quarantine_file_of_many_blocks_is_added_to(root: UPath, keys: pytest.MonkeyPatch) -> None:
    path = root / "quarantine.ndjson"
    many(path, 2_500)
    assert content(path).count(b"\n") == 3

    rewrite(
        path, {Place(1, 7): ([("refused", "/v")], b'{"v":"late"}'), Place(2, 0): ([("refused", "")], b"{}")}
    )

    assert entries(path) == [*range(7), *range(8, 2_500), 7, 0]
    assert all(line.startswith(b"gAAAAA") for line in content(path).splitlines())
    assert b"late" in b"".join(decrypted(read_blocks(path)))


def test_a_sealed_quarantine_file_is_read_as_a_data_file(root: UPath, keys: pytest.MonkeyPatch) -> None:
    path = root / "quarantine.ndjson"
    many(path, 1_200)

    assert guess_format(path) == "quarantine"
    reader = SourceReader([SourceFile(path, "quarantine")])
    records = [json.loads(line)["v"] for block in reader for line in block.lines]
    assert records == list(range(1_200))


def test_a_quarantine_file_without_refused_records_stays_empty(root: UPath, keys: pytest.MonkeyPatch) -> None:
    path = root / "quarantine.ndjson"
    many(path, 0)

    assert content(path) == b""
    rewrite(path, {})
    assert content(path) == b""


def test_a_token_that_never_ends_is_not_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEYS_VARIABLE, OLD)
    monkeypatch.setattr(sealing, "MAX_TOKEN_BYTES", 1_000)

    def endless() -> Iterator[bytes]:
        while True:
            yield b"gAAAAA" * 10

    with pytest.raises(BatchError, match="too long"):
        list(decrypted(endless()))


@pytest.mark.parametrize("size", [1, 3, 7, 50, 10_000])
def test_tokens_are_found_wherever_blocks_end(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setenv(KEYS_VARIABLE, OLD)
    written = b"".join(encrypt(b"line %d\n" % number) for number in range(5))
    blocks = [written[start : start + size] for start in range(0, len(written), size)]

    assert b"".join(decrypted(blocks)) == b"".join(b"line %d\n" % number for number in range(5))
    assert b"".join(decrypted([b"{", b"}\n"])) == b"{}\n"
    assert list(decrypted([])) == []
    assert b"".join(decrypted([encrypt(b"a\n"), b"by ha", b"nd\n"])) == b"a\nby hand\n"
    assert decrypt(b"") == encrypt(b"") == b""


def test_sealed_files_are_private_too(tmp_path: Path, keys: pytest.MonkeyPatch) -> None:
    area = WorkArea(UPath(tmp_path / "staging"), KEY)
    fill(area)
    folder = Path(area.path.path)

    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, folder.parent)} == {0o700}
