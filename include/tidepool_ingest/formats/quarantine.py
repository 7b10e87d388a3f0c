"""The format ``quarantine``: rejected records, corrected or not, to be validated or staged again."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from tidepool_ingest.formats.ndjson import split
from tidepool_ingest.formats.reader import Block, Reader
from tidepool_ingest.staging.encryption import TOKEN_START, decrypted
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.source_file import SourceFile
from tidepool_ingest.staging.splice import members

_ENTRY: Final = frozenset({"file", "position", "problems"})
"""Members that every entry has, see :mod:`tidepool_ingest.staging.quarantine`."""


class QuarantineReader(Reader):
    """Reads the record of each entry; the file may be encrypted."""

    name = "quarantine"
    title = "Quarantine file of this project"
    in_manifests = False

    @classmethod
    def recognizes(cls, start: bytes) -> bool:
        """Return whether the text is encrypted, or its first line is an entry."""
        if start.startswith(TOKEN_START):
            return True
        return {member.name for member in members(start.partition(b"\n")[0]) or ()} >= _ENTRY

    def rows(self, file: SourceFile) -> Iterator[Block]:
        """Yield the records in the entries of a file.

        :raises BatchError: ``file-not-quarantine`` at the first line that contains no record.
        """
        for block in split(decrypted(file.text()), file.number):
            records = []
            for position, line in enumerate(block.lines, block.first_position):
                record = _record_in(line)
                if record is None:
                    raise BatchError("file-not-quarantine", file_number=file.number, position=position)
                records.append(record)
            yield replace(block, lines=records)


def _record_in(line: bytes) -> bytes | None:
    """Return the text of the record in an entry, its numbers and order unchanged."""
    found = {member.name: line[member.value_start : member.end] for member in members(line) or ()}
    if found.get("record", b"").startswith(b"{"):
        return found["record"]
    try:
        if "recordText" in found:
            return str(json.loads(found["recordText"])).encode()
        if "recordBase64" in found:
            return base64.b64decode(json.loads(found["recordBase64"]), validate=True)
    except (ValueError, TypeError, RecursionError, binascii.Error):
        return None
    return None
