"""Files as vendors give them, staged for a DAG."""

from __future__ import annotations

import json
from typing import Any

from tests.airflow.world import AirflowWorld
from tests.factories import TODAY
from tidepool_simulator.sample import SAMPLE_USERS
from tidepool_simulator.sample.vendor_files import VendorFile

FEED = {"dataSetType": "continuous"}


def stage_export(
    world: AirflowWorld,
    file: VendorFile | list[VendorFile],
    data_set: dict[str, Any],
    batch: str,
    meant_as: tuple[str, ...] = (),
    **options: Any,
) -> None:
    """Stage a vendor's files as they are, with a manifest written by hand."""
    files = file if isinstance(file, list) else [file]
    folder = world.staging / TODAY.isoformat() / SAMPLE_USERS[0] / batch
    folder.mkdir(parents=True)
    for file in files:
        (folder / file.name).write_bytes(file.content)
    manifest = {
        "userId": SAMPLE_USERS[0],
        "dataSet": data_set,
        "files": [file.manifest_entry() | options for file in files],
        "meantAs": meant_as,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
