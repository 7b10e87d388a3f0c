"""Recorded cases, changed so that the Platform's verdict is known: ``python -m tests.model.fuzz_verdicts``.

Each mutation keeps the recorded verdict, or changes it in one way that the Platform's rules say. The verdict
by the fast path, the exact one and the known one must be the same, codes, pointers and order; what is stored
of an accepted record must be the same too, unless the mutation adds to it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from tests import SHARED
from tidepool_ingest.model import Problem, content_of, stored_form, validate_lines
from tidepool_ingest.model.datum import DATUM_MODELS
from tidepool_ingest.model.decode import NESTING_MAX
from tidepool_ingest.model.fields import Record
from tidepool_ingest.model.problems import STAGED_NOT_JSON, STAGED_NUL_IN_NAME, STAGED_TIME_NOT_SHOWN
from tidepool_ingest.model.specification import Kind, fields_of, literal_fields
from tidepool_ingest.model.verdict import validate_line

RECORDED: Final = SHARED / "conformance" / "datum-verdicts.ndjson.gz"
BLOCK: Final = 500

Verdict: TypeAlias = tuple[tuple[str, str], ...]
"""Codes and pointers, in order; empty for an accepted record."""


class Raw(str):
    """JSON text that stands for a value."""


class Case(NamedTuple):
    """A recorded case."""

    name: str
    datum: dict[str, Any]
    verdict: Verdict


class Mutant(NamedTuple):
    """A changed case: its text, the verdict that the Platform has on it, and whether it stores the same."""

    case: Case
    mutation: str
    text: str
    verdict: Verdict
    stores_the_same: bool


# ---------------------------------------------------------------- spelling


@dataclass(frozen=True)
class Spelling:
    """How a value is written: each way in which JSON leaves a choice is chosen at random, if it is on."""

    rng: random.Random
    order: bool = False
    space: bool = False
    numbers: bool = False
    escapes: bool = False
    repeats: bool = False

    def text(self, value: Any) -> str:
        """Write a value."""
        if isinstance(value, Raw):
            return str(value)
        if isinstance(value, dict):
            return self._between("{", [self._member(*member) for member in self._members(value)], "}")
        if isinstance(value, list):
            return self._between("[", [self.text(item) for item in value], "]")
        if isinstance(value, str):
            return self._string(value)
        if self.numbers and isinstance(value, (int, float)) and not isinstance(value, bool):
            return self._number(value)
        return json.dumps(value)

    def _members(self, value: dict[str, Any]) -> list[tuple[str, Any]]:
        members = list(value.items())
        if self.order:
            self.rng.shuffle(members)
        if self.repeats and members:
            # The last of equal names counts.
            repeated = self.rng.choice(members)[0]
            junk = self.rng.choice([None, 7, "x", [], {"a": [1]}, Raw("-0.0"), Raw('"\\ud800"')])
            members.insert(0, (repeated, junk))
        return members

    def _member(self, name: str, value: Any) -> str:
        return f"{self._string(name)}{self._space()}:{self._space()}{self.text(value)}"

    def _between(self, opening: str, items: list[str], closing: str) -> str:
        inside = ",".join(f"{self._space()}{item}{self._space()}" for item in items)
        return f"{opening}{inside or self._space()}{closing}"

    def _space(self) -> str:
        return "".join(self.rng.choices(" \t\r", k=self.rng.randrange(3))) if self.space else ""

    def _string(self, text: str) -> str:
        if not self.escapes:
            return json.dumps(text, ensure_ascii=self.rng.random() < 0.5)
        return f'"{"".join(map(self._character, text))}"'

    def _character(self, character: str) -> str:
        if self.rng.random() < 0.6:
            return json.dumps(character, ensure_ascii=self.rng.random() < 0.5)[1:-1]
        if character == "/" and self.rng.random() < 0.5:
            return "\\/"
        units = character.encode("utf-16-be", "surrogatepass")
        form = self.rng.choice(["\\u{:04x}", "\\u{:04X}"])
        return "".join(
            form.format(int.from_bytes(units[at : at + 2], "big")) for at in range(0, len(units), 2)
        )

    def _number(self, value: float) -> str:
        plain = json.dumps(value)
        if abs(value) > 1e30 or plain in ("0", "-0.0", "0.0"):
            return plain
        exact = Decimal(plain)
        shift = self.rng.randint(-12, 12)
        mantissa = exact.scaleb(-shift)
        forms = [plain, f"{mantissa:f}{self.rng.choice('eE')}{shift}"]
        if isinstance(value, int):
            forms += [f"{value}.0", f"{value}.000", f"{value}e+0", f"{value}0e-1"]
        else:
            forms.append(f"{exact:f}" + ("0" if "." in f"{exact:f}" else ".0"))
        return self.rng.choice(forms)


# ---------------------------------------------------------------- mutations


def models_of(datum: Any) -> type[Record] | None:
    """Return the model of a datum, if its type and kind are known."""
    if not isinstance(datum, dict):
        return None
    for model in DATUM_MODELS:
        if all(datum.get(name) == text for name, text in literal_fields(model).items()):
            return model
    return None


def objects_in(datum: dict[str, Any]) -> Iterator[tuple[dict[str, Any], type[Record]]]:
    """Yield the objects of a datum that have a model, with it: unknown fields in them are dropped."""
    top = models_of(datum)
    waiting: list[tuple[Any, type[Record]]] = [(datum, top)] if top else []
    while waiting:
        value, model = waiting.pop()
        yield value, model
        for spec in fields_of(model):
            inner = value.get(spec.name)
            if len(spec.models) == 1:
                items = _items(inner, by_name=spec.kind in (Kind.OBJECT_MAP, Kind.OBJECTS_MAP))
                waiting += [(item, spec.models[0]) for item in items if isinstance(item, dict)]
            elif spec.models and (chosen := models_of(inner)) in spec.models and chosen:
                waiting.append((inner, chosen))


def _items(value: Any, *, by_name: bool) -> list[Any]:
    """Return the objects of a field: itself, those of a list, or by the names that people gave them."""
    if by_name:
        named = value.values() if isinstance(value, dict) else ()
        return [item for inner in named for item in _items(inner, by_name=False)]
    return value if isinstance(value, list) else [value]


def _nested(rng: random.Random, levels: int, inmost: str = "1") -> Raw:
    """Return so many levels of arrays and objects."""
    kinds = [rng.random() < 0.7 for _ in range(levels)]
    opening = "".join("[" if is_array else '{"a":' for is_array in kinds)
    closing = "".join("]" if is_array else "}" for is_array in reversed(kinds))
    return Raw(f"{opening}{inmost}{closing}")


JUNK: Final[Sequence[Any]] = (
    None,
    True,
    "text",
    -1,
    2**63 - 1,
    Raw("1e300"),
    Raw("-0.0"),
    Raw("9" * 300),
    Raw('"\\udead"'),
    Raw('{"\\u0000":1,"a":{"b":[null]}}'),
    [],
    {},
)


def add_unknown(datum: dict[str, Any], rng: random.Random) -> None:
    """Add fields that the Platform drops, to objects at any depth."""
    for value, _model in objects_in(datum):
        if rng.random() < 0.6:
            name = rng.choice(["x-unknown", "", "é/~", "Type", "TIME", "$set", "a\0b", "_id"])
            value[name] = rng.choice(JUNK)


def add_deep_unknown(datum: dict[str, Any], rng: random.Random) -> None:
    """Add a field that the Platform drops and that nests deeply, at most as deeply as it reads."""
    inmost = rng.choice(["1", "[]", "{}", '"\\ud800"'])
    levels = rng.choice([2, 100, 254, 255, 256, 257, 300, 600, 980, 1_000, 1_020])
    if rng.random() < 0.03:  # they take a hundred times as long as others
        levels = NESTING_MAX - 1 - (inmost in ("[]", "{}"))
    datum["x-deep"] = _nested(rng, levels, inmost)


def add_nulls(datum: dict[str, Any], rng: random.Random) -> None:
    """Add known fields that are null: the same as missing."""
    for value, model in objects_in(datum):
        for spec in fields_of(model):
            if spec.name not in value and rng.random() < 0.3:
                value[spec.name] = None


def _payload(inside: Raw) -> Raw:
    return Raw(f'{{"a":{inside}}}')


@dataclass
class Fuzzer:
    """Makes mutants of recorded cases."""

    rng: random.Random

    def mutants(self, cases: Sequence[Case]) -> Iterator[Mutant]:
        """Yield mutants without end: each case in turn, by each mutation in turn."""
        mutations = sorted(MUTATIONS)
        for number, case in enumerate(cycle(cases)):
            name = mutations[(number + number // len(cases)) % len(mutations)]
            mutant = MUTATIONS[name](self, case)
            if mutant is not None:
                text, verdict, stores_the_same = mutant
                yield Mutant(case, name, text, verdict, stores_the_same)

    def spelling(self, **ways: bool) -> Spelling:
        """Return how to write; all ways if none is named."""
        names = ("order", "space", "numbers", "escapes", "repeats")
        return Spelling(self.rng, **(ways or dict.fromkeys(names, True)))

    def copy(self, case: Case) -> dict[str, Any]:
        """Return the datum of a case, to be changed."""
        copied: dict[str, Any] = json.loads(json.dumps(case.datum))
        return copied


Made: TypeAlias = tuple[str, Verdict, bool] | None


def _spelled(**ways: bool) -> Callable[[Fuzzer, Case], Made]:
    return lambda fuzzer, case: (fuzzer.spelling(**ways).text(case.datum), case.verdict, True)


def _added(add: Callable[[dict[str, Any], random.Random], None]) -> Callable[[Fuzzer, Case], Made]:
    def make(fuzzer: Fuzzer, case: Case) -> Made:
        datum = fuzzer.copy(case)
        add(datum, fuzzer.rng)
        return fuzzer.spelling(order=True).text(datum), case.verdict, True

    return make


def _too_deep(fuzzer: Fuzzer, case: Case) -> Made:
    if fuzzer.rng.random() > 0.03:  # for the same reason
        return None
    datum = {**case.datum, "x-deep": _nested(fuzzer.rng, fuzzer.rng.choice([NESTING_MAX, 20_000]))}
    return fuzzer.spelling(order=True).text(datum), ((STAGED_NOT_JSON, ""),), False


def _deep_payload(fuzzer: Fuzzer, case: Case) -> Made:
    """Give a case without payload one that nests deeply, and is as large as it may be, or just too large."""
    if "payload" in case.datum or models_of(case.datum) is None:
        return None
    levels = fuzzer.rng.choice([1, 60, 256, 300, 600])
    nested = _payload(_nested(fuzzer.rng, levels, '"%s"'))
    room = 4_096 - len(nested) + len("%s")
    too_large = fuzzer.rng.random() < 0.5
    if too_large and case.verdict:
        return None
    filled = "x" * (room + 1 if too_large else fuzzer.rng.choice([0, 1, room]))
    datum = {**case.datum, "payload": Raw(nested.replace("%s", filled))}
    verdict = (("size-out-of-range", "/payload"),) if too_large else case.verdict
    return fuzzer.spelling(order=True).text(datum), verdict, False


def _rounded_integer(fuzzer: Fuzzer, case: Case) -> Made:
    """Give an accepted case an integer that float64 rounds to 2**63, where there is a lower bound."""
    if case.verdict or "type" not in case.datum:
        return None
    names = [
        "timezoneOffset",
        "clockDriftOffset",
        *(["sampleInterval"] if case.datum["type"] == "cbg" else []),
    ]
    name = fuzzer.rng.choice(names)
    number = fuzzer.rng.choice([2**63 - 512, 2**63 - 511, 2**63 - 1, 2**63, 2**63 + 1, 2**64, 10**300])
    datum = {**case.datum, name: Raw(f"{number}{fuzzer.rng.choice(['', '.0', 'e0'])}")}
    return fuzzer.spelling(order=True).text(datum), (("value-out-of-range", f"/{name}"),), False


MUTATIONS: Final[dict[str, Callable[[Fuzzer, Case], Made]]] = {
    "order of names": _spelled(order=True),
    "white space": _spelled(space=True),
    "spelling of numbers": _spelled(numbers=True),
    "escapes": _spelled(escapes=True),
    "repeated names": _spelled(repeats=True),
    "all five": _spelled(),
    "unknown fields": _added(add_unknown),
    "deep unknown field": _added(add_deep_unknown),
    "nulls": _added(add_nulls),
    "too deep": _too_deep,
    "deep payload": _deep_payload,
    "integers at 2**63": _rounded_integer,
}


# ---------------------------------------------------------------- comparison


@dataclass
class Comparison:
    """What came of it: records by mutation, those passed by the fast path alone, and those that differ."""

    records: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    differing: list[str] = field(default_factory=list)

    def add(self, mutants: Sequence[Mutant]) -> None:
        """Compare the verdicts on some mutants."""
        lines = [mutant.text.encode("utf-8", "surrogatepass") for mutant in mutants]
        for mutant, line, fast in zip(mutants, lines, validate_lines(lines), strict=True):
            exact = validate_line(line)
            self.records[mutant.mutation] += 1
            self.accepted[mutant.mutation] += not mutant.verdict
            same = fast.datum is not None and mutant.stores_the_same and not mutant.verdict
            if (
                fast.problems != exact.problems
                or _of_platform(fast.problems) != mutant.verdict
                or (same and _contents(fast.datum) != _contents(mutant.case.datum))
            ):
                self.differing.append(f"{mutant.case.name}: {mutant.mutation}")


def _contents(datum: Any) -> list[int]:
    return [content_of(row) for row in stored_form(datum)]


def _of_platform(problems: Sequence[Problem]) -> Verdict:
    """Return the Platform's verdict; of our own codes, two are about what it does after validating."""
    if {code for code, _pointer in problems} & {STAGED_NUL_IN_NAME, STAGED_TIME_NOT_SHOWN}:
        return ()
    return tuple((code, pointer) for code, pointer in problems)


def cases_in(path: Path) -> list[Case]:
    """Read the recorded cases whose datum is an object."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        found = [json.loads(line) for line in file]
    return [
        Case(
            case["id"],
            case["datum"],
            tuple((error["code"], error["pointer"]) for error in case["errors"]),
        )
        for case in found
        if isinstance(case["datum"], dict)
    ]


def compare(cases: Sequence[Case], records: int, seed: int) -> Comparison:
    """Make mutants and compare the verdicts on them."""
    comparison = Comparison()
    mutants = islice(Fuzzer(random.Random(seed)).mutants(cases), records)
    while block := list(islice(mutants, BLOCK)):
        comparison.add(block)
    return comparison


def main() -> int:
    """Print figures by mutation, and the cases that differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=Path, default=RECORDED)
    parser.add_argument("--records", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.process_time()
    cases = cases_in(options.cases)
    compared = compare(cases, options.records, options.seed)
    for name, number in sorted(compared.records.items()):
        print(f"{name:20} {number:7} records, {compared.accepted[name]:6} accepted")
    seconds = time.process_time() - began
    print(
        f"{compared.records.total()} records of {len(cases)} cases, {len(compared.differing)} differ,"
        f" {seconds:.0f} s of CPU time"
    )
    print("\n".join(compared.differing[:40]))
    return bool(compared.differing)


if __name__ == "__main__":
    sys.exit(main())
