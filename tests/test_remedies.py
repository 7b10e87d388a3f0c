from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.conftest import PROJECT
from tidepool_ingest.reports.help import LOOK_INTO_THE_LOG, REMEDIES, remedy_of
from tidepool_ingest.staging.errors import FAULTS

LIBRARY = PROJECT / "include" / "tidepool_ingest"

CONSTANTS = {"REASON", "REJECTED", "TOO_MANY_REFUSED"}
"""Names of modules' constants that hold a code."""


def codes_in_the_source() -> Iterator[str]:
    """Yield what is given to an error as its code, or stands as a module's reason, in the whole library."""
    for path in LIBRARY.rglob("*.py"):
        if path.relative_to(LIBRARY).parts[0] in ("cli", "simulator", "sample", "model"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "code" and isinstance(node.value, ast.Constant):
                yield node.value.value
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in CONSTANTS:
                assert isinstance(node.value, ast.Constant)
                yield str(node.value.value)


def test_every_code_that_the_ledger_can_hold_has_a_remedy() -> None:
    found = {code for code in codes_in_the_source() if code} | set(FAULTS)

    assert {"older-than-uploaded", "would-double", "batch-changed"} <= found
    assert found - set(REMEDIES) == set()
    assert [code for code, (what, remedy) in REMEDIES.items() if not (code and what and remedy)] == []


def test_what_nobody_knows_sends_to_the_log() -> None:
    assert remedy_of("of-a-newer-version")[1] == LOOK_INTO_THE_LOG
    assert remedy_of(None)[1] == LOOK_INTO_THE_LOG
    assert remedy_of("file-missing")[1] == "Add the file, or take it out of manifest.json."
