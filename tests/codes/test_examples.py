"""Each code that can occur is explained, and its example has it: tried by the real readers and validators."""

from __future__ import annotations

import ast
import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import PROJECT
from tests.codes import page
from tests.codes.reading import found_in
from tidepool_ingest.codes import EXPLANATIONS, UNKNOWN, explained
from tidepool_ingest.codes.explanation import Outcome
from tidepool_ingest.codes.left_out import LEFT_OUT
from tidepool_ingest.codes.platform import PLATFORM
from tidepool_ingest.codes.staged import STAGED
from tidepool_ingest.errors import FAULTS_BY_CODE
from tidepool_ingest.formats.holds import CLOCK_FAULTS
from tidepool_ingest.formats.nightscout import treatments
from tidepool_ingest.model import problems
from tidepool_ingest.reports import help as _every_error  # noqa: F401 - imports what the table of errors has

LIBRARY = PROJECT / "include" / "tidepool_ingest"

ALWAYS_INCOMPLETE = "staged-export-incomplete"
"""Every record of an export of the web page comes with this warning."""

COMPANIONS = {"under-other-serial": {"other-device"}}
"""What cannot but be found beside a code: a file with two devices has rows of another one."""

WITHOUT_DEVICE = '"dataSet":{"dataSetType":"normal","deduplicator":{"name":"org.tidepool.deduplicator.none"}}'
"""The Platform's validators ask for no ``deviceId``, and its examples are shorter without."""

WITHOUT_EXAMPLE = {"tidepool-500"}
"""A record at which Tidepool fails cannot be known before."""

WITHOUT_CORRECTION = {ALWAYS_INCOMPLETE, "staged-export-lost"}
"""What an export has left out cannot be put back."""

NO_CODES = {"tidepool-export", "tidepool-web-export", "tidepool-ingest"}
"""Names of formats and of the program."""

NO_REASONS = {"carelink", "result", "table", "upload"}
"""What the readers of formats give a name to besides: words in the files, and a format."""


@pytest.mark.parametrize("code", sorted(EXPLANATIONS))
def test_an_example_has_its_code_and_the_same_corrected_has_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], code: str
) -> None:
    explanation = EXPLANATIONS[code]
    if explanation.example is None:
        assert code in WITHOUT_EXAMPLE
        return
    found, mended, kind, manifest = explanation.example
    if code in PLATFORM:
        manifest = WITHOUT_DEVICE

    seen = found_in(tmp_path, found, kind, manifest, capsys)

    companions = COMPANIONS.get(code, set())
    if kind == "tidepool-web-export":
        companions = companions | {ALWAYS_INCOMPLETE}
    assert {(one, at) for one, at in seen if one == code or one not in companions} == {
        (code, explanation.field)
    }
    if mended:
        after = found_in(tmp_path, mended, kind, manifest, capsys)
        assert {one for one, _at in after} <= companions
    else:
        assert explanation.outcome is Outcome.LEFT_OUT or code in WITHOUT_CORRECTION


@pytest.mark.parametrize("code", sorted(EXPLANATIONS))
def test_what_is_said_is_a_clause_and_whole_sentences(code: str) -> None:
    sentence, remedy, *_ = EXPLANATIONS[code]

    assert sentence[0] == "`" or sentence[0].islower() or sentence.startswith("Tidepool")
    assert sentence[-1] not in ".;:"
    assert remedy.endswith(".")
    assert remedy[0].isupper()


# ---------------------------------------------------------------------- complete


def texts_in(path: Path) -> dict[str, str]:
    """Return the texts that a module gives names to, at its top."""
    found: dict[str, str] = {}
    for node in ast.parse(path.read_text()).body:
        match node:
            case (
                ast.AnnAssign(target=ast.Name(id=name), value=ast.Constant(value=str(text)))
                | ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text)))
            ):
                found[name] = text
    return found


def library(*below: str) -> list[Path]:
    return [
        path
        for path in sorted(LIBRARY.joinpath(*below).rglob("*.py"))
        if path.relative_to(LIBRARY).parts[0] != "codes"
    ]


def test_every_code_of_the_platform_is_explained_and_no_other() -> None:
    named = {value for name, value in vars(problems).items() if name.isupper() and isinstance(value, str)}

    assert set(PLATFORM) == {code for code in named if not code.startswith("staged-")}


def test_every_code_of_ours_is_explained_and_no_other() -> None:
    written = {
        node.value
        for path in library()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }

    codes = {text for text in written if re.fullmatch(r"(staged|tidepool)-[a-z0-9]+(-[a-z0-9]+)*", text)}
    assert set(STAGED) == {code for code in codes - NO_CODES if code not in FAULTS_BY_CODE}


def test_every_reason_why_a_row_is_no_reading_is_explained_and_no_other() -> None:
    named = {
        text
        for path in library("formats")
        for name, text in texts_in(path).items()
        if not name.startswith("_") and not text.startswith("staged-")
    }
    reasons = {text for text in named if re.fullmatch(r"[a-z]+(-[a-z]+)*", text)}

    assert set(LEFT_OUT) == (reasons | set(treatments.LEFT_OUT.values())) - NO_REASONS - set(CLOCK_FAULTS)


def test_the_platforms_recorded_verdicts_have_no_other_code(shared: Path) -> None:
    files = [*shared.glob("conformance/*-verdicts.ndjson.gz"), *shared.glob("real/*.verdicts.ndjson.gz")]
    codes = {
        error["code"]
        for file in files
        for line in gzip.decompress(file.read_bytes()).splitlines()
        for error in json.loads(line)["errors"]
    }

    assert len(files) == 3
    assert codes <= set(PLATFORM)
    assert len(codes) > 15


def test_no_code_is_explained_twice() -> None:
    assert len(EXPLANATIONS) == len(PLATFORM) + len(STAGED) + len(LEFT_OUT)
    assert not set(EXPLANATIONS) & set(FAULTS_BY_CODE)


def test_what_nobody_knows_says_so() -> None:
    assert explained("value-of-a-newer-platform") is UNKNOWN


LOADED = """
import sys
before = {*sys.modules}
import tidepool_ingest.codes
print(*{name.split(".")[0] for name in sys.modules.keys() - before})
"""


def test_to_explain_loads_next_to_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, timeout=60
    )

    assert {*done.stdout.split()} - sys.stdlib_module_names == {"tidepool_ingest"}


# ---------------------------------------------------------------------- the documentation


def test_the_documentation_shows_every_code() -> None:
    written = page.PATH.read_text()

    assert written == page.page(), "docs/codes.md is not what `python -m tests.codes.page` writes"
    assert {line.removeprefix("### ") for line in written.splitlines() if line.startswith("### ")} == {
        *EXPLANATIONS
    }
