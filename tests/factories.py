"""What tests begin with: records, staged batches, and rows and states of the ledger."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import requests
from sqlalchemy import update

from tidepool_ingest.ledger import BatchRow, BatchState, DataSetState, FoundBatch, Ledger, TaskOrigin
from tidepool_ingest.ledger.schema import batches, data_sets
from tidepool_ingest.ledger.transitions import TIME_COLUMN
from tidepool_simulator import PUBLIC_CLIENT_ID, Simulator
from tidepool_simulator.rules import Rule
from tidepool_simulator.sample import SAMPLE_USERS

Record = dict[str, Any]

DAY = date(2026, 3, 5)
TODAY = datetime.now(UTC).date()
DEVICE = "device-1"

HASH = "org.tidepool.deduplicator.device.deactivate.hash"
TRUNCATE = "org.tidepool.deduplicator.device.truncate.dataset"
ORIGIN = "org.tidepool.deduplicator.dataset.delete.origin"
ORIGIN_OLDER = "org.tidepool.deduplicator.dataset.delete.origin.older"
DROP_HASH = "org.tidepool.deduplicator.dataset.drop.hash"
NONE = "org.tidepool.deduplicator.none"


def later(days: int) -> date:
    return DAY + timedelta(days=days)


def minute_of(number: int) -> str:
    return f"2026-03-{1 + number // 1440:02}T{number // 60 % 24:02}:{number % 60:02}:00Z"


def cbg(number: int, value: float = 6.5, **more: Any) -> Record:
    """Return the reading of one minute, in mmol/L unless told otherwise."""
    reading = {"type": "cbg", "time": minute_of(number), "deviceId": DEVICE}
    return reading | {"units": "mmol/L", "value": value} | more


def readings(count: int, first: int = 0, **more: Any) -> list[Record]:
    return [cbg(number, 4 + number % 60 / 10, **more) for number in range(first, first + count)]


def with_origins(records: Sequence[Record]) -> list[Record]:
    """Give each record an origin with an id of its own."""
    return [record | {"origin": {"id": f"origin-{at}"}} for at, record in enumerate(records)]


def bolus(number: int, amount: float = 2.5, **more: Any) -> Record:
    dose = {"type": "bolus", "subType": "normal", "normal": amount, "time": minute_of(number)}
    return dose | {"deviceId": DEVICE} | more


def wizard(number: int, **more: Any) -> Record:
    """Return a bolus calculation with its bolus inside, which Tidepool keeps as a row of its own."""
    calculation = {"type": "wizard", "time": minute_of(number), "deviceId": DEVICE, "units": "mmol/L"}
    return calculation | {"bgInput": 9.5, "carbInput": 30, "bolus": bolus(number)} | more


def alarm(number: int, **more: Any) -> Record:
    """Return an alarm with the status event inside that goes with it."""
    event = {"type": "deviceEvent", "time": minute_of(number), "deviceId": DEVICE}
    status = event | {"subType": "status", "status": "suspended", "reason": {"suspended": "manual"}}
    return event | {"subType": "alarm", "alarmType": "occlusion", "status": status} | more


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def days_since(day: date) -> int:
    """Return how many days ago a day was; midnight may have passed since ``TODAY`` was taken."""
    return (datetime.now(UTC).date() - day).days


def meter_readings(
    number: int, *, device: str = "device-1", day: date = TODAY, **fields: Any
) -> list[dict[str, Any]]:
    """Some readings of a meter, half a minute apart, so that a day takes 2,880."""
    return [
        {
            "type": "smbg",
            "time": f"{day}T{index // 120:02}:{index // 2 % 60:02}:{index % 2 * 30:02}Z",
            "deviceId": device,
            "units": "mg/dL",
            "value": 100 + index % 50,
            **fields,
        }
        for index in range(number)
    ]


def stage(
    staging: Path,
    records: Sequence[Record | bytes] = (),
    *,
    user: str = SAMPLE_USERS[0],
    day: date = TODAY,
    batch: str = "batch-1",
    device: str = DEVICE,
    data_set: Record | None = None,
    name: str = "records.ndjson",
    content: bytes | None = None,
    file: Record | None = None,
    **manifest: Any,
) -> Path:
    """Write a ready batch of one file over whatever lies there.

    :param staging: the staging root.
    :param records: what the file holds; bytes are written as they are.
    :param data_set: the manifest's ``dataSet``; a meter of ``device`` unless told otherwise.
    :param name: the file's name, by whose ending it is NDJSON or an array, and compressed.
    :param content: the file's bytes, in place of the records.
    :param file: what else the manifest says of the file.
    :param manifest: what else it says.
    :returns: the batch's folder.
    """
    folder = staging / day.isoformat() / user / batch
    folder.mkdir(parents=True, exist_ok=True)
    texts = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
    array = ".ndjson" not in name
    plain = b"[" + b",\n".join(texts) + b"]" if array else b"\n".join(texts) + b"\n"
    if content is None:
        content = gzip.compress(plain) if name.endswith(".gz") else plain
    (folder / name).write_bytes(content)
    said = {
        "userId": user,
        "dataSet": data_set or {"deviceId": device, "deviceModel": "Meter", "deviceTags": ["bgm"]},
        "files": [{"name": name, "format": "json" if array else "ndjson"} | (file or {})],
    }
    (folder / "manifest.json").write_text(json.dumps(said | manifest))
    return folder


def found(**values: Any) -> FoundBatch:
    """Return a batch as ``plan`` finds it."""
    given = {
        "api_host": "api.example.org",
        "content_key": "c" * 64,
        "user_id": "0123456789",
        "batch_id": "batch-1",
        "day": date(2026, 1, 2),
        "folder": "/staging/2026-01-02/0123456789/batch-1",
        "label": "2026-01-02 Dexcom G6 0a1b2c3d4e",
        "device_id": "device-1",
    }
    return FoundBatch(**{**given, **values})


def row(number: int, *, user: str = "u", device: str | None = None, day: date = DAY, **more: Any) -> BatchRow:
    """Return a batch's row, for what needs no ledger."""
    values: dict[str, Any] = dict.fromkeys(BatchRow.__dataclass_fields__)
    values |= {
        "id": number,
        "api_host": "api",
        "user_id": user,
        "device_id": device or f"device-{number}",
        "day": day,
        "label": f"batch {number}",
        "data_set_type": "normal",
        "state": BatchState.PLANNED,
    }
    return BatchRow(**(values | more))


def set_batch_state(ledger: Ledger, batch: int, state: BatchState, *, reason: str | None = None) -> None:
    """Write the state of a batch, whatever it was before."""
    values = {"state": state, "reason": reason, "updated_at": datetime.now(UTC)}
    with ledger.database.writing() as connection:
        connection.execute(update(batches).where(batches.c.id == batch).values(values))


def set_data_set_state(ledger: Ledger, data_set: int, state: DataSetState, **values: Any) -> None:
    """Write the state of a data set and other columns of it, whatever they were before."""
    now = datetime.now(UTC)
    reached = {TIME_COLUMN[state]: now} if state in TIME_COLUMN else {}
    values = {**values, **reached, "state": state, "updated_at": now}
    with ledger.database.writing() as connection:
        connection.execute(update(data_sets).where(data_sets.c.id == data_set).values(values))


TOO_HIGH = Rule(type="cbg", pointer="/value", above=20)


BAD = 22.5


def some_bad(count: int = 20, bad: tuple[int, ...] = (3, 4, 11)) -> list[dict[str, Any]]:
    return [cbg(number, BAD if number in bad else 6.5) for number in range(count)]


def begin_data_set(ledger: Ledger, batch: int, data_set_type: str = "normal") -> int:
    is_feed = data_set_type == "continuous"
    row = ledger.data_sets.begin_opening(
        batch,
        data_set_type=data_set_type,
        deduplicator="org.example.d",
        expected_rows=5,
        origin=TaskOrigin(),
        data_set_id="upid_0123456789ab" if is_feed else None,
    )
    return row.id


def refresh_token(simulator: Simulator) -> str:
    """Sign the uploader in, as a person does once."""
    account = simulator.accounts["uploader"]
    auth = requests.get(f"{simulator.base_url}/info", timeout=5).json()["auth"]
    url = f"{auth['url']}/realms/{auth['realm']}/protocol/openid-connect/token"
    form = {
        "grant_type": "password",
        "client_id": PUBLIC_CLIENT_ID,
        "username": account.username,
        "password": account.password,
    }
    return str(requests.post(url, data=form, timeout=5).json()["refresh_token"])
