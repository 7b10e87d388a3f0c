"""A staging folder and a store, both written by hand, for the checker to compare."""

from __future__ import annotations

import gzip
import hashlib
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zstandard

from tidepool_simulator.sample.checker import CheckResult, check

USER = "5a3c0d0099"
DEVICE = "Meter-1"
DAY = "2026-11-20"
HASH = "org.tidepool.deduplicator.device.deactivate.hash"

Record = dict[str, Any]


def smbg(minute: int, value: float = 119, **fields: Any) -> Record:
    """Return a staged reading in mg/dL."""
    time = f"2026-11-19T08:{minute:02}:00.000Z"
    return {"type": "smbg", "time": time, "deviceId": DEVICE, "units": "mg/dL", "value": value} | fields


def kept(record: Record, value: float = 6.60539, **fields: Any) -> Record:
    """Return a reading as Tidepool keeps it; 119 mg/dL are 6.60539 mmol/L."""
    return record | {"id": "0" * 32, "units": "mmol/L", "value": value, "time": record["time"]} | fields


class TwoSides:
    """Staged batches on one side, stored data sets on the other."""

    def __init__(self, folder: Path) -> None:
        self.staging = folder / "staging"
        self.store = folder / "store.sqlite"
        self._connection = sqlite3.connect(self.store, isolation_level=None)
        self._connection.executescript(
            """
            CREATE TABLE data_sets (seq INTEGER PRIMARY KEY, upload_id TEXT, user_id TEXT, device_id TEXT,
                client_name TEXT,
                data_set_type TEXT, state TEXT, active INTEGER, deleted_time INTEGER);
            CREATE TABLE data (seq INTEGER PRIMARY KEY, upload_id TEXT, active INTEGER, archived_by TEXT,
                deleted_time INTEGER, document TEXT);
            """
        )

    def stage(
        self,
        records: Sequence[Record | bytes],
        batch: str = "one",
        *,
        name: str = "data.ndjson",
        content: bytes | None = None,
        data_set: Record | None = None,
        **manifest: Any,
    ) -> Path:
        """Write a ready batch and return its folder."""
        folder = self.staging / DAY / USER / batch
        folder.mkdir(parents=True)
        texts = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
        array = ".json" in name.replace(".ndjson", "")
        plain = b"[" + b",\n".join(texts) + b"]" if array else b"\n".join(texts) + b"\n"
        packed = content if content is not None else _packed(name, plain)
        (folder / name).write_bytes(packed)
        file = {"name": name, "format": "json" if array else "ndjson"} | manifest.pop("file", {})
        said = {
            "userId": USER,
            "dataSet": {"deviceId": DEVICE} | (data_set or {}),
            "files": [file],
        } | manifest
        (folder / "manifest.json").write_text(json.dumps(said))
        return folder

    def refuse(self, batch: str, *positions: int) -> None:
        """Put records of a batch's only file into its quarantine file."""
        folder = self.staging / DAY / USER / batch
        said = json.loads((folder / "manifest.json").read_text())
        file = said["files"][0]
        digest = hashlib.sha256((folder / file["name"]).read_bytes()).hexdigest()
        content = {
            "userId": USER,
            "dataSet": said["dataSet"],
            "edits": None,
            "files": [[file["format"], digest]],
        }
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        area = self.staging / "_work" / hashlib.sha256(canonical.encode()).hexdigest()
        area.mkdir(parents=True)
        lines = [
            json.dumps(
                {"file": 1, "position": position, "problems": [{"code": "x", "pointer": ""}], "record": None}
            )
            for position in positions
        ]
        (area / "quarantine.ndjson").write_text("".join(f"{line}\n" for line in lines))

    def open_set(
        self, data_set_id: str = "set-1", *, state: str = "closed", active: bool = True, **columns: Any
    ) -> None:
        """Store a data set."""
        row = {
            "user_id": USER,
            "device_id": DEVICE,
            "data_set_type": "normal",
            "deleted_time": None,
        } | columns
        row |= {"upload_id": data_set_id, "state": state, "active": int(active)}
        names = ", ".join(row)
        self._connection.execute(
            f"INSERT INTO data_sets ({names}) VALUES ({', '.join('?' * len(row))})", tuple(row.values())
        )

    def put(
        self,
        *documents: Record,
        data_set_id: str = "set-1",
        active: bool = True,
        archived_by: str | None = None,
        deleted_time: int | None = None,
    ) -> None:
        """Store data in a data set."""
        for document in documents:
            self._connection.execute(
                "INSERT INTO data (upload_id, active, archived_by, deleted_time, document)"
                " VALUES (?, ?, ?, ?, ?)",
                (data_set_id, int(active), archived_by, deleted_time, json.dumps(document)),
            )

    def check(self, **options: Any) -> CheckResult:
        """Compare the two sides."""
        return check(self.staging, self.store, **options)


def _packed(name: str, plain: bytes) -> bytes:
    if name.endswith(".gz"):
        half = len(plain) // 2
        return gzip.compress(plain[:half]) + gzip.compress(plain[half:])
    if name.endswith(".zst"):
        half = len(plain) // 2
        return zstandard.compress(plain[:half]) + zstandard.compress(plain[half:])
    return plain
