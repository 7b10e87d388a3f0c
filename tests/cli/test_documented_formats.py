"""What docs/formats.md shows is so: its commands are run as they stand on the files that it shows."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from openpyxl import Workbook

from tests import PROJECT
from tests.cli.commands import Run
from tests.console import files_of
from tidepool_ingest.errors import FAULTS_BY_CODE
from tidepool_ingest.formats import FORMATS
from tidepool_ingest.formats.holds import CLOCK_FAULTS
from tidepool_ingest.formats.reader import Reader
from tidepool_ingest.model import validate_lines
from tidepool_ingest.reports.help import remedy_of
from tidepool_ingest.staging.manifest_terms import MeantAs

PAGE = PROJECT / "docs" / "formats.md"
TEXT = PAGE.read_text()

BLOCK = re.compile(r"```(\w+)(?: \S+)?\n(.*?)```", re.DOTALL)
CONVERT = "$ tidepool-ingest convert "


def section(title: str) -> str:
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def conversions() -> Iterator[tuple[str, str]]:
    """Yield each command that converts a file of the page, and what the page says that it writes."""
    blocks = BLOCK.findall(TEXT)
    for at, (kind, content) in enumerate(blocks):
        if kind == "console" and content.startswith(CONVERT):
            assert blocks[at + 1][0] == "ndjson"
            yield content.removeprefix(CONVERT).strip(), blocks[at + 1][1]


@pytest.mark.parametrize(("command", "records"), list(conversions()))
def test_a_file_of_the_page_becomes_what_it_says(
    run: Run, tmp_path: Path, command: str, records: str
) -> None:
    for name, content in files_of(PAGE).items():
        (tmp_path / name).write_text(content)

    ran = run("convert", *shlex.split(command))

    assert ran.code == 0
    assert ran.out == records
    assert "refused" not in ran.err
    judged = validate_lines(ran.out.encode().splitlines())
    assert [one.problems for one in judged if one.problems] == []


@pytest.mark.parametrize("ending", ["parquet", "xlsx"])
def test_the_same_table_in_another_kind_of_file_gives_the_same(run: Run, tmp_path: Path, ending: str) -> None:
    ((command, records),) = [one for one in conversions() if one[0].startswith("meter.csv")]
    shown = files_of(PAGE)
    header, *rows = [line.split(",") for line in shown["meter.csv"].splitlines()]
    (tmp_path / "meter.json").write_text(shown["meter.json"])
    path = tmp_path / f"meter.{ending}"
    if ending == "parquet":
        columns = {name: [row[at] for row in rows] for at, name in enumerate(header)}
        pq.write_table(pa.table(columns), path)
    else:
        book = Workbook()
        for row in (header, *rows):
            book.worksheets[0].append(row)
        book.save(path)

    ran = run("convert", *shlex.split(command.replace("meter.csv", path.name)))

    assert ran.out == records


def test_each_format_has_an_example() -> None:
    shown = {name.partition(".")[0] for command, _ in conversions() for name in shlex.split(command)[:1]}

    assert shown >= {"clarity", "libreview", "site", "meter", "api", "page", "readings"}


def test_each_format_is_in_the_first_table() -> None:
    table = TEXT.partition("\n## ")[0]

    for name, reader in FORMATS.items():
        assert f"`{name}`" in table or not reader.in_manifests, name


def test_what_is_held_has_a_remedy_and_what_releases_it() -> None:
    rows = [line.split("|") for line in section("What holds a file").splitlines() if line.startswith("| `")]
    codes = {code for row in rows for code in re.findall(r"`([a-z]+(?:-[a-z]+)+)`", row[1])}

    assert codes - set(FAULTS_BY_CODE) == set()
    assert all(remedy_of(code).remedy for code in codes)
    assert codes >= set(CLOCK_FAULTS) | {*get_args(MeantAs)} - {"replaces-loses-days"}
    released = {code for row in rows for code in re.findall(r"--meant-as ([a-z-]+)", row[-2])}
    assert released == {*get_args(MeantAs)} - {"replaces-loses-days"}


# ---------------------------------------------------------------------- how to add a format


def test_the_reader_of_the_page_reads(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = [content for kind, content in python_blocks() if "class " in content]
    names: dict[str, Any] = {"__name__": "tidepool_ingest.formats.pen"}
    exec(compile(source, "docs/formats.md", "exec"), names)
    (reader,) = [
        one
        for one in names.values()
        if isinstance(one, type) and issubclass(one, Reader) and one.__module__ == names["__name__"]
    ]
    monkeypatch.setitem(FORMATS, reader.name, reader)
    (tmp_path / "pen.csv").write_text(files_of(PAGE)["pen.csv"])

    ran = run("convert", "pen.csv", "--timezone", "Europe/Berlin")

    expected = files_of(PAGE)["pen.ndjson"]
    assert (ran.code, ran.out) == (0, expected)
    assert ran.err.splitlines()[0] == "1 row is rejected: 1 staged-not-a-number (line 3)"
    assert [one.problems for one in validate_lines(ran.out.encode().splitlines()) if one.problems] == []


def python_blocks() -> list[tuple[str, str]]:
    return [(kind, content) for kind, content in BLOCK.findall(TEXT) if kind == "python"]


def test_what_the_walk_names_is_there() -> None:
    walk = section("Add a format")
    places = re.findall(r"`((?:include|tests|bench|docs|dev)/[\w./]+|[\w]+\.md)`", walk)
    assert len(places) > 10
    for place in places:
        assert (PROJECT / place).exists() or (PROJECT / "docs" / place).exists(), place
    source = "".join(path.read_text() for path in (PROJECT / "include").rglob("*.py"))
    named = {*re.findall(r"^class (\w+)", source, re.MULTILINE), "False", "PenReader"}
    assert set(re.findall(r"`([A-Z]\w+[a-z]\w*)`", walk)) <= named
