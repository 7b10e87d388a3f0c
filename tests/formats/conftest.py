"""The world of the steps, in which time passes as quickly; and no code that nobody explains."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.formats.readers import READERS, VendorReader
from tidepool_ingest.codes import EXPLANATIONS
from tidepool_ingest.formats import SourceReader
from tidepool_ingest.formats.reader import Block

ONLY_HERE = {reader.name for reader in (*READERS, VendorReader)}
"""Formats that only tests know, with codes of their own."""


@pytest.fixture(autouse=True)
def _every_code_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a reader gives a code or reason that the glossary does not have."""
    read = SourceReader.__iter__

    def reading(source: SourceReader) -> Iterator[Block]:
        is_ours = not ONLY_HERE & {file.format for file in source._files}
        for block in read(source):
            if is_ours:
                codes = {*(row.code for row in block.rejected), *block.skipped, block.warning} - {""}
                assert codes - set(EXPLANATIONS) == set()
            yield block

    monkeypatch.setattr(SourceReader, "__iter__", reading)
