"""The records of a data file on their way to batches: sorted by device, in a private local folder."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import TIDEPOOL_EXPORT, FileFormat, StagedFile

RECORDS_NAME = "records.ndjson.gz"
"""Name of the data file of a staged batch."""

MAX_DEVICES = 1_000
"""Most devices in one file; more mean that ``deviceId`` holds something else."""

SPOOL_BYTES = 1024 * 1024
"""Text of one device gathered before it is compressed."""

SPOOL_TOTAL_BYTES = 64 * 1024 * 1024
"""Text of all devices gathered before all of it is compressed."""


@dataclass
class Output:
    """The records of one batch on their way, compressed in a private local file.

    :param path: the file.
    :param device_id: deviceId of the data set.
    :param staged_format: format of the file in the manifest.
    :param sets_device: whether the manifest has to set it in each record.
    """

    path: Path
    device_id: str = field(repr=False)
    staged_format: FileFormat
    sets_device: bool = False
    records: int = 0
    waiting: list[bytes] = field(default_factory=list, repr=False)
    waiting_bytes: int = 0

    def add(self, line: bytes) -> None:
        """Append one record."""
        self.waiting.append(line)
        self.waiting_bytes += len(line)
        self.records += 1

    def flush(self) -> None:
        """Append what waits as one more gzip member; no file stays open in between."""
        if self.waiting:
            with self.path.open("ab") as file:
                file.write(gzip.compress(b"\n".join(self.waiting) + b"\n", mtime=0))
        self.waiting.clear()
        self.waiting_bytes = 0

    def staged_file(self) -> StagedFile:
        """Return how the manifest describes the file."""
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return StagedFile(name=RECORDS_NAME, format=self.staged_format, sha256=digest, records=self.records)


class Spool:
    """Sorts records by device, in bounded memory.

    :param folder: a private local folder.
    :param default_device: deviceId for records that have none.
    :param only_device: deviceId of the one data set that takes every record.
    :param staged_format: format of the files that come of it.
    """

    def __init__(
        self, folder: Path, default_device: str | None, only_device: str | None, staged_format: FileFormat
    ) -> None:
        self._folder = folder
        self._staged_format: FileFormat = staged_format
        self._default_device = default_device
        self._only_device = only_device
        self._outputs: dict[str | None, Output] = {}  # by deviceId; None: records that have none
        self._stray = Output(folder / "stray", "", staged_format)

    def add(self, line: bytes, position: int) -> None:
        """Put one record with those of its device."""
        output = self._output_for(line, position)
        output.add(line)
        if output.waiting_bytes >= SPOOL_BYTES:
            output.flush()

    def relieve(self) -> None:
        """Compress what waits for all devices when it has become much."""
        if sum(output.waiting_bytes for output in self._outputs.values()) >= SPOOL_TOTAL_BYTES:
            for output in self._outputs.values():
                output.flush()

    def finish(self) -> list[Output]:
        """Return the outputs, the stray lines with the first of them."""
        if not self._outputs:
            if self._default_device is None:
                raise BatchError("stage-no-device", detail="no record of the file can be read")
            self._output(None, position=0)
        for output in (*self._outputs.values(), self._stray):
            output.flush()
        outputs = list(self._outputs.values())
        if self._stray.records:
            with self._stray.path.open("rb") as stray, outputs[0].path.open("ab") as first:
                shutil.copyfileobj(stray, first)
            outputs[0].records += self._stray.records
        return outputs

    def _output_for(self, line: bytes, position: int) -> Output:
        if self._only_device is not None:
            return self._output(self._only_device, position)
        try:
            record = json.loads(line.decode())
        except (ValueError, RecursionError):
            return self._stray
        device = record.get("deviceId") if isinstance(record, dict) else False
        if device is None and self._staged_format == TIDEPOOL_EXPORT and "type" not in record:
            return self._stray  # a message or the like: an export holds more than diabetes data
        if device is None or (isinstance(device, str) and device):
            return self._output(device, position)
        return self._stray

    def _output(self, device: str | None, position: int) -> Output:
        output = self._outputs.get(device)
        if output is None:
            device_id = self._default_device if device is None else device
            if device_id is None:
                raise BatchError("stage-no-device", position=position)
            if len(self._outputs) >= MAX_DEVICES:
                raise BatchError("stage-too-many-devices", position=position)
            path = self._folder / str(len(self._outputs))
            output = self._outputs[device] = Output(
                path, device_id, self._staged_format, sets_device=device is None
            )
        return output
