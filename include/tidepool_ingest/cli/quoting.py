"""What only a look into a file shows that cannot be taken: for the terminal of whoever has typed its name.

An error names no key that nobody knows, for it may be a misplaced value, and no digest: it goes into logs,
XCom and the ledger. So the library never has such a text, and a command looks for it once more.
"""

from __future__ import annotations

import json

from pydantic import ValidationError

from tidepool_ingest.errors import IngestError
from tidepool_ingest.formats import RECORDS_FORMAT, read_manifest
from tidepool_ingest.formats.ndjson import split_as_it_begins
from tidepool_ingest.staging.manifest import Manifest
from tidepool_ingest.staging.manifest_terms import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    StrictJsonError,
    strict_json,
)
from tidepool_ingest.staging.source_file import SourceFile
from tidepool_ingest.staging.storage import (
    GIVEN,
    StoragePath,
    local_path,
    read_at_most,
    sha256_of,
)


def quoted(error: IngestError, folder: StoragePath) -> str:
    """Return what the files of a batch have that its error does not name, a sentence; empty for nothing.

    :param error: why the batch cannot be taken.
    :param folder: the batch.
    """
    try:
        if error.code == "manifest-malformed":
            unknown = _unknown_keys(folder)
            return f"Not known: {', '.join(map(json.dumps, unknown))}." if unknown else ""
        if error.code == "file-sha256":
            manifest = read_manifest(folder, None)
            name = manifest.files[(getattr(error, "file_number", None) or 1) - 1].name
            return f"The sha256 that was found is {sha256_of(folder / name, below_root=GIVEN)}."
    except (IngestError, StrictJsonError):
        pass  # then there is nothing that could be said beside the error itself
    return ""


def line_of(error: IngestError, path: StoragePath) -> int | None:
    """Return in which line of a data file the record is that an error is about, counting from 1.

    :param error: why the file cannot be taken.
    :param path: the file.
    :return: ``None`` if it is about no record, or if records are no lines.
    """
    position: int | None = getattr(error, "position", None)
    local = local_path(path)
    if position is None or (local is not None and not local.is_file()):
        return None
    try:
        for block in split_as_it_begins(SourceFile(path, RECORDS_FORMAT, below_root=GIVEN).text()):
            if (line := block.number_of(position)) is not None:
                return line
    except IngestError:
        pass  # then its place is all that can be said
    return None


def _unknown_keys(folder: StoragePath) -> list[str]:
    content = read_at_most(
        folder / MANIFEST_NAME, MAX_MANIFEST_BYTES, missing="manifest-missing", below_root=GIVEN
    )
    try:
        Manifest.model_validate_json(json.dumps(strict_json(content)), by_alias=True, by_name=False)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        return [str(one["loc"][-1]) for one in problems if one["type"] == "extra_forbidden"]
    return []
