"""How far our verdicts agree with the Platform's: ``python -m tidepool_ingest.model.conformance FOLDER``.

The folder holds verdicts recorded from the Platform, any of these, as gzipped NDJSON:

- ``datum-verdicts``: ``{"id", "type", "datum", "accepted", "errors": [{"code", "pointer"}]}``,
- ``datum-normalized``: ``{"id", "normalized", "extra"}``, what is stored of those accepted,
- ``data-set-verdicts``: ``{"id", "body", "accepted", "errors"}``,
- ``<name>.verdicts`` beside ``<name>``: ``{"index", "accepted", "errors"}`` for each line of it.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from tidepool_ingest.model.data_set import validate_data_set
from tidepool_ingest.model.decode import decode
from tidepool_ingest.model.problems import Problem
from tidepool_ingest.model.stored import NotAcceptedError, embedded_data, stored_form
from tidepool_ingest.model.verdict import validate_datum, validate_lines

SUFFIX: Final = ".ndjson.gz"
BATCH_LINES: Final = 1000
SHOWN_MAX: Final = 20


@dataclass
class Row:
    """The agreement on the cases of one type.

    :param cases: how many there are.
    :param verdicts: in how many we agree on whether it is accepted.
    :param exact: in how many we agree on every code and pointer.
    :param stored: of how many there is a stored form.
    :param stored_exact: in how many of these we agree on it.
    """

    cases: int = 0
    verdicts: int = 0
    exact: int = 0
    stored: int = 0
    stored_exact: int = 0


@dataclass
class Conformance:
    """The agreement by type, and the ids of the cases in which there is none."""

    rows: dict[str, Row] = field(default_factory=dict)
    differing: list[str] = field(default_factory=list)

    def add_verdict(self, case: str, type_name: str, ours: Iterable[Problem], theirs: dict[str, Any]) -> None:
        """Count a verdict.

        :param case: the id of the case.
        :param type_name: its type.
        :param ours: the problems we find.
        :param theirs: the recorded verdict.
        """
        row = self.rows.setdefault(type_name, Row())
        found = {(problem.code, problem.pointer) for problem in ours}
        expected = {(error["code"], error["pointer"]) for error in theirs["errors"]}
        row.cases += 1
        row.verdicts += (not found) == theirs["accepted"]
        row.exact += found == expected
        if found != expected:
            self.differing.append(case)

    def add_stored(self, case: str, type_name: str, *, is_equal: bool) -> None:
        """Count a stored form.

        :param case: the id of the case.
        :param type_name: its type.
        :param is_equal: whether we agree on it.
        """
        row = self.rows.setdefault(type_name, Row())
        row.stored += 1
        row.stored_exact += is_equal
        if not is_equal:
            self.differing.append(f"{case} (stored)")

    def table(self) -> str:
        """Return it as a table of text."""
        lines = [f"{'type':34}{'cases':>7}{'verdict':>9}{'exact':>9}{'stored':>14}"]
        total = Row()
        for name, row in [*sorted(self.rows.items()), ("all", total)]:
            stored = f"{row.stored_exact} of {row.stored}" if row.stored else "-"
            verdicts, exact = _percent(row.verdicts, row.cases), _percent(row.exact, row.cases)
            lines.append(f"{name:34}{row.cases:>7}{verdicts:>9}{exact:>9}{stored:>14}")
            if row is not total:
                for count in vars(row):
                    setattr(total, count, getattr(total, count) + getattr(row, count))
        return "\n".join(lines)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f}%" if whole else "-"


def _lines(path: Path) -> Iterator[bytes]:
    with gzip.open(path) as file:
        yield from file


def conformance_in(folder: Path) -> Conformance:
    """Compare all cases in a folder.

    :param folder: where the recorded verdicts are.
    """
    conformance = Conformance()
    data: dict[str, tuple[str, Any]] = {}
    for case in _cases(folder / f"datum-verdicts{SUFFIX}"):
        data[case["id"]] = (case["type"], case["datum"])
        conformance.add_verdict(case["id"], case["type"], validate_datum(case["datum"]), case)
    for case in _cases(folder / f"data-set-verdicts{SUFFIX}"):
        conformance.add_verdict(case["id"], "data set", validate_data_set(case["body"]), case)
    for case in _cases(folder / f"datum-normalized{SUFFIX}"):
        if case["id"] in data:
            type_name, datum = data[case["id"]]
            conformance.add_stored(case["id"], type_name, is_equal=_is_stored_so(datum, case))
    for verdicts in sorted(folder.glob(f"*.verdicts{SUFFIX}")):
        _add_lines(conformance, verdicts)
    return conformance


def _cases(path: Path) -> Iterator[dict[str, Any]]:
    return (decode(line) for line in _lines(path)) if path.exists() else iter(())


def _is_stored_so(datum: dict[str, Any], case: dict[str, Any]) -> bool:
    """Compare, with the ids that the Platform gave for those that were not sent."""
    theirs = [case["normalized"], *(case["extra"] or ())]
    sent = {datum.get("id"), *(datum[name].get("id") for name in embedded_data(datum))}
    # Embedded data get theirs before the record that they are embedded in.
    fresh = iter([record["id"] for record in (*theirs[1:], theirs[0]) if record["id"] not in sent])
    try:
        return stored_form(datum, new_id=lambda: next(fresh)) == theirs
    except (NotAcceptedError, StopIteration):
        return False


def _add_lines(conformance: Conformance, verdicts: Path) -> None:
    name = verdicts.name.removesuffix(f".verdicts{SUFFIX}")
    lines, theirs = _lines(verdicts.with_name(name + SUFFIX)), _cases(verdicts)
    while batch := list(islice(lines, BATCH_LINES)):
        for validated, verdict in zip(validate_lines(batch), theirs, strict=False):
            conformance.add_verdict(f"{name}/{verdict['index']}", name, validated.problems, verdict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, and the first cases that differ.

    :param arguments: the command line.
    :return: 0 if all agree, 1 if not, 2 if there is nothing to compare.
    """
    parser = argparse.ArgumentParser(prog="python -m tidepool_ingest.model.conformance", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args(arguments).folder
    conformance = conformance_in(folder)
    if not conformance.rows:
        print(
            f"No recorded verdicts in {folder}: expected datum-verdicts{SUFFIX} or its like.", file=sys.stderr
        )
        return 2
    print(conformance.table())
    for case in conformance.differing[:SHOWN_MAX]:
        print(f"differs: {case}")
    if len(conformance.differing) > SHOWN_MAX:
        print(f"and {len(conformance.differing) - SHOWN_MAX} more")
    return 1 if conformance.differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
