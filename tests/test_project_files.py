"""What people meet first: templates, workflow, pre-commit and decisions are what they say they are."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import PROJECT

GITHUB = PROJECT / ".github"
DECISIONS = PROJECT / "docs" / "adr"
DOUBTS = ("Against it", "What it has to survive")
"""Under one of them, a decision says the best that speaks against it, or each way in which it may fail."""


def loaded(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


def decisions() -> list[Path]:
    return sorted(DECISIONS.glob("0*.md"))


# ---------------------------------------------------------------- .github


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", "workflows/*.yml"),
        ("vendor.github-issue-forms", "ISSUE_TEMPLATE/[!c]*.yml"),
        ("vendor.github-issue-config", "ISSUE_TEMPLATE/config.yml"),
    ],
)
def test_files_for_github_follow_their_schemas(schema: str, files: str) -> None:
    paths = [str(path) for path in GITHUB.glob(files)]
    assert paths
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *paths]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_workflow_runs_what_runs_anywhere_and_may_change_nothing() -> None:
    workflow = loaded(GITHUB / "workflows" / "ci.yml")
    (job,) = workflow["jobs"].values()

    assert [step["run"] for step in job["steps"] if "run" in step][-1] == ".ci/run"
    assert workflow["permissions"] == {"contents": "read"}
    assert "permissions" not in job
    # Every version that the project supports, by its own classifier of them.
    supported = re.search(
        r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (PROJECT / "pyproject.toml").read_text()
    )
    assert supported is not None
    wanted = [f"3.{minor}" for minor in range(int(supported[1]), int(supported[2]))]
    assert job["strategy"]["matrix"]["python"] == wanted


def test_whoever_reports_is_asked_for_no_health_data() -> None:
    bug = (GITHUB / "ISSUE_TEMPLATE" / "bug.yml").read_text()
    pull_request = (GITHUB / "pull_request_template.md").read_text()

    assert "No health data" in bug
    assert "SECURITY.md" in bug
    assert "No health data" in pull_request
    for target in re.findall(r"\]\(\.\./([^)#]+)", pull_request):
        assert (PROJECT / target).exists(), target


# ---------------------------------------------------------------- pre-commit


def program_of(command: str) -> tuple[str, ...]:
    """Return a command's program with what it is to do, without how: `ruff format --check` mends nothing."""
    words = [word for word in shlex.split(command) if not word.startswith("-")]
    return (Path(words[0]).name, *words[1:])


def test_each_commit_is_checked_as_make_check_does() -> None:
    recipe = re.search(r"^check: .*\n((?:\t.*\n)+)", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    of_make = {program_of(line.strip().replace("$(BIN)", ".venv/bin")) for line in recipe[1].splitlines()}

    (repository,) = loaded(PROJECT / ".pre-commit-config.yaml")["repos"]
    of_commits = {program_of(hook["entry"]) for hook in repository["hooks"]}

    assert repository["repo"] == "local", "another version would be another check"
    assert len(of_make) == 3
    assert of_commits == of_make


# ---------------------------------------------------------------- decisions


def test_decisions_are_numbered_and_listed() -> None:
    listed = re.findall(
        r"^\| \[(\d{4})\]\((\d{4}-[a-z-]+\.md)\) \|", (DECISIONS / "README.md").read_text(), re.MULTILINE
    )

    assert [name for _, name in listed] == [path.name for path in decisions()]
    assert [number for number, _ in listed] == [f"{number:04}" for number in range(1, len(listed) + 1)]


@pytest.mark.parametrize("path", decisions(), ids=lambda path: path.stem)
def test_a_decision_is_short_and_says_what_could_be_wrong_with_it(path: Path) -> None:
    text = path.read_text()

    assert text.startswith(f"# {path.name[:4]}: ")
    context, decision, doubts, consequences = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert (context, decision, consequences) == ("Context", "Decision", "Consequences")
    assert doubts in DOUBTS
    assert len(text.splitlines()) <= 120
    against = text.partition(f"## {doubts}")[2].partition("\n## ")[0]
    assert len(re.findall(r"^[-*] ", against, re.MULTILINE)) >= 2
    for target in re.findall(r"\]\(([^):#]+)", text):
        assert (path.parent / target).exists(), target
