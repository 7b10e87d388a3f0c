from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import zstandard
from pydantic import ValidationError
from upath import UPath

from tidepool_ingest import stage as spool
from tidepool_ingest import stage as stage_module
from tidepool_ingest.formats import SourceReader, guess_format
from tidepool_ingest.stage import stage
from tidepool_ingest.staging.batches import BatchFolder, find_batches
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import Manifest, RecordEdits, parse_manifest, read_manifest
from tidepool_ingest.staging.quarantine import Place, QuarantineWriter
from tidepool_ingest.staging.source_file import files_of

USER = "0123456789"
DAY = date(2026, 1, 2)

Put = Callable[[UPath, bytes], UPath]


def manifest_of(batch: BatchFolder) -> Manifest:
    return read_manifest(batch.path, batch.user_id)


def records_of(batch: BatchFolder) -> list[bytes]:
    manifest = manifest_of(batch)
    lines: list[bytes] = []
    files = files_of(manifest, batch.path)
    with SourceReader(files, as_rows=True) as reader:
        lines += [line for block in reader for line in block.lines]
    for number, (staged, file) in enumerate(zip(manifest.files, files, strict=True), 1):
        assert staged.records == reader.rows[number]
        assert staged.sha256 == file.sha256
    return lines


def source(folder: Path, content: bytes, name: str = "data.ndjson") -> UPath:
    path = folder / name
    path.write_bytes(content)
    return UPath(path)


def refusal(*args: Any, **options: Any) -> BatchError:
    with pytest.raises(BatchError) as caught:
        stage(*args, **options)
    return caught.value


ONE = b'{"deviceId":"pump","v":6.10}'
TWO = b'{ "v" : 1e3, "deviceId" : "cgm" }'
THREE = b'{"deviceId":"x","deviceId":"pump","t":"\xc3\xa9"}'


def test_one_batch_for_each_device(root: UPath, tmp_path: Path) -> None:
    data = source(tmp_path, b"\n".join([ONE, TWO, b"", THREE]))
    batches = stage(data, root, USER, day=DAY, data_set={"deviceTags": ["cgm"]}, connection="clinic_b")
    assert sorted(batches) == list(find_batches(root, DAY, DAY))
    assert [records_of(batch) for batch in batches] == [[ONE, THREE], [TWO]]
    pump, cgm = map(manifest_of, batches)
    assert pump.data_set == {"deviceId": "pump", "deviceTags": ["cgm"]}
    assert cgm.device_id == "cgm"
    assert pump.connection == "clinic_b"
    assert pump.edits is None
    assert all(batch.user_id == USER and batch.day == DAY for batch in batches)


def device(text: str) -> bytes:
    return json.dumps({"deviceId": text, "v": 1}).encode()


def test_what_pads_a_field_of_fixed_width_is_left_out_of_the_manifest(root: UPath, tmp_path: Path) -> None:
    padded = [device("m-1\0\0"), device(" m-1 \0"), device("m-1"), device(" m-2"), device("\0 \0")]
    body = {
        "deviceId": "other\0",
        "deviceModel": "Model 5  \0\0",
        "deviceSerialNumber": "\0\0\0\0",
        "deviceManufacturers": ["One\0", "Two"],
        "deviceTags": ["\0"],
        "timezone": "Europe/London",
    }
    padding: Counter[str] = Counter()

    batches = stage(source(tmp_path, b"\n".join(padded)), root, USER, day=DAY, data_set=body, padding=padding)

    assert [records_of(batch) for batch in batches] == [padded[:3], [padded[3]], [padded[4]]]
    first, second, third = map(manifest_of, batches)
    assert first.data_set == {
        "deviceId": "m-1",
        "deviceModel": "Model 5",
        "deviceManufacturers": ["One", "Two"],
        "timezone": "Europe/London",
    }
    assert first.edits is None  # records keep what they say
    assert second.device_id == " m-2"
    assert third.device_id == "other"
    assert third.edits == RecordEdits(set_fields={"deviceId": "other"})
    assert +padding == dict.fromkeys(("deviceModel", "deviceSerialNumber", "deviceManufacturers"), 1) | {
        "deviceId": 4,
        "deviceTags": 1,
    }


def test_padding_alone_is_no_device_id(root: UPath, tmp_path: Path) -> None:
    error = refusal(source(tmp_path, ONE + b"\n" + device("\0")), root, USER)
    assert (error.code, error.position) == ("stage-no-device", 1)


@pytest.mark.parametrize("text", ["\0m-1", "m\0-1", "m\0-1\0", "\ud800"])
def test_other_odd_text_is_refused(root: UPath, tmp_path: Path, text: str) -> None:
    error = refusal(source(tmp_path, ONE + b"\n" + device(text)), root, USER)
    assert (error.code, error.position) == ("stage-device-id", 1)
    assert "m-1" not in str(error)
    error = refusal(source(tmp_path, ONE), root, USER, data_set={"deviceModel": text})
    assert error.code == "stage-arguments"
    with pytest.raises(ValidationError):
        RecordEdits(set_fields={"notes": [text]})


def test_batch_ids_are_neutral(tmp_path: Path) -> None:
    batches = stage(source(tmp_path, ONE + b"\n" + TWO), UPath(tmp_path / "staging"), USER)
    assert batches[0].day == datetime.now(UTC).date()
    for batch in batches:
        stamp, digest = batch.batch_id.split("-")
        assert datetime.strptime(stamp, "%Y%m%dT%H%M%SZ")
        assert len(bytes.fromhex(digest)) == 5
        assert "pump" not in batch.batch_id
        assert USER not in batch.batch_id


def test_a_given_batch_id_is_taken(tmp_path: Path) -> None:
    root = UPath(tmp_path / "staging")
    one = source(tmp_path, ONE)
    assert [batch.batch_id for batch in stage(one, root, USER, day=DAY, batch_id="b")] == ["b"]
    assert refusal(one, root, USER, day=DAY, batch_id="b").code == "stage-exists"
    both = stage(source(tmp_path, ONE + b"\n" + TWO), root, USER, day=DAY, batch_id="c")
    assert [batch.batch_id for batch in both] == ["c-1", "c-2"]


@pytest.mark.parametrize(
    ("name", "pack"),
    [("a.ndjson", bytes), ("a.json", bytes), ("a.gz", gzip.compress), ("a.jsonl.zst", zstandard.compress)],
)
def test_format_and_compression_are_seen(tmp_path: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    array = b"\n [" + ONE + b",\n" + TWO + b"]"
    for number, content in enumerate((b"\n" + ONE + b"\n" + TWO + b"\n", array, b"\xef\xbb\xbf" + array)):
        data = source(tmp_path, pack(content), name)
        assert guess_format(data) == ("json" if number else "ndjson")
        batches = stage(data, UPath(tmp_path / f"staging-{number}"), USER)
        assert [records_of(batch) for batch in batches] == [[ONE], [TWO]]


def test_an_empty_file_has_no_format(tmp_path: Path) -> None:
    for content in (b"", b" \n "):
        with pytest.raises(BatchError) as caught:
            guess_format(source(tmp_path, content))
        assert caught.value.code == "file-empty"


BARE = b'{"v":1}'


def test_records_without_device_need_one(tmp_path: Path) -> None:
    data = source(tmp_path, ONE + b"\n" + BARE + b'\n{"deviceId":null}')
    root = UPath(tmp_path / "staging")
    error = refusal(data, root, USER, day=DAY)
    assert (error.code, error.position) == ("stage-no-device", 1)
    assert not Path(root.path).exists()
    batches = stage(
        data, root, USER, day=DAY, data_set={"deviceId": "fallback"}, edits=RecordEdits(drop=("id",))
    )
    assert [records_of(batch) for batch in batches] == [[ONE], [BARE, b'{"deviceId":null}']]
    pump, rest = map(manifest_of, batches)
    assert (pump.device_id, rest.device_id) == ("pump", "fallback")
    assert pump.edits == RecordEdits(drop=("id",))
    assert rest.edits == RecordEdits(drop=("id",), set_fields={"deviceId": "fallback"})


def test_a_device_set_for_all_makes_one_batch(tmp_path: Path) -> None:
    data = source(tmp_path, b"\n".join([ONE, BARE, b"broken", TWO]))
    edits = RecordEdits(set_fields={"deviceId": "all"}, glucose_units="mmol/L")
    (batch,) = stage(data, UPath(tmp_path / "staging"), USER, edits=edits)
    assert records_of(batch) == [ONE, BARE, b"broken", TWO]
    assert manifest_of(batch).device_id == "all"
    assert manifest_of(batch).edits == edits


STRAYS = [b"broken", b"[1]", b'{"deviceId":7}', b'{"deviceId":""}', b"\xff", b"[" * 100_000]


def test_lines_that_are_no_record_go_to_the_first_batch(tmp_path: Path) -> None:
    data = source(tmp_path, b"\n".join([*STRAYS[:2], TWO, *STRAYS[2:], ONE]))
    batches = stage(data, UPath(tmp_path / "staging"), USER)
    assert [records_of(batch) for batch in batches] == [[TWO, *STRAYS], [ONE]]


def test_a_file_of_such_lines_only(tmp_path: Path) -> None:
    data = source(tmp_path, b"\n".join([*STRAYS, b""]))
    root = UPath(tmp_path / "staging")
    assert refusal(data, root, USER).code == "stage-no-device"
    (batch,) = stage(data, root, USER, data_set={"deviceId": "d"})
    assert records_of(batch) == STRAYS


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"[" + ONE + b",]", "file-broken"),
        (b"[" + ONE, "file-truncated"),
        (ONE + b'\n{"deviceId":"x","n":"' + b"y" * 16 * 1024 * 1024 + b'"}', "stage-record-too-large"),
    ],
)
def test_what_cannot_be_carried_over_stops_it_and_leaves_nothing(
    tmp_path: Path, content: bytes, code: str
) -> None:
    root = UPath(tmp_path / "staging")
    assert refusal(source(tmp_path, content), root, USER).code == code
    assert not (tmp_path / "staging").exists()


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    assert refusal(UPath(tmp_path / "x"), UPath(tmp_path / "staging"), USER).code == "file-missing"


@pytest.mark.parametrize(
    "options",
    [
        {"user_id": "nobody"},
        {"batch_id": "../x"},
        {"batch_id": "_work"},
        {"connection": "a b"},
        {"data_set": {"dataSetType": "both"}},
        {"edits": RecordEdits(drop=("deviceId",))},
        {"edits": RecordEdits(set_fields={"deviceId": 7})},
    ],
)
def test_arguments_that_make_no_batch(tmp_path: Path, options: dict[str, Any]) -> None:
    root = UPath(tmp_path / "staging")
    error = refusal(source(tmp_path, ONE), root, **{"user_id": USER, **options})
    assert error.code == "stage-arguments"
    assert not (tmp_path / "staging").exists()


def test_many_devices_need_no_open_files_and_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "SPOOL_BYTES", 200)
    monkeypatch.setattr(spool, "SPOOL_TOTAL_BYTES", 5_000)
    lines = [b'{"deviceId":"d%d","n":%d}' % (number % 300, number) for number in range(6_000)]
    batches = stage(source(tmp_path, b"\n".join(lines)), UPath(tmp_path / "staging"), USER)
    assert len(batches) == 300
    for number in (0, 7, 299):
        assert records_of(batches[number]) == lines[number::300]


def test_more_devices_than_a_file_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "MAX_DEVICES", 10)
    lines = [b'{"deviceId":"d%d"}' % number for number in range(11)]
    error = refusal(source(tmp_path, b"\n".join(lines)), UPath(tmp_path / "staging"), USER)
    assert (error.code, error.position) == ("stage-too-many-devices", 10)


def test_a_storage_that_fails_leaves_no_ready_batch(
    root: UPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0
    writer = stage_module.WholeFileWriter

    def fail_second(*args: Any, **more: Any) -> Any:
        nonlocal written
        written += 1
        if written == 2:
            raise BatchError("staging-unwritable")
        return writer(*args, **more)

    monkeypatch.setattr(stage_module, "WholeFileWriter", fail_second)
    error = refusal(source(tmp_path, ONE + b"\n" + TWO), root, USER, day=DAY)
    assert error.code == "staging-unwritable"
    assert root.fs.find(root.path) == []


def test_the_manifest_tells_digest_and_count(tmp_path: Path) -> None:
    (batch,) = stage(source(tmp_path, ONE), UPath(tmp_path / "staging"), USER)
    content = json.loads((batch.path / "manifest.json").read_bytes())
    staged_at = datetime.fromisoformat(content.pop("stagedAt"))
    assert abs(datetime.now(UTC) - staged_at) < timedelta(minutes=5)
    packed = (batch.path / "records.ndjson.gz").read_bytes()
    assert content == {
        "userId": USER,
        "dataSet": {"deviceId": "pump"},
        "files": [
            {
                "name": "records.ndjson.gz",
                "format": "ndjson",
                "sha256": hashlib.sha256(packed).hexdigest(),
                "records": 1,
            }
        ],
    }
    assert gzip.decompress(packed) == ONE + b"\n"


# ---------------------------------------------------------------- corrected quarantine


def quarantine(folder: Path, *records: bytes) -> UPath:
    path = UPath(folder / "quarantine.ndjson")
    with QuarantineWriter(path) as writer:
        for position, record in enumerate(records):
            writer.add(Place(1, position), [("value-out-of-range", "/value")], record)
    return path


def test_corrected_quarantine_is_staged_by_device(tmp_path: Path) -> None:
    path = quarantine(tmp_path, ONE, TWO)
    first, second = stage(path, UPath(tmp_path / "staging"), USER, day=DAY)
    assert (records_of(first), records_of(second)) == ([ONE], [TWO])
    assert manifest_of(first).files[0].format == "ndjson"


def test_corrected_quarantine_follows_its_batch(tmp_path: Path) -> None:
    described = {
        "userId": USER,
        "dataSet": {"deviceId": "pump", "deviceModel": "M", "timezone": "Europe/London"},
        "connection": "other",
        "edits": {"drop": ["payload"]},
        "checks": {"time-not-utc": "refuse"},
    }
    whole = {**described, "replaces": "older", "files": [{"name": "a.json", "format": "json", "records": 9}]}
    like = parse_manifest(json.dumps(whole).encode())
    path = quarantine(tmp_path, ONE, TWO, b"{")
    (batch,) = stage(path, UPath(tmp_path / "staging"), USER, day=DAY, like=like)
    assert records_of(batch) == [ONE, TWO, b"{"]
    content = json.loads((batch.path / "manifest.json").read_bytes())
    (file,) = content.pop("files")
    assert content.pop("stagedAt")
    assert content == described
    assert (file["format"], file["records"]) == ("ndjson", 3)


def test_quarantine_of_an_export_is_cleaned_as_one(tmp_path: Path) -> None:
    files = [{"name": "a", "format": "tidepool-export"}]
    like = parse_manifest(json.dumps({"userId": USER, "dataSet": {}, "files": files}).encode())
    (batch,) = stage(quarantine(tmp_path, ONE), UPath(tmp_path / "staging"), USER, like=like)
    assert manifest_of(batch).files[0].format == "tidepool-export"
    assert manifest_of(batch).data_set == {}


@pytest.mark.parametrize(
    "more",
    [
        {"data_set": {"deviceId": "d"}},
        {"connection": "c"},
        {"edits": RecordEdits(drop=("a",))},
        {"user_id": "f" * 10},
    ],
)
def test_a_batch_like_another_is_described_by_that_only(tmp_path: Path, more: dict[str, Any]) -> None:
    files = [{"name": "a", "format": "ndjson"}]
    like = parse_manifest(json.dumps({"userId": USER, "dataSet": {}, "files": files}).encode())
    error = refusal(
        quarantine(tmp_path, ONE), UPath(tmp_path / "staging"), **{"user_id": USER, "like": like, **more}
    )
    assert error.code == "stage-arguments"


def test_messages_of_an_export_need_no_device(tmp_path: Path) -> None:
    message = b'{"messagetext":"hello"}'
    (batch,) = stage(
        source(tmp_path, message + b"\n" + ONE),
        UPath(tmp_path / "staging"),
        USER,
        file_format="tidepool-export",
    )
    assert records_of(batch) == [ONE, message]
    error = refusal(source(tmp_path, message + b"\n" + ONE), UPath(tmp_path / "staging"), USER)
    assert error.code == "stage-no-device"
