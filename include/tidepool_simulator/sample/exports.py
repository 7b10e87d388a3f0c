"""A batch of each format that is no plain records, for the sample's people: what they exported elsewhere.

Some are for normal data sets and some for feeds, as ``tidepool-ingest stage`` would have them.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from tidepool_simulator.sample.people import CHILD, CLOSED_LOOP_USER, PEN_USER
from tidepool_simulator.sample.tidepool_exports import API_DEVICE, PAGE_DEVICE, api_export, web_export
from tidepool_simulator.sample.typed_tables import STUDY_ZONE, diary_workbook, study_table
from tidepool_simulator.sample.vendor_files import (
    HOME,
    METER,
    NEW_READER,
    OLD_READER,
    VendorFile,
    clarity_export,
    libreview_export,
    meter_table,
    nightscout_site,
)
from tidepool_simulator.sample.write import DEFAULT_SEED

FEED = {"dataSetType": "continuous"}

_NEEDED = {"study": ("pyarrow",), "diary": ("openpyxl", "defusedxml")}
"""What reads the files of a batch, where it is an extra."""


@dataclass(frozen=True)
class SampleExports:
    """What :func:`write_sample_exports` wrote.

    :param batches: folders of its batches, in order.
    :param rows: rows of their files that stand for records.
    :param left_out: batches whose files need an extra that is not installed.
    """

    batches: tuple[Path, ...]
    rows: int
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Batch:
    """One batch: whose, how its folder is called, the data set that it asks for, and its files."""

    user_id: str
    name: str
    data_set: dict[str, Any]
    files: list[VendorFile]
    serial: str | None = None

    @property
    def rows(self) -> int:
        """Rows of its files that stand for records, those that are refused among them."""
        return sum(file.rows - file.skipped for file in self.files)


def write_sample_exports(root: Path, day: date, seed: int = DEFAULT_SEED) -> SampleExports:
    """Write a batch of each further format below ``root``.

    What they tell of was in 2025 and 2026, whatever the day. The same seed always gives the same bytes.

    :param root: staging root, a local folder.
    :param day: the day of staging: the folder's name.
    """
    batches = list(_batches(seed))
    usable = [batch for batch in batches if _can_be_read(batch.name)]
    left_out = tuple(batch.name for batch in batches if batch not in usable)
    folders = tuple(_write(root / day.isoformat(), batch) for batch in usable)
    # Both readers of LibreView have the whole file.
    rows = sum(batch.rows for batch in usable if batch.serial != OLD_READER)
    return SampleExports(folders, rows, left_out)


def _can_be_read(name: str) -> bool:
    return all(importlib.util.find_spec(library) is not None for library in _NEEDED.get(name, ()))


def _batches(seed: int) -> Iterator[_Batch]:
    adult, pens, child = CLOSED_LOOP_USER.user_id, PEN_USER.user_id, CHILD.user_id

    def of(device_id: str, manufacturer: str, model: str, tag: str, timezone: str | None) -> dict[str, Any]:
        said = {"deviceId": device_id, "deviceManufacturers": [manufacturer], "deviceModel": model}
        return said | {"deviceTags": [tag]} | ({} if timezone is None else {"timezone": timezone})

    def feed(name: str) -> dict[str, Any]:
        return FEED | {"client": {"name": f"org.example.{name}", "version": "1.0.0"}}

    clarity = of("Dexcom-Clarity", "Dexcom", "G6", "cgm", HOME)
    yield _Batch(pens, "clarity", clarity | feed("clarity"), [clarity_export(seed)])
    for serial, model in ((OLD_READER, "FreeStyle Libre"), (NEW_READER, "FreeStyle Libre 2")):
        reader = of(f"LibreView-{serial}", "Abbott", model, "cgm", HOME)
        yield _Batch(pens, f"libreview-{serial[:4]}", reader, [libreview_export(seed)], serial)
    meter = of(f"Meter-{METER}", "Example", "Meter", "bgm", HOME)
    yield _Batch(pens, "meter", meter | feed("meter"), [meter_table(seed)])
    site = of("Nightscout", "Nightscout", "Nightscout", "cgm", HOME)
    yield _Batch(child, "nightscout", site | feed("nightscout"), nightscout_site(seed=seed))
    pump = of(API_DEVICE, "Medtronic", "1780", "insulin-pump", None)
    yield _Batch(adult, "api-export", pump, [api_export(seed)])
    pump = of(PAGE_DEVICE, "Medtronic", "723", "insulin-pump", None)
    yield _Batch(adult, "web-export", pump, [web_export(seed)])
    if _can_be_read("study"):
        study = of("Study-17", "Example", "Study", "insulin-pump", STUDY_ZONE)
        yield _Batch(child, "study", study, [study_table(seed)])
    diary = of("Diary", "Example", "Diary", "bgm", HOME)
    yield _Batch(child, "diary", diary | feed("diary"), [diary_workbook(seed)])


def _write(day_folder: Path, batch: _Batch) -> Path:
    folder = day_folder / batch.user_id / f"{day_folder.name.replace('-', '')}-{batch.name}"
    folder.mkdir(parents=True, exist_ok=True)
    described = []
    for file in batch.files:
        # Its own name may be a person's.
        name = file.name if len(batch.files) > 1 else f"export{Path(file.name).suffix}"
        (folder / name).write_bytes(file.content)
        digest = hashlib.sha256(file.content).hexdigest()
        serial = {} if batch.serial is None else {"serial": batch.serial}
        entry = file.manifest_entry() | serial
        described.append(entry | {"name": name, "sha256": digest, "records": file.rows})
    manifest = {"userId": batch.user_id, "dataSet": batch.data_set, "files": described}
    # Written last: a batch without its manifest is not ready.
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return folder
