from __future__ import annotations

import pickle

import pytest

from tidepool_ingest.errors import Disposition
from tidepool_ingest.staging.errors import FAULTS, BatchError


@pytest.mark.parametrize("code", sorted(FAULTS))
def test_every_code_says_what_and_what_to_do(code: str) -> None:
    error = BatchError(code)
    assert str(error) == f"{error.what} {error.remedy}"
    assert error.what == f"{FAULTS[code].sentence} [{code}]."
    assert error.remedy == FAULTS[code].remedy
    assert "\n" not in str(error)


def test_message_names_the_place_first() -> None:
    error = BatchError("file-truncated", file_number=2, position=17, detail="somewhere", batch="ab12")
    assert str(error).startswith(
        "batch ab12, file 2, record 17 (counting from 0): "
        "a file ends in the middle: somewhere [file-truncated]. "
    )


def test_survives_pickling_with_all_parts() -> None:
    error = BatchError("file-sha256", file_number=3, position=1, detail="x", batch="cd34")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_batch_is_named_later_without_losing_a_part() -> None:
    named = BatchError("file-records", file_number=1, position=4, detail="y").for_batch("ef56")
    assert (named.code, named.file_number, named.position, named.detail, named.batch) == (
        "file-records",
        1,
        4,
        "y",
        "ef56",
    )


def test_only_storage_faults_are_retriable() -> None:
    assert {code for code, fault in FAULTS.items() if fault.retriable} == {
        "staging-unreadable",
        "staging-unwritable",
        "work-area-damaged",
    }
    assert BatchError("staging-unreadable").disposition is Disposition.RETRIABLE
    assert BatchError("file-sha256").disposition is Disposition.DATA
