"""Arrows run downwards: dags → plugins → include, and within include from storey to storey."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest

from tests import PROJECT
from tidepool_ingest.model import deduplicators

LIBRARY = "tidepool_ingest"
SIMULATOR = "tidepool_simulator"
FACE = "tidepool_airflow"
DEV = "dev"
OURS = {LIBRARY, SIMULATOR, FACE, DEV}

STOREYS = (
    {
        "",
        "auth_modes",
        "codes",
        "coverage",
        "deep_json",
        "digests",
        "errors",
        "local_times",
        "privacy",
        "rejection_limit",
        "texts",
    },
    {"model", "ledger", "client", "staging", "options", "window"},
    {"guards"},
    {"formats"},
    {"staged_batch"},
    {"vanished"},
    {"packs", "plan", "prepare", "stage", "upload"},
    {"inspection", "maintenance", "run"},
    {"reports"},
    {"cli"},
    {"__main__"},
)
"""Parts of the library from the ground up. Each imports only from storeys below its own."""

FOUNDATIONS = ("model", "ledger", "client", "staging")

COMES_WITH = {
    "airflow": "apache-airflow",
    "asgiref": "apache-airflow",
    "markupsafe": "jinja2",
    "pydantic_core": "pydantic",
    "urllib3": "requests",
}
"""Packages that are used together with another one, which requires them and chooses their version."""

LONGEST_MODULE = 600
"""Lines that can be read in one sitting."""

SHORTEST_MODULE = 60
"""Lines from which on a module is worth a door of its own, even if only one other enters it."""

FEW_LINES_ARE_RIGHT = (
    "dags/",
    "__main__.py",
    "include/tidepool_ingest/cli/",
    "include/tidepool_ingest/ledger/migrations/",
    "include/tidepool_ingest/model/",
    "plugins/tidepool_airflow/plugin.py",
    "plugins/tidepool_plugin.py",
)
"""Entry points, commands, migrations and data types: one is what it is, however short."""


TESTS_ELSEWHERE = {
    "airflow": "plugins/tidepool_airflow",
    "deployment": "deploy",
    "dev": "dev",
    "faults": "tests/faults",
    "integration": "tests/integration",
    "simulator": "include/tidepool_simulator",
}
"""Folders of tests that are not named as a package of the library, and where that lies which they test."""


def modules(folder: str) -> list[Path]:
    return sorted((PROJECT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Yield what a module imports, wherever in it; `from a import b` as `a.b`, for b may be a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path} imports relatively"
        yield from imported_by(node)


def imported_by(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(name: str) -> str:
    """Return the part of the library that a dotted name belongs to, `` for the package itself."""
    second = name.split(".")[1] if "." in name else ""
    return second if any(second in storey for storey in STOREYS) else ""


def part_at(path: Path) -> str:
    first = path.relative_to(PROJECT / "include" / LIBRARY).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def parts_used_by(part: str) -> dict[str, str]:
    """Return the other parts that a part of the library imports, each with a module that does."""
    return {
        part_of(name): str(path.relative_to(PROJECT))
        for path in modules(f"include/{LIBRARY}")
        if part_at(path) == part
        for name in imports(path)
        if name.split(".")[0] == LIBRARY and part_of(name) != part
    }


PARTS = sorted({part_at(path) for path in modules(f"include/{LIBRARY}")})


def test_there_is_something_to_look_at() -> None:
    assert set(FOUNDATIONS) <= set(PARTS)
    assert len(modules("plugins")) > 10
    assert len(modules("dags")) >= 1
    assert "ledger" in parts_used_by("upload")


@pytest.mark.parametrize("part", PARTS)
def test_arrows_within_the_library_run_downwards(part: str) -> None:
    height = next((number for number, storey in enumerate(STOREYS) if part in storey), None)
    assert height is not None, f"{part!r} has no place in STOREYS yet"
    below = set().union(*STOREYS[:height])

    assert {used: by for used, by in parts_used_by(part).items() if used not in below} == {}


@pytest.mark.parametrize("foundation", FOUNDATIONS)
def test_foundations_do_not_know_each_other(foundation: str) -> None:
    assert not set(FOUNDATIONS) & set(parts_used_by(foundation))


def of_library(folder: str) -> dict[str, str]:
    """Return the parts of the library that a folder's modules import, each with a module that does."""
    return {
        part_of(name): str(path.relative_to(PROJECT))
        for path in modules(folder)
        for name in imports(path)
        if name.split(".")[0] == LIBRARY
    }


def test_the_simulator_shares_the_model_only() -> None:
    # Two sides of one wire share no code that could share a mistake.
    assert set(of_library(f"include/{SIMULATOR}")) <= {"model", "errors", "privacy", ""}


def test_only_the_command_simulate_knows_the_simulator() -> None:
    users = {
        path
        for path in modules(f"include/{LIBRARY}")
        if SIMULATOR in {n.split(".")[0] for n in imports(path)}
    }
    command = PROJECT / "include" / LIBRARY / "cli" / "simulate.py"

    assert users == {command}
    # Inside the command, for no other one has to load it.
    at_the_top = {name for node in ast.parse(command.read_text()).body for name in imported_by(node)}
    assert not {name for name in at_the_top if name.startswith(SIMULATOR)}


def test_the_checker_of_the_demo_shares_nothing() -> None:
    checker = PROJECT / "include" / SIMULATOR / "sample" / "checker"
    ours = {name for path in checker.rglob("*.py") for name in imports(path) if name.split(".")[0] in OURS}

    assert ours
    assert all(name.startswith(f"{SIMULATOR}.sample.checker") for name in ours)


def imported_packages(folder: str) -> dict[str, str]:
    return {
        name.split(".")[0]: str(path.relative_to(PROJECT))
        for path in modules(folder)
        for name in imports(path)
    }


def test_the_library_never_imports_airflow() -> None:
    assert not {"airflow", FACE, DEV, "dags", "tests"} & set(imported_packages("include"))


def test_airflows_face_imports_no_dag() -> None:
    own = {path.stem for path in modules("dags")}

    assert not (own | {"dags", "tests", DEV}) & set(imported_packages("plugins"))


def test_dev_is_in_no_wheel_and_nobody_imports_it() -> None:
    wheel = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"][
        "wheel"
    ]
    assert wheel["packages"] == [f"include/{LIBRARY}", f"include/{SIMULATOR}", f"plugins/{FACE}"]
    assert DEV not in imported_packages("dags")


def test_a_dag_is_wiring_only() -> None:
    others = set(imported_packages("dags")) - sys.stdlib_module_names

    assert others <= {"airflow", "pendulum", FACE}


@pytest.mark.parametrize("folder", ["include", "plugins", "dev"])
def test_what_is_imported_is_a_dependency_of_its_own(folder: str) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    declared = {_name(line) for line in wanted}
    known = packages_distributions()
    others = set(imported_packages(folder)) - sys.stdlib_module_names - OURS
    unnamed = {
        name for name in others if not declared & {COMES_WITH.get(name, ""), *map(_name, known.get(name, []))}
    }

    assert unnamed == set()


def _name(requirement: str) -> str:
    for sign in "[<>=!~; ":
        requirement = requirement.split(sign)[0]
    return requirement.lower().replace("_", "-")


@pytest.mark.parametrize("folder", ["include", "plugins", "dev", "dags"])
def test_a_module_is_read_in_one_sitting(folder: str) -> None:
    lengths = {str(path.relative_to(PROJECT)): line_count(path) for path in modules(folder)}

    assert {name: length for name, length in lengths.items() if length > LONGEST_MODULE} == {}


def test_a_module_is_worth_its_door() -> None:
    # A few lines that only one other module uses are read where they are used.
    paths = {
        dotted(path): path for folder in ("include", "plugins", "dev", "dags") for path in modules(folder)
    }
    importers: dict[str, set[str]] = {name: set() for name in paths}
    for by, path in paths.items():
        for name in imports(path):
            used = name if name in paths else name.rpartition(".")[0]
            if used in paths and used != by:
                importers[used].add(by)
    drawers = {
        str(path.relative_to(PROJECT)): line_count(path)
        for name, path in paths.items()
        if path.name != "__init__.py"
        and line_count(path) < SHORTEST_MODULE
        and len(importers[name]) <= 1
        and not any(right in str(path.relative_to(PROJECT)) for right in FEW_LINES_ARE_RIGHT)
    }

    assert drawers == {}


def line_count(path: Path) -> int:
    return len(path.read_text().splitlines())


def dotted(path: Path) -> str:
    """Return a module's name as it is imported."""
    parts = path.relative_to(PROJECT).with_suffix("").parts
    below = parts[1:] if parts[0] in ("include", "plugins") else parts
    return ".".join(below[:-1] if below[-1] == "__init__" else below)


def deduplicators_named(source: str) -> set[str]:
    """Return the deduplicators that a module takes from the model to ask by identity."""
    tree = list(ast.walk(ast.parse(source)))
    names = {name for name, value in vars(deduplicators).items() if value in deduplicators.DEDUPLICATORS}
    imported = {
        alias.name
        for node in tree
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{LIBRARY}.model")
        for alias in node.names
    }
    reached = {
        node.attr
        for node in tree
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("deduplicators")
    }
    return names & (imported | reached)


def test_what_a_deduplicator_does_is_asked_by_its_flags() -> None:
    assert deduplicators_named("from tidepool_ingest.model.deduplicators import NONE\nknown is NONE") == {
        "NONE"
    }
    assert deduplicators_named("known is model.deduplicators.DATA_SET_DROP_HASH") == {"DATA_SET_DROP_HASH"}

    outside = [path for path in modules(f"include/{LIBRARY}") if part_at(path) != "model"]
    named = {str(path.relative_to(PROJECT)): deduplicators_named(path.read_text()) for path in outside}
    assert {path: names for path, names in named.items() if names} == {}


@pytest.mark.parametrize("folder", ["tests", "bench"])
def test_nothing_is_imported_from_a_test_module(folder: str) -> None:
    # What tests share has a module of its own, which says what it is; a fixture is asked for by its name.
    taken = {
        f"{path.relative_to(PROJECT)}: {name}"
        for path in modules(folder)
        for node in ast.walk(ast.parse(path.read_text()))
        for name in imported_by(node)
        if any(part == "conftest" or part.startswith("test_") for part in name.split("."))
    }

    assert taken == set()


WORLD = "World"


def modules_with(pattern: str) -> dict[Path, list[ast.AST]]:
    """Return the modules of tests with a text in them, each with its nodes; parsing all takes seconds."""
    found = {path: path.read_text() for path in modules("tests")}
    return {path: list(ast.walk(ast.parse(text))) for path, text in found.items() if re.search(pattern, text)}


def world_classes() -> dict[str, list[str]]:
    """Return the classes of the tests that are called a world of some kind, each with its bases."""
    return {
        f"{path.relative_to(PROJECT)}: {node.name}": [ast.unparse(base) for base in node.bases]
        for path, nodes in modules_with(rf"class \w*{WORLD}\b").items()
        for node in nodes
        if isinstance(node, ast.ClassDef) and node.name.endswith(WORLD)
    }


def called_in(nodes: list[ast.AST]) -> set[str]:
    """Return the names that are called; of `a.b()`, b."""
    functions = (node.func for node in nodes if isinstance(node, ast.Call))
    return {getattr(function, "attr", getattr(function, "id", "")) for function in functions}


def test_there_is_one_world() -> None:
    kinds = world_classes()

    assert kinds.pop("tests/world.py: World") == []
    assert kinds, "there is no kind of it"
    assert {kind: bases for kind, bases in kinds.items() if bases != [WORLD]} == {}


def test_a_world_is_made_in_one_place() -> None:
    kinds = {name.rpartition(" ")[2] for name in world_classes()}
    called = {
        str(path.relative_to(PROJECT)): called_in(nodes)
        for path, nodes in modules_with(rf"\b(Simulator|{'|'.join(kinds)})\(").items()
    }

    # Everybody else calls `a_world`, which takes it down, too.
    assert {"Simulator", "Ledger", "kind"} <= called.pop("tests/world.py")
    assert {path for path, names in called.items() if names & kinds} == set()
    # A simulator and a ledger in one module are a world by another name.
    assert {path for path, names in called.items() if {"Simulator", "Ledger"} <= names} == set()


def test_the_checker_is_asked_through_the_world() -> None:
    taken = {
        str(path.relative_to(PROJECT)): set(chain.from_iterable(map(imported_by, nodes)))
        for path, nodes in modules_with(r"\bimport .*\bcheck\b").items()
    }
    asking = {
        path
        for path, names in taken.items()
        if any(name.startswith(f"{SIMULATOR}.sample.checker") and name.endswith(".check") for name in names)
    }

    assert "tests/world.py" in asking
    assert {path for path in asking if any(name.endswith(WORLD) for name in taken[path])} == set()


def test_tests_lie_where_the_packages_lie() -> None:
    folders = {path.parent.name for path in (PROJECT / "tests").glob("*/__init__.py")}
    packages = {path.parent.name for path in (PROJECT / "include" / LIBRARY).glob("*/__init__.py")}

    assert folders - packages == set(TESTS_ELSEWHERE)
    assert all((PROJECT / place).is_dir() for place in TESTS_ELSEWHERE.values())
