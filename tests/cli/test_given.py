"""What the commands take: several files, folders, a batch, a day, a person's day, a staging root."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from tests.cli.commands import DEVICE, USER, Run, cbg, ndjson

OTHER = "9876543210"
DAY = "2026-03-01"


def minute(at: int, **changes: object) -> dict[str, object]:
    return cbg(time=f"2026-03-01T00:{at:02}:00Z", **changes)


def batch(root: Path, name: str, *records: dict[str, object], user: str = USER, day: str = DAY) -> Path:
    folder = root / day / user / name
    folder.mkdir(parents=True)
    (folder / "a.ndjson").write_bytes(ndjson(*records))
    manifest = {
        "userId": user,
        "dataSet": {"deviceId": DEVICE},
        "files": [{"name": "a.ndjson", "format": "ndjson"}],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A staging root with a batch of two days each, and one of another person."""
    batch(tmp_path / "staging", "one", minute(1))
    batch(tmp_path / "staging", "two", minute(2), minute(3, value=2000), day="2026-03-02")
    batch(tmp_path / "staging", "other", minute(4), user=OTHER)
    (tmp_path / "staging" / "_work").mkdir()
    return tmp_path / "staging"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of data files."""
    (tmp_path / "data").mkdir()
    for number in (2, 1):
        (tmp_path / "data" / f"{number}.ndjson").write_bytes(ndjson(minute(number)))
    (tmp_path / "data" / ".hidden").write_bytes(b"no data")
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        (
            "staging",
            [f"staging/{DAY}/{USER}/one", f"staging/{DAY}/{OTHER}/other", f"staging/2026-03-02/{USER}/two"],
        ),
        (f"staging/{DAY}/", [f"staging/{DAY}/{USER}/one", f"staging/{DAY}/{OTHER}/other"]),
        (f"staging/{DAY}/{USER}", [f"staging/{DAY}/{USER}/one"]),
        (f"./staging/{DAY}/{USER}/one", [f"./staging/{DAY}/{USER}/one"]),
        (f"staging/{DAY}/{USER}/one/manifest.json", [f"staging/{DAY}/{USER}/one/manifest.json"]),
        ("data", ["data/1.ndjson", "data/2.ndjson"]),
    ],
)
@pytest.mark.parametrize("command", ["validate", "inspect"])
def test_a_folder_stands_for_what_is_in_it(
    run: Run, root: Path, folder: Path, command: str, typed: str, names: list[str]
) -> None:
    ran = run(command, typed, "--json")

    if command == "validate":
        found = [one["name"] for one in json.loads(ran.out)["validated"]]
        assert found == names
    else:
        found = [file["name"] for one in json.loads(ran.out)["inspections"] for file in one["files"]]
        assert found == [
            f"{name.removesuffix('/manifest.json')}/a.ndjson" if "staging" in name else name for name in names
        ]
    assert ran.code == (typed == "staging")


def test_one_s_own_place_can_be_typed(run: Run, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root / DAY)

    ran = run("validate", ".", "--json")

    assert [one["name"] for one in json.loads(ran.out)["validated"]] == [f"./{USER}/one", f"./{OTHER}/other"]


def test_each_is_validated_by_itself_and_summed_up(run: Run, root: Path, folder: Path) -> None:
    (folder / "3.ndjson").write_bytes(b"")

    ran = run("validate", "data", "staging/2026-03-02")

    assert ran.code == 1
    assert ran.err == (
        "tidepool-ingest: data/3.ndjson: The data file contains no records [file-empty]. "
        "Check that it is the right one.\n"
    )
    assert [line.split() for line in ran.lines[-4:]] == [
        ["data/1.ndjson", "1", "1", "0"],
        ["data/2.ndjson", "1", "1", "0"],
        ["data/3.ndjson", "-", "-", "-", "refused:", "file-empty"],
        [f"staging/2026-03-02/{USER}/two", "2", "1", "1"],
    ]
    assert "data/1.ndjson:" in ran.lines


def test_convert_takes_the_batches_of_one_person(run: Run, root: Path, folder: Path) -> None:
    assert [json.loads(line)["time"][14:16] for line in run("convert", "data").lines] == ["01", "02"]
    ran = run("convert", f"staging/{DAY}/{USER}", "staging/2026-03-02")
    assert [json.loads(line)["time"][14:16] for line in ran.lines] == ["01", "02", "03"]
    assert "several people" in run("convert", "staging").error
    assert "together" in run("convert", "staging/2026-03-02", "data").error


def test_convert_makes_the_edits_of_a_batch(run: Run, root: Path) -> None:
    one = root / DAY / USER / "one" / "manifest.json"
    one.write_text(json.dumps(json.loads(one.read_text()) | {"edits": {"drop": ["units"]}}))

    (line,) = run("convert", one.parent).lines

    assert "units" not in json.loads(line)


def test_stage_takes_a_folder_of_files_and_no_batch(run: Run, root: Path, folder: Path) -> None:
    to = ("--user", USER, "--root", "other")
    assert len(run("stage", "data", *to).lines) == 2
    for typed in ("staging", f"staging/{DAY}/{USER}/one"):
        assert "staged already" in run("stage", typed, *to).error


def test_what_cannot_be_meant_is_refused_in_one_line(
    run: Run, root: Path, folder: Path, tmp_path: Path
) -> None:
    (folder / "more").mkdir()
    assert "holds other folders" in run("validate", "data").error
    (tmp_path / "empty").mkdir()
    assert "nothing in the folder" in run("inspect", "empty").error
    (tmp_path / "new" / DAY).mkdir(parents=True)
    for typed in ("new", f"new/{DAY}"):
        assert "no ready batch" in run("validate", typed).error
    assert run("validate", "data/1.ndjson", "nowhere").error.startswith("tidepool-ingest: nowhere: ")
    assert "--verdicts is of one" in run("validate", "data/1.ndjson", "data/2.ndjson", "--verdicts").error


def test_what_is_no_ready_batch_is_named(run: Run, root: Path) -> None:
    (root / DAY / USER / "unfinished").mkdir()
    (root / DAY / USER / "unfinished" / "a.ndjson").write_bytes(b"")

    ran = run("validate", "staging")

    assert ran.err.startswith(
        "staging: left out are folders and files that are no ready batches: 1 no-manifest"
    )


def test_what_stands_in_a_manifest_is_not_said_again(run: Run, root: Path) -> None:
    for command in ("validate", "inspect", "convert"):
        assert "manifest.json" in run(command, root / DAY, "--keep-notes").error
        assert "manifest.json" in run(command, root / DAY, "--format", "json").error
    assert "its own manifest" in run("validate", root / DAY, "--device-model", "G6").error


def test_a_batch_that_cannot_be_read_is_one_of_several(run: Run, root: Path) -> None:
    (root / DAY / USER / "one" / "manifest.json").write_text("{")

    assert run("validate", root).code == 1
    found = json.loads(run("inspect", root, "--json").out)["inspections"]
    assert [hold["code"] for hold in found[0]["holds"]] == ["manifest-malformed"]
    assert len(found) == 3


def test_files_and_the_standard_input_go_together(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in (("validate", "--json"), ("inspect", "--json"), ("convert",)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(ndjson(minute(9)))))
        assert run(command[0], "data", "-", *command[1:]).code == 0
    assert "once" in run("inspect", "-", "-").error
    monkeypatch.setattr("sys.stdin", None)
    assert "no standard input" in run("inspect", "-").error


def test_a_folder_is_looked_at_behind_links(run: Run, folder: Path, tmp_path: Path) -> None:
    (folder / "3.ndjson").symlink_to(folder / "1.ndjson")
    assert len(json.loads(run("validate", "data", "--json").out)["validated"]) == 3
    os.mkfifo(folder / "pipe")
    assert "Not all in the folder are files" in run("validate", "data").error
    (folder / "pipe").unlink()
    (folder / "more").symlink_to(tmp_path)
    assert "holds other folders" in run("validate", "data").error


def test_of_a_batch_there_is_nothing_to_type_next(run: Run, root: Path, folder: Path) -> None:
    assert "\nNext\n" in run("inspect", "data").out
    assert "\nNext\n" not in run("inspect", root / DAY / USER).out
