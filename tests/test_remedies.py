"""Each cause for which a batch or an action may stop has a remedy of its own, on the page and in the docs."""

from __future__ import annotations

import argparse
import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import PROJECT
from tidepool_ingest import errors
from tidepool_ingest.cli import stage
from tidepool_ingest.errors import (
    FAULTS_BY_CODE,
    Disposition,
    Fault,
    HeldError,
    IngestError,
    Mend,
    MendPlace,
)
from tidepool_ingest.formats import FORMATS
from tidepool_ingest.guards.approval import REJECTED_BY_PERSON
from tidepool_ingest.ledger import DECLINED
from tidepool_ingest.options import CONFIRMING, RunOptions
from tidepool_ingest.reports.help import UNKNOWN, remedy_of
from tidepool_ingest.staging.manifest import parse_manifest

LIBRARY = PROJECT / "include" / "tidepool_ingest"
PLUGIN = PROJECT / "plugins" / "tidepool_airflow"

WHAT_THE_PAGE_KNOWS = """
import json, tidepool_ingest.reports.help
from tidepool_ingest.errors import FAULTS_BY_CODE
print(json.dumps(FAULTS_BY_CODE))
"""


@pytest.fixture(scope="module")
def on_the_page() -> dict[str, Fault]:
    """What a process knows that has imported nothing but what the page does."""
    done = subprocess.run(
        [sys.executable, "-c", WHAT_THE_PAGE_KNOWS], capture_output=True, text=True, check=True, timeout=120
    )
    return {code: Fault(*fault) for code, fault in json.loads(done.stdout).items()}


def trees(folder: Path) -> Iterator[ast.AST]:
    for path in folder.rglob("*.py"):
        # What the commands say never reaches the ledger; the codes of the model are those of records.
        if folder != LIBRARY or path.relative_to(LIBRARY).parts[0] not in ("cli", "model"):
            yield ast.parse(path.read_text())


def texts_named(tree: ast.AST) -> dict[str, str]:
    """Return the texts that a module or class gives names to."""
    return {
        node.targets[0].id: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }


def codes_in(tree: ast.AST) -> set[str]:
    """Return whatever a module uses as the code of a cause, in whichever way it does."""
    named = texts_named(tree)
    found = set()
    for value in (value for node in ast.walk(tree) for value in values_used_as_code(node)):
        # `code="a" if … else "b"` names two; what is compared there is none.
        for part in (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                found.add(part.value)
            elif isinstance(part, ast.Name) and part.id in named:
                found.add(named[part.id])
    return found


def values_used_as_code(node: ast.AST) -> Iterator[ast.expr]:
    match node:
        case ast.ClassDef(name=name, body=body) if name.endswith("Error"):
            yield from (
                line.value
                for line in body
                if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "code"
            )
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.Dict(keys=keys)) if name.endswith("FAULTS"):
            yield from (key for key in keys if key is not None)
        case ast.Call(func=function, args=arguments, keywords=keywords):
            called = ast.unparse(function).split(".")[-1]
            if called in ("BatchError", "FeedError"):
                yield from arguments[:1]
            wanted = "reason" if called in ("set_state", "_set_batch", "ended") else "code"
            if wanted == "reason" or called.endswith("Error") or called == "__init__":
                yield from (keyword.value for keyword in keywords if keyword.arg == wanted)


def test_every_code_that_the_ledger_can_hold_has_a_remedy(on_the_page: dict[str, Fault]) -> None:
    found = {code for tree in trees(LIBRARY) for code in codes_in(tree) if code}

    assert {"older-than-uploaded", "would-double", "batch-changed", "tidepool-busy", "params"} <= found
    assert {"feed-ambiguous", "feed-is-normal", "continuous-never-closed", "too-many-refused"} <= found
    assert found - set(on_the_page) == set()
    assert [code for code, fault in on_the_page.items() if not (fault.sentence and fault.remedy)] == []


def test_no_library_error_is_raised_without_a_code() -> None:
    imported = [kind for kind in _below(IngestError) if kind.__module__.startswith("tidepool_ingest.")]
    bases = {"FileHeldError", "HeldError", "TidepoolError"}

    assert len(imported) > 30
    assert {kind.__name__ for kind in imported if not (kind.code or kind.faults)} == bases


def _below(kind: type[IngestError]) -> list[type[IngestError]]:
    return [each for direct in kind.__subclasses__() for each in (direct, *_below(direct))]


def test_what_nobody_knows_sends_to_the_log() -> None:
    assert remedy_of("of-a-newer-version") == UNKNOWN
    assert remedy_of(None) == UNKNOWN
    assert remedy_of("file-missing").remedy == "Add the file, or remove it from manifest.json."


def test_what_a_person_has_declined_says_so() -> None:
    assert remedy_of(DECLINED) == REJECTED_BY_PERSON != UNKNOWN


@pytest.mark.parametrize("attributes", [{}, {"sentence": "it stopped"}, {"remedy": "Wait."}])
def test_a_code_comes_with_a_sentence_and_a_remedy(attributes: dict[str, str]) -> None:
    with pytest.raises(TypeError, match="a sentence and a remedy"):
        type("HalfError", (IngestError,), {"code": "half-of-a-cause", **attributes})


def test_two_classes_do_not_say_two_things_of_one_code() -> None:
    with pytest.raises(TypeError, match="lease-held"):
        type("OtherError", (IngestError,), {"code": "lease-held", "sentence": "it waits", "remedy": "Wait."})


def test_an_error_says_what_its_class_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "FAULTS_BY_CODE", {})

    class WaitingError(IngestError):
        disposition = Disposition.RETRIABLE
        code = "only-here"
        sentence = "it waits for another one"
        remedy = "Nothing to do."

    assert str(WaitingError()) == "It waits for another one. Nothing to do."
    assert str(WaitingError("It waits.", remedy="Wait too.")) == "It waits. Wait too."
    assert remedy_of("only-here") == UNKNOWN  # the page asks the table that was there before
    declared = errors.FAULTS_BY_CODE["only-here"]
    assert declared == Fault("it waits for another one", "Nothing to do.", retriable=True)


# ---------------------------------------------------------------------- what can be copied

NOTHING_TO_COPY = {
    "export-mixed": "its records have to be taken apart",
    "export-scattered": "its rows have to be sorted",
}
"""Codes that hold a batch and that neither a key nor an option nor a parameter releases."""


def of_code(code: str) -> tuple[Mend, ...]:
    return remedy_of(code).mends


def codes_that_hold() -> set[str]:
    """Return the codes of docs/errors.md for which a batch is held."""
    classes = [kind for kind in _below(HeldError) if kind.__module__.startswith("tidepool_ingest.")]
    return {code for kind in classes for code in (kind.faults or {kind.code: None}) if code}


def test_each_code_that_holds_a_batch_names_what_lets_it_go_on(on_the_page: dict[str, Fault]) -> None:
    holding = codes_that_hold()

    assert {"dates-swapped", "zone-differs", "older-than-uploaded", "too-many-refused"} <= holding
    assert {"export-of-web-page", "glucose-units-implausible", "replaces-loses-days"} <= holding
    assert holding <= set(on_the_page)
    assert {code for code in holding if not of_code(code)} == set(NOTHING_TO_COPY)
    for code in NOTHING_TO_COPY:
        assert re.search(r"\b(Stage|Sort)\b", remedy_of(code).remedy)


def test_whatever_the_remedy_asks_for_can_be_copied() -> None:
    """A remedy that names a code under ``meantAs`` or a confirming parameter has it ready as well."""
    for code, fault in FAULTS_BY_CODE.items():
        texts = " ".join(mend.text for mend in fault.mends)
        if "meantAs" in fault.remedy:
            assert f'"meantAs": ["{code}"]' in texts, code
            assert f"--meant-as {code}" in texts, code
        for name in CONFIRMING:
            if re.search(rf"(?:with|parameter) `{name}`", fault.remedy):
                assert f'"{name}": true' in texts, code


def test_keys_of_a_manifest_that_can_be_copied_are_taken_by_it() -> None:
    copied = {(code, mend) for code, fault in FAULTS_BY_CODE.items() for mend in fault.mends}
    places = (MendPlace.MANIFEST, MendPlace.FILE)
    keys = {(code, mend.place, mend.text) for code, mend in copied if mend.place in places}

    assert len(keys) > 10
    for code, at, text in sorted(keys):
        own, of_file = (f", {text}" if at is place else "" for place in places)
        # Pasted as it is, beside what stands in every manifest: a second `files` would be refused.
        file = '{"name": "a.csv"' + ("" if '"format"' in text else ', "format": "libreview"') + of_file + "}"
        manifest = f'{{"userId": "0123456789", "dataSet": {{}}, "files": [{file}]{own}}}'
        read = parse_manifest(manifest.encode(), formats=tuple(FORMATS))
        assert read.meant_as in ((), (code,))


def test_options_that_can_be_copied_are_those_of_stage() -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    stage.describe(parser)
    options = [
        mend.text
        for fault in FAULTS_BY_CODE.values()
        for mend in fault.mends
        if mend.place is MendPlace.STAGE
    ]

    assert len(options) > 10
    for text in options:
        parser.parse_args(["data.csv", "--root", "r", "--user", "0123456789", *text.split()])


def test_parameters_that_can_be_copied_are_those_of_a_run() -> None:
    given = [
        mend.text for fault in FAULTS_BY_CODE.values() for mend in fault.mends if mend.place is MendPlace.RUN
    ]

    assert len(given) > 5
    for text in given:
        RunOptions.of_params(json.loads(text))


# ---------------------------------------------------------------------- the documentation


def of_the_plugin() -> dict[str, Fault]:
    """Return what the plugin's error classes declare, read without loading Airflow."""
    found: dict[str, Fault] = {}
    for tree in trees(PLUGIN):
        for node in ast.walk(tree):
            own = texts_named(node) if isinstance(node, ast.ClassDef) else {}
            if "code" in own:
                found[own["code"]] = Fault(own["sentence"], own["remedy"])
    return found


def row(code: str, fault: Fault) -> str:
    what = f"{fault.sentence[:1].upper()}{fault.sentence[1:]}".replace("<", "&lt;").replace(">", "&gt;")
    return f"| `{code}` | {what} | {fault.remedy} |"


def test_the_documentation_lists_every_cause(on_the_page: dict[str, Fault]) -> None:
    assert "not-started" in of_the_plugin()
    every = {**on_the_page, **of_the_plugin(), DECLINED: REJECTED_BY_PERSON}
    written = [
        line for line in (PROJECT / "docs" / "errors.md").read_text().splitlines() if line.startswith("| `")
    ]

    expected = [row(code, fault) for code, fault in sorted(every.items())]
    assert written == expected, "docs/errors.md, the rows of the table:\n" + "\n".join(expected)


def test_the_readme_names_codes_that_there_are(on_the_page: dict[str, Fault]) -> None:
    text = (PROJECT / "README.md").read_text()
    table = text[text.index("## When something fails") : text.index("## More")]
    first_column = [line.split("|")[1] for line in table.splitlines() if line.startswith("| ")]
    named = {code for cell in first_column for code in re.findall(r"`([a-z]+(?:-[a-z]+)+)`", cell)}

    assert {"too-many-refused", "older-than-uploaded", "tidepool-permission"} <= named
    assert named - set(on_the_page) == set()
    assert "(docs/errors.md)" in table
