from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from upath import UPath

from tidepool_ingest.privacy import is_user_id
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import content_key, parse_manifest, read_manifest
from tidepool_ingest.staging.manifest_terms import DEFAULT_DEDUPLICATOR, MAX_MANIFEST_BYTES, is_batch_id

USER = "0123456789"
UUID = "2b8fc5f6-0a5c-4d0e-9b0b-7d3a1f1e9c11"
CANARY = "CANARY-53.1-mmol"
FORMATS = ("ndjson", "json", "tidepool-export", "tidepool-web-export")

ManifestJson = Callable[..., bytes]


def refusal(content: bytes) -> BatchError:
    with pytest.raises(BatchError) as caught:
        parse_manifest(content, formats=FORMATS)
    assert CANARY not in str(caught.value)
    return caught.value


def test_reads_every_field(manifest_json: ManifestJson) -> None:
    manifest = parse_manifest(
        manifest_json(
            connection="tidepool_clinic_b",
            replaces="batch-1",
            dataSet={
                "deviceId": "D-1",
                "deviceModel": "M-2",
                "dataSetType": "continuous",
                "deduplicator": {"name": "org.tidepool.deduplicator.none"},
            },
            files=[
                {"name": "a.ndjson.gz", "format": "ndjson", "sha256": "AB" * 32, "records": 7},
                {"name": "b.json", "format": "json"},
            ],
            edits={"drop": ["id", "source"], "set": {"deviceId": "x"}, "glucoseUnits": "mmol/L"},
        )
    )
    assert manifest.user_id == USER
    assert manifest.connection == "tidepool_clinic_b"
    assert manifest.replaces == "batch-1"
    assert (manifest.device_id, manifest.device_model) == ("D-1", "M-2")
    assert manifest.data_set_type == "continuous"
    assert manifest.deduplicator_name == "org.tidepool.deduplicator.none"
    assert [(file.name, file.format, file.sha256, file.records) for file in manifest.files] == [
        ("a.ndjson.gz", "ndjson", "ab" * 32, 7),
        ("b.json", "json", None, None),
    ]
    assert manifest.edits is not None
    assert manifest.edits.drop == ("id", "source")
    assert manifest.edits.set_fields == {"deviceId": "x"}
    assert manifest.edits.glucose_units == "mmol/L"


def test_defaults(manifest_json: ManifestJson) -> None:
    manifest = parse_manifest(manifest_json(dataSet={}))
    assert manifest.data_set_type == "normal"
    assert (
        manifest.deduplicator_name
        == DEFAULT_DEDUPLICATOR
        == "org.tidepool.deduplicator.device.deactivate.hash"
    )
    assert manifest.device_id is None
    assert manifest.device_model is None
    assert manifest.edits is None


def test_what_is_written_is_read_again(manifest_json: ManifestJson) -> None:
    content = manifest_json(edits={"set": {"deviceId": "x"}}, connection="c")
    manifest = parse_manifest(content)
    assert json.loads(manifest.to_json()) == json.loads(content)
    assert parse_manifest(manifest.to_json()) == manifest


def test_byte_order_mark_is_passed_over(manifest_json: ManifestJson) -> None:
    assert parse_manifest(b"\xef\xbb\xbf" + manifest_json()).user_id == USER


@pytest.mark.parametrize(
    ("text", "is_id"),
    [
        (USER, True),
        ("abcdef0123", True),
        (UUID, True),
        (UUID.upper(), True),
        ("ABCDEF0123", False),
        ("012345678", False),
        ("01234567890", False),
        ("012345678g", False),
        (USER + "\n", False),
        (UUID.replace("-", ""), False),
        ("", False),
    ],
)
def test_user_id_is_ten_hex_digits_or_a_uuid(manifest_json: ManifestJson, text: str, is_id: bool) -> None:
    assert is_user_id(text) is is_id
    if is_id:
        assert parse_manifest(manifest_json(userId=text)).user_id == text
    else:
        assert refusal(manifest_json(userId=text)).code == "manifest-malformed"


@pytest.mark.parametrize(
    ("text", "is_id"),
    [
        ("b1", True),
        ("a b:c", True),
        ("", False),
        (".b", False),
        ("_b", False),
        ("a/b", False),
        ("a\nb", False),
    ],
)
def test_batch_id_is_a_plain_name(text: str, is_id: bool) -> None:
    assert is_batch_id(text) is is_id
    assert is_batch_id("x" * 200)
    assert not is_batch_id("x" * 201)


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "..",
        ".",
        "",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "a\x00b",
        "a\nb",
        "manifest.json",
        ".hidden",
        "a::b",
        "x" * 201,
    ],
)
def test_file_names_are_plain(manifest_json: ManifestJson, name: str) -> None:
    assert refusal(manifest_json(files=[{"name": name, "format": "ndjson"}])).code == "file-name"


def test_a_file_is_named_once(manifest_json: ManifestJson) -> None:
    files = [{"name": "a", "format": "json"}, {"name": "a", "format": "ndjson"}]
    assert refusal(manifest_json(files=files)).code == "file-name"


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"userId": 123}, "/userId: input should be a valid string"),
        ({"dataSet": []}, "/dataSet: input should be an object"),
        ({"files": []}, "the manifest: names no file"),
        ({"files": [{"name": "a"}]}, "/files/0/format: field required"),
        (
            {"files": [{"name": "a", "format": "csv"}]},
            "/files/0/format: input should be 'ndjson', 'json', 'tidepool-export' or 'tidepool-web-export'",
        ),
        (
            {"checks": {"time-not-utc": "stop"}},
            "/checks/time-not-utc: input should be 'warn', 'refuse' or 'ignore'",
        ),
        ({"checks": {"time_not_utc": "warn"}}, "key 1 of /checks is not known (did you mean time-not-utc?)"),
        (
            {"files": [{"name": "a", "format": "json", "records": "7"}]},
            "/files/0/records: input should be a valid integer",
        ),
        (
            {"files": [{"name": "a", "format": "json", "records": 0}]},
            "/files/0/records: input should be greater than or",
        ),
        (
            {"files": [{"name": "a", "format": "json", "sha256": "xyz"}]},
            "/files/0/sha256: string should match pattern",
        ),
        (
            {"dataSet": {"dataSetType": "both"}},
            "the manifest: has a dataSetType other than normal and continuous",
        ),
        (
            {"dataSet": {"dataSetType": None}},
            "the manifest: has a dataSetType other than normal and continuous",
        ),
        ({"edits": {"glucoseUnits": "mg"}}, "/edits/glucoseUnits: input should be 'mg/dL' or 'mmol/L'"),
        ({"edits": {"drop": ["a"], "set": {"a": 1}}}, "/edits: drops and sets one field"),
        ({"edits": {"set": {"": 1}}}, "/edits: names a field of no name under set"),
        (
            {"edits": {"drop": ["units"], "glucoseUnits": "mg/dL"}},
            "/edits: names glucoseUnits and edits units as well",
        ),
        ({"connection": "a b"}, "/connection: string should match pattern"),
        ({"replaces": "../x"}, "/replaces: string should match pattern"),
    ],
)
def test_wrong_values_are_refused_by_place(
    manifest_json: ManifestJson, changes: dict[str, Any], detail: str
) -> None:
    error = refusal(manifest_json(**changes))
    assert error.code == "manifest-malformed"
    assert error.detail is not None
    assert error.detail.startswith(detail)


def test_missing_fields_are_refused() -> None:
    error = refusal(b"{}")
    assert error.detail == "/userId: field required (2 more)"


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", "it is not JSON (line 1, column 1)"),
        (b'{"userId": "0123456789",}', "it is not JSON (line 1, column 25)"),
        (b"[]", "it is not a JSON object"),
        (b"null", "it is not a JSON object"),
        (b'{"a": NaN}', "it holds a number out of range"),
        (b'{"a": 1e999}', "it holds a number out of range"),
        (b'{"a": ' + b"9" * 5000 + b"}", "it holds a number out of range"),
        (b'{"a": 1, "a": 2}', "an object in it names a key twice"),
        (b'{"a": "\xff"}', "it is not UTF-8 text (byte 8)"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b" " * (MAX_MANIFEST_BYTES + 1), f"it is larger than {MAX_MANIFEST_BYTES} bytes"),
    ],
)
def test_what_is_no_strict_json_is_refused(content: bytes, detail: str) -> None:
    error = refusal(content)
    assert (error.code, error.detail) == ("manifest-malformed", detail)


def test_a_lone_surrogate_is_refused(manifest_json: ManifestJson) -> None:
    assert refusal(manifest_json(dataSet={"deviceId": "\ud800"})).code == "manifest-malformed"


def test_an_unknown_key_is_told_by_its_place_and_nearest_known_key(manifest_json: ManifestJson) -> None:
    error = refusal(manifest_json(edit={}))
    assert error.detail == "key 4 of the manifest is not known (did you mean edits?)"
    files = [{"name": "a", "format": "json"}, {"name": "b", "sha-256": "", "format": "json"}]
    assert (
        refusal(manifest_json(files=files)).detail == "key 2 of /files/1 is not known (did you mean sha256?)"
    )
    assert refusal(manifest_json(edits={CANARY: 1})).detail == "key 1 of /edits is not known"
    assert (
        refusal(manifest_json(user_id=USER)).detail
        == "key 4 of the manifest is not known (did you mean userId?)"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {CANARY: 1},
        {"userId": CANARY},
        {"connection": CANARY + " "},
        {"files": [{"name": "../" + CANARY, "format": "json"}]},
        {"files": [{"name": "a", "format": CANARY}]},
        {"files": CANARY},
        {"dataSet": CANARY},
        {"dataSet": {"dataSetType": CANARY}},
        {"edits": {"drop": [CANARY], "set": {CANARY: 1}}},
        {"edits": {"drop": CANARY}},
        {"edits": {"glucoseUnits": CANARY}},
    ],
)
def test_no_error_repeats_what_the_manifest_says(
    manifest_json: ManifestJson, changes: dict[str, Any]
) -> None:
    error = refusal(manifest_json(**changes))
    assert CANARY not in f"{error!r} {error.detail}"
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__


def test_reads_from_any_storage(root: UPath, put: Callable[..., UPath], manifest_json: ManifestJson) -> None:
    folder = root / "2026-01-02" / USER / "b1"
    with pytest.raises(BatchError) as caught:
        read_manifest(folder, USER)
    assert caught.value.code == "manifest-missing"
    put(folder / "manifest.json", manifest_json())
    assert read_manifest(folder, USER).user_id == USER


def test_the_manifest_is_of_the_folders_user(tmp_path: Any, manifest_json: ManifestJson) -> None:
    (tmp_path / "manifest.json").write_bytes(manifest_json())
    with pytest.raises(BatchError) as caught:
        read_manifest(UPath(tmp_path), UUID)
    assert caught.value.code == "manifest-user"
    assert USER not in str(caught.value)
    assert UUID not in str(caught.value)


def test_a_large_manifest_is_not_read_whole(tmp_path: Any) -> None:
    (tmp_path / "manifest.json").write_bytes(b" " * (3 * MAX_MANIFEST_BYTES))
    with pytest.raises(BatchError, match="it is larger than"):
        read_manifest(UPath(tmp_path), USER)


class TestContentKey:
    DIGEST = "a" * 64

    def key(self, content: bytes, *digests: str) -> str:
        return content_key(parse_manifest(content), digests or [self.DIGEST])

    def test_is_a_sha256_over_canonical_json(self, manifest_json: ManifestJson) -> None:
        body = {"deviceId": "D-1", "deviceModel": "M-2"}
        content = {"userId": USER, "dataSet": body, "edits": None, "files": [["ndjson", self.DIGEST]]}
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        assert self.key(manifest_json()) == hashlib.sha256(canonical.encode()).hexdigest()

    def test_names_leave_no_trace(self, manifest_json: ManifestJson) -> None:
        renamed = manifest_json(
            connection="c", replaces="r", files=[{"name": "other.gz", "format": "ndjson", "records": 4}]
        )
        assert self.key(renamed) == self.key(manifest_json())
        reordered = manifest_json(dataSet={"deviceModel": "M-2", "deviceId": "D-1"})
        assert self.key(reordered) == self.key(manifest_json())
        assert self.key(manifest_json(edits={})) == self.key(manifest_json())

    def test_content_does(self, manifest_json: ManifestJson) -> None:
        keys = {
            self.key(manifest_json()),
            self.key(manifest_json(), "b" * 64),
            self.key(manifest_json(userId=UUID)),
            self.key(manifest_json(dataSet={"deviceId": "D-2", "deviceModel": "M-2"})),
            self.key(manifest_json(files=[{"name": "a", "format": "json"}])),
            self.key(manifest_json(edits={"drop": ["id"]})),
            self.key(manifest_json(edits={"drop": ["source"]})),
        }
        assert len(keys) == 7

    def test_order_of_files_matters(self, manifest_json: ManifestJson) -> None:
        two = manifest_json(files=[{"name": "a", "format": "json"}, {"name": "b", "format": "json"}])
        assert self.key(two, "a" * 64, "b" * 64) != self.key(two, "b" * 64, "a" * 64)
        with pytest.raises(ValueError, match="zip"):
            self.key(two, "a" * 64)


class TestFileOptions:
    """How a file is read whose rows do not say all of it."""

    PERIODS: ClassVar[list[Any]] = [
        {"until": "2026-03-08T18:20:00", "zone": "America/New_York"},
        {"zone": "Europe/London"},
    ]

    def file_of(self, manifest_json: ManifestJson, **options: Any) -> Any:
        files = [{"name": "a.csv", "format": "table", **options}]
        return parse_manifest(manifest_json(files=files), formats=("table",)).files[0]

    def test_are_read_and_written_as_the_manifest_has_them(self, manifest_json: ManifestJson) -> None:
        options = {
            "timezone": self.PERIODS,
            "dateOrder": "dmy",
            "keepNotes": True,
            "serial": "S-1",
            "table": {"time": {"column": "when"}},
        }
        file = self.file_of(manifest_json, **options)

        assert file.given == options
        assert self.file_of(manifest_json).given == {}
        # What is said and no different from silence is not given.
        assert self.file_of(manifest_json, keepNotes=False).given == {}
        assert self.file_of(manifest_json, timezone="Etc/GMT+5").given == {"timezone": "Etc/GMT+5"}

    @pytest.mark.parametrize(
        "timezone",
        [
            CANARY,
            "europe/berlin",
            "",
            [],
            [{"zone": "Europe/London"}, {"zone": "Europe/Berlin"}],
            [{"until": "2026-03-08T18:20:00", "zone": "Europe/London"}],
            [{"until": "2026-03-08 18:20", "zone": "Europe/London"}, {"zone": "UTC"}],
            [{"until": "2026-02-29T18:20:00", "zone": "Europe/London"}, {"zone": "UTC"}],
            [{"until": "2026-03-08T24:00:00", "zone": "Europe/London"}, {"zone": "UTC"}],
            [{"until": "٢٠٢٦-03-08T18:20:00", "zone": "Europe/London"}, {"zone": "UTC"}],
            [
                {"until": "2026-03-08T18:20:00", "zone": "UTC"},
                {"until": "2026-03-07T18:20:00", "zone": "Europe/London"},
                {"zone": "UTC"},
            ],
            [{"until": "2026-03-08T18:20:00", "zone": CANARY}, {"zone": "UTC"}],
            {"zone": "UTC"},
        ],
    )
    def test_a_zone_that_is_none_is_refused(self, manifest_json: ManifestJson, timezone: object) -> None:
        files = [{"name": "a.csv", "format": "ndjson", "timezone": timezone}]

        error = refusal(manifest_json(files=files))

        assert error.code == "manifest-malformed"
        assert "/files/0/timezone" in str(error)

    def test_are_part_of_the_content(self, manifest_json: ManifestJson) -> None:
        def key(meant_as: list[str] | None = None, **options: Any) -> str:
            more = {"meantAs": meant_as} if meant_as else {}
            content = manifest_json(files=[{"name": "a.csv", "format": "table", **options}], **more)
            return content_key(parse_manifest(content), ["1" * 64])

        keys = [
            key(),
            key(timezone="Europe/London"),
            key(timezone="Europe/Berlin"),
            key(timezone=self.PERIODS),
            key(dateOrder="dmy"),
            key(keepNotes=True),
            key(serial="S-1"),
            key(table={"a": 1}),
            key(["zone-implausible"]),
            key(["zone-implausible", "clock-not-in-zone"]),
        ]
        assert len(set(keys)) == len(keys)
        assert key(["clock-not-in-zone", "zone-implausible", "zone-implausible"]) == keys[-1]
        assert key(keepNotes=False) == keys[0]

    def test_only_what_can_be_meant_is(self, manifest_json: ManifestJson) -> None:
        assert refusal(manifest_json(meantAs=["too-many-refused"])).code == "manifest-malformed"
