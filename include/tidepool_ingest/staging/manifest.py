"""``manifest.json``: what a batch is, whose it is and which files it has."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, NoReturn, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from tidepool_ingest.local_times import timezone_names
from tidepool_ingest.privacy import USER_ID_PATTERN
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest_terms import (
    BATCH_ID_PATTERN,
    DEFAULT_CONTINUOUS_DEDUPLICATOR,
    DEFAULT_DEDUPLICATOR,
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    MAX_NAME_LENGTH,
    USUAL_OUTCOME,
    CheckOutcome,
    DateOrder,
    GlucoseUnits,
    MeantAs,
    StrictJsonError,
    strict_json,
)
from tidepool_ingest.staging.storage import StoragePath, read_at_most
from tidepool_ingest.texts import first_problem

ORIGIN_TEXT_LENGTH: Final = 100
"""Characters of an origin's id and name (Platform: data/types/common/origin/origin.go)."""

DEFAULT_ORIGIN_KEY: Final = ("type", "subType", "deliveryType", "time", "deviceId")
"""Fields that distinguish one record from another where the manifest names none."""

OriginType = Literal["application", "device", "manual", "service"]
"""What the Platform knows as the type of an origin (data/types/common/origin/origin.go)."""

_OriginText = Annotated[str, Field(min_length=1, max_length=ORIGIN_TEXT_LENGTH)]

MAX_CONNECTION_LENGTH = 200
"""Characters of the name of an Airflow connection."""

MAX_INDEXED_LENGTH = 500
"""Characters of ``client.name`` and of ``deviceId``, by which the ledger finds a feed and a device."""

_BAD_IN_FILE_NAME = re.compile(r"[/\\\x00-\x1f\x7f]|::")

FORMATS_KNOWN: Final = "formats"
"""Key of the validation context with the names of the formats that a file may have."""


class ManifestModel(BaseModel):
    """An object of a manifest: strict, with known keys and text only that every store can keep."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        strict=True,
        validate_by_alias=True,
        validate_by_name=True,
    )

    @model_validator(mode="after")
    def _text_that_can_be_kept(self) -> Self:
        # Objects in it have been looked at when they were made.
        if found := first_problem(vars(self)):
            raise PydanticCustomError("text", "has {problem} in a text", {"problem": found[1]})
        return self


class OriginRule(ManifestModel):
    """How records without an ``origin.id`` get one.

    :param key: the fields that stay the same when a record is edited, and differ between two records; a dot
        leads into an object, as in ``payload.recordId``.
    :param name: of the origin; the data set's ``client.name`` when left out.
    :param type: of the origin.
    """

    key: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)] = DEFAULT_ORIGIN_KEY
    name: _OriginText | None = None
    type: OriginType = "service"


class Deletion(ManifestModel):
    """A record to delete from the continuous data set.

    :param id: its ``origin.id``.
    :param time: its time, so that its absence is verified there and not in the whole data set.
    """

    id: Annotated[_OriginText, Field(repr=False)]
    time: Annotated[Annotated[str, Field(min_length=1)] | None, Field(repr=False)] = None


def _plain_file_name(name: str) -> str:
    if not name or len(name) > MAX_NAME_LENGTH or name.startswith(".") or name == MANIFEST_NAME:
        raise PydanticCustomError("file_name", "is not a plain file name")
    if _BAD_IN_FILE_NAME.search(name):
        raise PydanticCustomError("file_name", "is not a plain file name")
    return name


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:  # at the very end of what a date can say
        raise PydanticCustomError("time", "is not a time that can be stored") from None


def _known_format(name: object, info: ValidationInfo) -> object:
    known = (info.context or {}).get(FORMATS_KNOWN)
    if known is None or name in known:
        return name
    *others, last = (repr(name) for name in known)
    expected = f"{', '.join(others)} or {last}" if others else last
    raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})


def _zone_name(name: str) -> str:
    if name not in timezone_names():
        raise PydanticCustomError("timezone", "is not the IANA name of a time zone that Tidepool knows")
    return name


ZoneName = Annotated[str, AfterValidator(_zone_name)]


def _local_time(text: str) -> str:
    try:
        is_one = datetime.fromisoformat(text).strftime("%Y-%m-%dT%H:%M:%S") == text
    except ValueError:
        is_one = False
    if not is_one:
        raise PydanticCustomError("local_time", "is no local time such as 2026-03-08T18:20:00")
    return text


LocalTimeText = Annotated[str, AfterValidator(_local_time)]


class ZonePeriod(ManifestModel):
    """Where a device's clock was set, up to some local time.

    :param zone: the zone's IANA name.
    :param until: the first local time that is no more in it; left out for the last period.
    """

    zone: ZoneName
    until: LocalTimeText | None = None


def _in_order(periods: tuple[ZonePeriod, ...]) -> tuple[ZonePeriod, ...]:
    untils = [period.until for period in periods]
    ended = [until for until in untils[:-1] if until is not None]
    if untils[-1] is not None or len(ended) < len(periods) - 1 or ended != sorted(set(ended)):
        raise PydanticCustomError(
            "timezone", "has periods that are not in order: each but the last ends `until` a later local time"
        )
    return periods


ZonePeriods = Annotated[tuple[ZonePeriod, ...], Field(min_length=1), AfterValidator(_in_order)]


_MappingName = Annotated[str, AfterValidator(_plain_file_name)]


class FileOptions(ManifestModel):
    """How a file is to be read whose rows do not say all of it themselves; a format takes some of these.

    :param timezone: of its local times: the zone's name, or the zones in which its clock was set one after
        the other. The data set's where it is left out.
    :param date_order: whether its dates begin with the day, the month or the year.
    :param keep_notes: whether free text becomes records too.
    :param serial: the device whose rows are meant, where the file has those of several.
    :param table: what a row of a table means: a mapping, or the name of a JSON file beside the manifest.
    """

    timezone: ZoneName | ZonePeriods | None = None
    date_order: DateOrder | None = None
    keep_notes: bool = False
    serial: Annotated[Annotated[str, Field(min_length=1)] | None, Field(repr=False)] = None
    table: Annotated[dict[str, JsonValue] | _MappingName | None, Field(repr=False)] = None

    @property
    def given(self) -> dict[str, JsonValue]:
        """What is not left out, as the manifest writes it."""
        options = {name: getattr(self, name) for name in FileOptions.model_fields}
        defaults = FileOptions()
        model = FileOptions(
            **{name: value for name, value in options.items() if value != getattr(defaults, name)}
        )
        return model.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)


class StagedFile(FileOptions):
    """One data file of a batch.

    :param name: plain name in the batch folder; the ending ``.gz`` or ``.zst`` shows the compression.
    :param format: how it holds its records.
    :param sha256: of the file as staged (compressed), in hex; checked if given.
    :param records: how many records it holds, or rows where a row is not always one record; checked if given.
    """

    name: Annotated[str, AfterValidator(_plain_file_name)]
    format: Annotated[str, BeforeValidator(_known_format)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$", to_lower=True)] | None = None
    records: Annotated[int, Field(ge=1)] | None = None


class RecordEdits(ManifestModel):
    """Changes to records requested by whoever staged the batch.

    :param drop: names of top-level fields to leave out.
    :param set_fields: top-level fields to give this JSON value (in JSON: ``set``).
    :param glucose_units: the unit that glucose values are in, whatever their label says.
    """

    drop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    set_fields: Annotated[dict[str, JsonValue], Field(alias="set", repr=False)] = Field(default_factory=dict)
    glucose_units: GlucoseUnits | None = None

    @model_validator(mode="after")
    def _unambiguous(self) -> RecordEdits:
        if "" in self.set_fields:
            raise PydanticCustomError("edits", "names a field of no name under set")
        if set(self.drop) & set(self.set_fields):
            raise PydanticCustomError("edits", "drops and sets one field")
        if self.glucose_units and "units" in {*self.drop, *self.set_fields}:
            raise PydanticCustomError("edits", "names glucoseUnits and edits units as well")
        return self

    def __bool__(self) -> bool:
        return bool(self.drop or self.set_fields or self.glucose_units)


class RecordChecks(ManifestModel):
    """What is done about records that Tidepool accepts but that are probably not as intended.

    :param time_not_utc: a time that is not UTC: Tidepool distinguishes records by its text, so that the same
        record with another offset counts as another one.
    :param device_id_differs: a deviceId unlike the data set's, with a deduplicator that uses it: such a
        record is never recognized as a duplicate of one in an older data set.
    :param units_mixed: glucose in another unit than the first reading of the same device: the same reading in
        the other unit is another record to Tidepool.
    :param device_time_differs: a deviceTime that is not what the device's clock showed at that time, by more
        than a day: one of the two is probably wrong.
    """

    time_not_utc: Annotated[CheckOutcome, Field(alias="time-not-utc")] = USUAL_OUTCOME
    device_id_differs: Annotated[CheckOutcome, Field(alias="device-id-differs")] = USUAL_OUTCOME
    units_mixed: Annotated[CheckOutcome, Field(alias="units-mixed")] = USUAL_OUTCOME
    device_time_differs: Annotated[CheckOutcome, Field(alias="device-time-differs")] = USUAL_OUTCOME

    @property
    def refusing(self) -> list[str]:
        """Names of those that put records into quarantine, which makes them part of the batch's identity."""
        outcomes = self.model_dump(by_alias=True)
        return sorted(name for name, outcome in outcomes.items() if outcome == "refuse")


class Manifest(ManifestModel):
    """A batch: one device's data for one user.

    :param user_id: the Tidepool user whose data these are.
    :param data_set: the body that creates the data set, as sent to Tidepool; its model validates it.
    :param files: the data files, in the order in which they are read.
    :param connection: the Airflow connection to upload through, if it is not the DAG's.
    :param replaces: id of the batch whose data set this one replaces.
    :param staged_at: when ``stage`` wrote it: of several batches of a device in one day folder, the one
        staged later is the newer.
    :param edits: changes to the records.
    :param checks: what is done about records that Tidepool accepts but that are probably not as intended.
    :param origin: for a continuous data set: how records without an origin get one.
    :param deletes: for a continuous data set: records to delete from it.
    :param retracts: for a continuous data set: id of the batch whose records are to be deleted from it.
    :param meant_as: codes for which the batch would be held, and that are as they are meant to be.
    """

    user_id: Annotated[str, Field(pattern=USER_ID_PATTERN, repr=False)]
    data_set: Annotated[dict[str, JsonValue], Field(repr=False)]
    files: tuple[StagedFile, ...]
    connection: Annotated[str, Field(pattern=rf"^[A-Za-z0-9_.-]{{1,{MAX_CONNECTION_LENGTH}}}$")] | None = None
    replaces: Annotated[Annotated[str, Field(pattern=BATCH_ID_PATTERN)] | None, Field(repr=False)] = None
    staged_at: Annotated[AwareDatetime, AfterValidator(_in_utc)] | None = None
    edits: RecordEdits | None = None
    checks: RecordChecks = RecordChecks()
    origin: OriginRule = OriginRule()
    deletes: tuple[Deletion, ...] = ()
    retracts: Annotated[Annotated[str, Field(pattern=BATCH_ID_PATTERN)] | None, Field(repr=False)] = None
    meant_as: tuple[MeantAs, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        names = [file.name for file in self.files]
        if len(set(names)) < len(names):
            raise PydanticCustomError("file_name", "names a file twice")
        if self.data_set.get("dataSetType", "normal") not in ("normal", "continuous"):
            raise PydanticCustomError("data_set_type", "has a dataSetType other than normal and continuous")
        for name, text in (("client.name", self.client_name), ("deviceId", self.device_id)):
            if len(text or "") > (most := MAX_INDEXED_LENGTH):
                told = {"name": name, "most": most}
                raise PydanticCustomError("data_set", "has a {name} of more than {most} characters", told)
        if not self.files and not self.deletes and self.retracts is None:
            raise PydanticCustomError("files", "names no file")
        if self.data_set_type == "normal" and {"origin", "deletes", "retracts"} & self.model_fields_set:
            raise PydanticCustomError(
                "feed", "has origin, deletes or retracts, which are for continuous data sets"
            )
        return self

    @property
    def data_set_type(self) -> Literal["normal", "continuous"]:
        """Kind of the data set; normal unless the body says continuous."""
        return "continuous" if self.data_set.get("dataSetType") == "continuous" else "normal"

    @property
    def device_id(self) -> str | None:
        """Device id of the data set, if it is text."""
        return _text(self.data_set, "deviceId")

    @property
    def timezone(self) -> str | None:
        """Time zone of the data set, if it is text."""
        return _text(self.data_set, "timezone")

    @property
    def serial_number(self) -> str | None:
        """Serial number of the device, if it is text."""
        return _text(self.data_set, "deviceSerialNumber")

    @property
    def device_model(self) -> str | None:
        """Model name of the device, if it is text."""
        return _text(self.data_set, "deviceModel")

    @property
    def deduplicator_name(self) -> str:
        """Name of the deduplicator: the body's, or the default."""
        deduplicator = self.data_set.get("deduplicator")
        name = _text(deduplicator, "name") if isinstance(deduplicator, dict) else None
        return default_deduplicator(self.data_set_type) if name is None else name

    @property
    def client_name(self) -> str | None:
        """Name of the program in the data set body, if it is text."""
        client = self.data_set.get("client")
        return _text(client, "name") if isinstance(client, dict) else None

    def to_json(self) -> bytes:
        """Return the manifest as it is written into a batch folder."""
        content = self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=False)
        return json.dumps(content, indent=2).encode() + b"\n"


def _text(body: Mapping[str, JsonValue], name: str) -> str | None:
    value = body.get(name)
    return value if isinstance(value, str) else None


def default_deduplicator(data_set_type: str) -> str:
    """Return the deduplicator for a data set whose body names none.

    :param data_set_type: ``normal`` or ``continuous``.
    """
    return DEFAULT_CONTINUOUS_DEDUPLICATOR if data_set_type == "continuous" else DEFAULT_DEDUPLICATOR


def content_key(manifest: Manifest, file_digests: Iterable[str], place: str = "") -> str:
    """Return the key of a batch's content: the same content has the same key, whatever it is called.

    It is made of user id, data set body, edits, checks that reject records, what is meant as it is, and
    format, options and digest of each file in order; batch id, file names, connection, ``replaces`` and
    ``stagedAt`` leave no trace in it. To a continuous data set, what was written before may be written again
    after something else: there, the same content in another place is another batch.

    :param manifest: the manifest.
    :param file_digests: sha256 in hex of each file as staged, in the manifest's order.
    :param place: the batch folder, as ``<YYYY-MM-DD>/<user id>/<batch id>``.
    :return: 64 hex digits.
    """
    edits = manifest.edits.model_dump(mode="json", by_alias=True) if manifest.edits else None
    content: dict[str, Any] = {
        "userId": manifest.user_id,
        "dataSet": manifest.data_set,
        "edits": edits,
        "files": [
            [file.format, digest, *([file.given] if file.given else [])]
            for file, digest in zip(manifest.files, file_digests, strict=True)
        ],
    }
    if manifest.meant_as:
        content["meantAs"] = sorted(set(manifest.meant_as))
    if manifest.checks.refusing:
        content["refusing"] = manifest.checks.refusing
    if manifest.data_set_type == "continuous":
        content["place"] = place
        content["origin"] = manifest.origin.model_dump(mode="json", by_alias=True)
        content["deletes"] = [deletion.model_dump(mode="json") for deletion in manifest.deletes]
    if manifest.retracts is not None:
        content["retracts"] = manifest.retracts
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_manifest(
    folder: StoragePath, folder_user_id: str | None, *, formats: Collection[str] | None = None
) -> Manifest:
    """Read and check the manifest of a batch folder.

    :param folder: the batch folder.
    :param folder_user_id: the user whose folder it lies in, ``None`` for one that lies outside staging.
    :param formats: names of the formats that a file may have; any if left out.
    :raises BatchError: ``manifest-missing``, ``manifest-malformed``, ``file-name`` or ``manifest-user``.
    """
    content = read_at_most(folder / MANIFEST_NAME, MAX_MANIFEST_BYTES, missing="manifest-missing")
    manifest = parse_manifest(content, formats=formats)
    if folder_user_id is not None and manifest.user_id != folder_user_id:
        raise BatchError("manifest-user")
    return manifest


def parse_manifest(content: bytes, *, formats: Collection[str] | None = None) -> Manifest:
    """Check the text of a manifest.

    :param content: the bytes of ``manifest.json``.
    :param formats: names of the formats that a file may have; any if left out.
    :raises BatchError: ``manifest-malformed`` or ``file-name``, saying where, without keys or values.
    """
    if len(content) > MAX_MANIFEST_BYTES:
        _malformed(f"it is larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        raw = strict_json(content)
    except StrictJsonError as error:
        _malformed(error.detail)
    if not isinstance(raw, dict):
        _malformed("it is not a JSON object")
    if found := first_problem(raw):
        place, problem = found
        code = "file-name" if place[:1] == ("files",) and place[-1] == "name" else "manifest-malformed"
        raise BatchError(code, detail=f"{_pointer(place)} holds {problem}, which not every database can keep")
    try:
        return Manifest.model_validate_json(
            json.dumps(raw), by_alias=True, by_name=False, context={FORMATS_KNOWN: formats}
        )
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
    code = (
        "file-name" if any(problem["type"] == "file_name" for problem in problems) else "manifest-malformed"
    )
    chosen = next((p for p in problems if p["type"] == "file_name"), problems[0])
    raise BatchError(code, detail=_describe(chosen["type"], chosen["loc"], chosen["msg"], raw, len(problems)))


def _malformed(detail: str) -> NoReturn:
    raise BatchError("manifest-malformed", detail=detail)


def _describe(kind: str, loc: tuple[int | str, ...], message: str, raw: Any, count: int) -> str:
    """Describe where and what, with known field names only: an unknown key may be a misplaced value."""
    others = f" ({count - 1} more)" if count > 1 else ""
    if kind == "extra_forbidden":
        return f"{_unknown_key(loc, raw)}{others}"
    text = message.removeprefix("Value error, ")
    return f"{_pointer(loc)}: {text[:1].lower()}{text[1:]}{others}"


def _unknown_key(loc: tuple[int | str, ...], raw: Any) -> str:
    container = raw
    for step in loc[:-1]:
        container = container[step]
    unknown = str(loc[-1])
    place = f"key {list(container).index(unknown) + 1} of {_pointer(loc[:-1])} is not known"
    from difflib import get_close_matches  # loaded only here: hardly any manifest has such a key

    near = get_close_matches(unknown, sorted(_known_names(loc[:-1])), n=1)
    return place + (f" (did you mean {near[0]}?)" if near else "")


_PARTS: Final[dict[int | str, type[ManifestModel]]] = {
    "files": StagedFile,
    "edits": RecordEdits,
    "checks": RecordChecks,
    "origin": OriginRule,
    "deletes": Deletion,
}


def _known_names(container: tuple[int | str, ...]) -> Iterator[str]:
    part = _PARTS.get(container[0], Manifest) if container else Manifest
    for name, field in part.model_fields.items():
        yield field.alias or name


_ALL_PARTS: Final[tuple[type[ManifestModel], ...]] = (Manifest, *_PARTS.values())
_KNOWN = {field.alias or name for part in _ALL_PARTS for name, field in part.model_fields.items()}


def _pointer(loc: tuple[int | str, ...]) -> str:
    steps = [str(step) for step in loc if isinstance(step, int) or step in _KNOWN]
    return "/" + "/".join(steps) if steps else "the manifest"
