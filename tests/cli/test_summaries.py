"""``--json`` of the commands that read data, and the schemas that describe it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from tests import PROJECT
from tests.cli.commands import DEVICE, USER, Ran, Run, cbg, ndjson
from tidepool_ingest.cli.schemas import schema_of
from tidepool_ingest.cli.summaries import SUMMARIES, Conversion, Stagings, Validations
from tidepool_ingest.inspection.findings import DescribedModel


@pytest.mark.parametrize("command", SUMMARIES)
def test_the_schema_in_the_docs_is_that_of_the_json(command: str) -> None:
    if (PROJECT / "docs" / f"{command}.schema.json").read_text() != schema_of(command):
        pytest.fail(f"docs/{command}.schema.json should be:\n{schema_of(command)}")


def read(model: type[DescribedModel], text: str) -> DescribedModel:
    """Read what a command wrote; a member that the schema does not have is an error."""
    assert text.isascii()
    return msgspec.json.decode(text, type=model)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "good.ndjson").write_bytes(ndjson(cbg(), cbg(value=7)))
    (tmp_path / "bad.ndjson").write_bytes(b"\n" + ndjson(cbg(), cbg(value=2000)) + b"\n\nnull\n")
    (tmp_path / "none.ndjson").write_bytes(b"")
    return tmp_path


def test_validate(run: Run, files: Path) -> None:
    ran = run("validate", "./good.ndjson", "bad.ndjson", "none.ndjson", "--json")

    whole = read(Validations, ran.out)
    assert isinstance(whole, Validations)
    good, bad, none = whole.validated
    assert ran.code == 1
    assert (good.name, good.records, good.accepted, good.error) == ("./good.ndjson", 2, 2, None)
    assert [(one.code, one.field, one.places) for one in bad.rejections] == [
        ("staged-null", "", ("line 6",)),
        ("value-out-of-range", "/value", ("line 3",)),
    ]
    assert none.error is not None
    assert none.error.code == "file-empty"
    assert ran.err.startswith("tidepool-ingest: none.ndjson: ")


def test_validate_of_one_file_that_is_refused(run: Run, files: Path) -> None:
    ran = run("validate", "none.ndjson", "--json")

    assert (ran.code, len(json.loads(ran.out)["validated"])) == (1, 1)


def test_convert_writes_it_beside_the_records(run: Run, files: Path) -> None:
    ran = run("convert", "good.ndjson", "bad.ndjson", "--json")

    whole = read(Conversion, ran.err)
    assert isinstance(whole, Conversion)
    assert (whole.files, whole.records, whole.error) == (("good.ndjson", "bad.ndjson"), 5, None)
    assert len(ran.lines) == 5


def test_convert_of_what_is_refused(run: Run, files: Path) -> None:
    ran: Ran = run("convert", "good.ndjson", "none.ndjson", "--json")

    line, _, rest = ran.err.partition("\n")
    whole = read(Conversion, rest)
    assert isinstance(whole, Conversion)
    assert (ran.code, ran.out, whole.records) == (1, "", 0)
    assert whole.error is not None
    assert line.startswith("tidepool-ingest: none.ndjson: ")


def test_stage(run: Run, files: Path) -> None:
    (files / "two.ndjson").write_bytes(ndjson(cbg(), cbg(deviceId="other")))
    to = ("--user", USER, "--root", "staging", "--json")
    ran = run("stage", "two.ndjson", "none.ndjson", *to)

    whole = read(Stagings, ran.out)
    assert isinstance(whole, Stagings)
    assert (ran.code, whole.root, whole.is_new_root) == (1, "staging", True)
    assert [(one.is_new, one.names, one.rows, one.feed) for one in whole.batches] == [
        (True, ("two.ndjson",), 1, None)
    ] * 2
    assert [(one.names, one.error.code) for one in whole.not_staged] == [(("none.ndjson",), "file-empty")]
    again = msgspec.json.decode(run("stage", "two.ndjson", *to).out, type=Stagings)
    assert [one.is_new for one in again.batches] == [False, False]
    assert [one.folder for one in again.batches] == [one.folder for one in whole.batches]
    assert not again.is_new_root
    assert DEVICE not in ran.out
