"""Read what was staged: batches, their manifests, every record of their files."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from tidepool_simulator.sample.checker.clarity import clarity_rows
from tidepool_simulator.sample.checker.edits import edited
from tidepool_simulator.sample.checker.exports import export_rows, web_export_rows
from tidepool_simulator.sample.checker.files import (
    UnreadableError,
    exported_values,
    unpacked,
    values_of,
)
from tidepool_simulator.sample.checker.libreview import libreview_rows
from tidepool_simulator.sample.checker.nightscout import nightscout_rows
from tidepool_simulator.sample.checker.quarantine import Entry
from tidepool_simulator.sample.checker.tables import table_rows

MANIFEST = "manifest.json"
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_DEFAULT_ORIGIN_KEY = ("type", "subType", "deliveryType", "time", "deviceId")
_DEACTIVATE_HASH = "org.tidepool.deduplicator.device.deactivate.hash"

_KEYS = {
    "userId",
    "connection",
    "replaces",
    "stagedAt",
    "dataSet",
    "files",
    "edits",
    "checks",
    "meantAs",
    "origin",
    "deletes",
    "retracts",
}
_FILE_KEYS = {"name", "format", "sha256", "records"}
_EDIT_KEYS = {"drop", "set", "glucoseUnits"}
_CHECK_KEYS = {"time-not-utc", "device-id-differs", "units-mixed", "device-time-differs"}
_CHECK_OUTCOMES = {"refuse", "warn", "ignore"}
_OPTIONS: dict[str, set[str]] = {
    "ndjson": set(),
    "json": set(),
    "clarity": {"timezone", "keepNotes"},
    "libreview": {"timezone", "dateOrder", "keepNotes", "serial"},
    "table": {"timezone", "serial", "table"},
    "nightscout": {"timezone", "keepNotes"},
    "tidepool-export": set(),
    "tidepool-web-export": set(),
}
"""What a manifest may say of how a file of each format is to be read."""

_MEANT_AS = {
    "clock-not-in-zone",
    "dates-swapped",
    "device-renamed",
    "replaces-loses-days",
    "zone-differs",
    "zone-implausible",
}
_EXPORTS = {"tidepool-export": export_rows, "tidepool-web-export": web_export_rows}


@dataclass(frozen=True)
class StagedRecord:
    """One staged record.

    :param file_number: its file, counting from 1 in the manifest's order.
    :param position: its place in the file, counting from 0.
    :param value: the record after the edits the manifest asks for; None when it is no JSON object, or cannot
        be made of the row.
    :param of_row: which of the records of its row, counting from 0.
    """

    file_number: int
    position: int
    value: Mapping[str, Any] | None
    of_row: int = 0

    @property
    def entry(self) -> Entry:
        """Return what names it in a quarantine file."""
        return self.file_number, self.position, self.of_row


@dataclass(frozen=True)
class StagedBatch:
    """One ready batch.

    :param name: ``day/user/batch``.
    :param device_id: of the data set it asks for; None when it names none.
    :param deduplicator: name of the deduplicator it asks for.
    :param replaces: id of the batch it replaces.
    :param continuous: whether it is for a continuous data set.
    :param client_name: the program that its data set names; None when it names none.
    :param origin_key: fields that tell its records apart, where they have no ``origin.id``.
    :param deletes: the ``origin.id`` of each record that it deletes.
    :param retracts: id of the batch of its feed whose records it deletes.
    :param content_key: name of its work area.
    :param records: its records; None when the batch cannot be read or is not what its manifest says, so
        that none of it may be uploaded.
    :param formats: what its files are, each once; of a table also what kind of file.
    """

    name: str
    user_id: str
    batch_id: str
    device_id: str | None
    deduplicator: str
    replaces: str | None
    content_key: str
    records: tuple[StagedRecord, ...] | None
    formats: tuple[str, ...] = ()
    continuous: bool = False
    client_name: str | None = None
    origin_key: tuple[str, ...] = _DEFAULT_ORIGIN_KEY
    deletes: tuple[str, ...] = ()
    retracts: str | None = None


_NOT_AS_DESCRIBED = (
    UnreadableError,
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    zlib.error,
    zstandard.ZstdError,
)
"""What reading a batch ends in that is not what its manifest says."""


def read_staging(root: Path) -> Iterator[StagedBatch]:
    """Yield all ready batches below a staging root, by day, user and batch."""
    for manifest in sorted(root.glob(f"*/*/*/{MANIFEST}")):
        day, user_id, batch_id = manifest.relative_to(root).parts[:3]
        if _DAY.fullmatch(day) and batch_id[0] not in "._":
            yield _read_batch(manifest, f"{day}/{user_id}/{batch_id}", user_id, batch_id)


def _read_batch(path: Path, name: str, user_id: str, batch_id: str) -> StagedBatch:
    try:
        manifest = _manifest(path, user_id)
        body, files = manifest["dataSet"], manifest["files"]
        contents = [(path.parent / file["name"]).read_bytes() for file in files]
        device_id, deduplicator_body = body.get("deviceId"), body.get("deduplicator") or {}
        deduplicator, replaces = deduplicator_body.get("name") or _DEACTIVATE_HASH, manifest.get("replaces")
        key = _content_key(name, manifest, contents)
        joined = _joined_rows(files, contents, manifest)
        records = tuple(
            record
            for number, (file, content) in enumerate(zip(files, contents, strict=True), 1)
            for record in _read_file(number, file, content, manifest, joined.get(number))
        )
    except _NOT_AS_DESCRIBED:
        return StagedBatch(name, user_id, batch_id, None, "", None, "", None)
    return StagedBatch(
        name,
        user_id,
        batch_id,
        device_id,
        deduplicator,
        replaces,
        key,
        records,
        formats=tuple(dict.fromkeys(map(_kind_of, files, contents))),
        continuous=body.get("dataSetType") == "continuous",
        client_name=(body.get("client") or {}).get("name"),
        origin_key=tuple(manifest.get("origin", {}).get("key", _DEFAULT_ORIGIN_KEY)),
        deletes=tuple(deletion["id"] for deletion in manifest.get("deletes", ())),
        retracts=manifest.get("retracts"),
    )


def _manifest(path: Path, user_id: str) -> dict[str, Any]:
    """Return a manifest that is this user's, has no unknown key and names plain files only."""
    manifest: dict[str, Any] = json.loads(path.read_bytes())
    files = manifest["files"]
    names = [file["name"] for file in files]
    parts = (
        (manifest, _KEYS),
        (manifest.get("edits") or {}, _EDIT_KEYS),
        (manifest.get("checks", {}), _CHECK_KEYS),
        (manifest.get("checks", {}).values(), _CHECK_OUTCOMES),
        (manifest.get("meantAs", ()), _MEANT_AS),
        ((file["format"] for file in files), _OPTIONS.keys()),
        *((file, _FILE_KEYS | _OPTIONS.get(file["format"], set())) for file in files),
    )
    known = all(set(part) <= keys for part, keys in parts)
    plain = all(
        "/" not in name and "\\" not in name and name not in ("", ".", "..", MANIFEST) for name in names
    )
    for file in files:
        if isinstance(file.get("table"), str):
            # A mapping that lies beside is as good as one in the manifest.
            file["table"] = json.loads((path.parent / file["table"]).read_bytes())
    if manifest["userId"] != user_id or not known or not plain or len(set(names)) < len(names):
        raise UnreadableError
    return manifest


def _content_key(name: str, manifest: dict[str, Any], contents: list[bytes]) -> str:
    """Return the name of the batch's work area: a digest of what it says and holds.

    Not of its name, unless it is for a continuous data set.
    """
    edits, files = manifest.get("edits"), manifest["files"]
    wanted = None
    if edits and any(edits.values()):
        wanted = {"drop": [], "set": {}, "glucoseUnits": None} | edits
    digests = [
        [file["format"], hashlib.sha256(content).hexdigest(), *_options_of(file)]
        for file, content in zip(files, contents, strict=True)
    ]
    described = {
        "userId": manifest["userId"],
        "dataSet": manifest["dataSet"],
        "edits": wanted,
        "files": digests,
    }
    if manifest.get("meantAs"):
        described["meantAs"] = sorted(set(manifest["meantAs"]))
    refusing = sorted(name for name, outcome in manifest.get("checks", {}).items() if outcome == "refuse")
    if refusing:
        described["refusing"] = refusing
    if manifest.get("meantAs"):
        described["meantAs"] = sorted(set(manifest["meantAs"]))
    if manifest["dataSet"].get("dataSetType") == "continuous":
        defaults = {"key": list(_DEFAULT_ORIGIN_KEY), "name": None, "type": "service"}
        described["place"] = name
        described["origin"] = defaults | manifest.get("origin", {})
        described["deletes"] = [{"time": None} | deletion for deletion in manifest.get("deletes", ())]
    if manifest.get("retracts") is not None:
        described["retracts"] = manifest["retracts"]
    return hashlib.sha256(json.dumps(described, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


_TABLES = {b"PAR1": "parquet", b"PK\x03\x04": "xlsx"}
"""What a table is that begins with these bytes, and is no text."""


def _kind_of(file: Mapping[str, Any], content: bytes) -> str:
    """Return the format of a file; of a table also what kind of file it is."""
    name: str = file["format"]
    return f"{name} ({_TABLES.get(content[:4], 'csv')})" if name == "table" else name


def _options_of(file: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return how a file is to be read, as far as its manifest says anything of it."""
    given = {
        name: value for name, value in file.items() if name not in _FILE_KEYS and value not in (None, False)
    }
    return [given] if given else []


def _joined_rows(
    files: Sequence[dict[str, Any]], contents: Sequence[bytes], manifest: Mapping[str, Any]
) -> dict[int, Sequence[Sequence[object]]]:
    """Return by file number what rows become that only all files together tell: of a site, of an export."""
    body = manifest["dataSet"]
    made: dict[int, Sequence[Sequence[object]]] = {}
    for file_format in {file["format"] for file in files} & {"nightscout", *_EXPORTS}:
        numbers = [number for number, file in enumerate(files) if file["format"] == file_format]
        wholes = [unpacked(files[number]["name"], contents[number]) for number in numbers]
        rows: Sequence[Sequence[Sequence[object]]]
        if file_format == "nightscout":
            given = [(whole, files[number]) for whole, number in zip(wholes, numbers, strict=True)]
            rows = nightscout_rows(given, body.get("timezone"), body.get("deviceId"))
        else:
            rows = _EXPORTS[file_format]([list(exported_values(whole)) for whole in wholes])
        made |= {number + 1: found for number, found in zip(numbers, rows, strict=True)}
    return made


def _read_file(
    number: int,
    file: dict[str, Any],
    content: bytes,
    manifest: Mapping[str, Any],
    known: Sequence[Sequence[object]] | None,
) -> list[StagedRecord]:
    digest = file.get("sha256")
    if digest is not None and digest.lower() != hashlib.sha256(content).hexdigest():
        raise UnreadableError
    edits = manifest.get("edits") or {}
    rows = list(_rows(file, content, manifest)) if known is None else known
    if not rows or file.get("records") not in (None, len(rows)):
        raise UnreadableError
    return [
        StagedRecord(number, position, edited(value, edits) if isinstance(value, dict) else None, of_row)
        for position, values in enumerate(rows)
        for of_row, value in enumerate(values)
    ]


def _rows(file: dict[str, Any], content: bytes, manifest: Mapping[str, Any]) -> Iterator[Sequence[object]]:
    """Yield the values of each row: one, unless the format's rows are no records themselves."""
    name, file_format, body = file["name"], file["format"], manifest["dataSet"]
    if not _OPTIONS[file_format]:
        yield from ([value] for value in values_of(name, file_format, content))
        return
    whole = unpacked(name, content)
    entry = {"timezone": body.get("timezone")} | file
    device_id, meant_as = body.get("deviceId"), manifest.get("meantAs", ())
    if file_format == "table":
        yield from table_rows(whole, entry, file["table"], device_id, meant_as)
    elif file_format == "clarity":
        yield from ([row] if row != {} else [] for row in clarity_rows(whole, entry, device_id, meant_as))
    else:
        yield from libreview_rows(whole, entry, device_id, meant_as)
