"""What authors of DAGs import from the package itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tidepool_airflow

UNLOADED = "import sys, tidepool_airflow; print([name for name in sys.modules if name.startswith('airflow')])"


def named_in_the_docstring() -> set[str]:
    text = str(tidepool_airflow.__doc__)
    words = {word.strip("`:,.;") for word in text.replace("`", " ").split()}
    return {word for word in words if word.isidentifier() and word in tidepool_airflow.__all__}


@pytest.mark.parametrize("name", tidepool_airflow.__all__)
def test_each_public_name_can_be_imported(name: str) -> None:
    value = getattr(tidepool_airflow, name)

    assert value is not None
    if isinstance(value, type):
        assert (value.__name__, value.__module__.split(".")[0]) == (name, "tidepool_airflow")


def test_the_docstring_explains_each_and_type_checkers_know_each() -> None:
    tree = ast.parse(Path(tidepool_airflow.__file__).read_text())
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tidepool_airflow.")
        for alias in node.names
    }

    assert named_in_the_docstring() == imported == set(tidepool_airflow.__all__)


def test_no_other_name_is_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        _ = tidepool_airflow.no_such_name


def test_importing_the_package_loads_no_airflow() -> None:
    completed = subprocess.run([sys.executable, "-c", UNLOADED], check=True, capture_output=True, text=True)

    assert completed.stdout == "[]\n"
