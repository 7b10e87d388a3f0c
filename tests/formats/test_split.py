"""Tables with the rows of several people: each person's go into batches of their own, and nobody else's."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from tests.cli.commands import Ran, Run
from tests.factories import DAY
from tests.formats.tables import mapping
from tests.world import World
from tidepool_ingest.stage.people import split
from tidepool_ingest.staging.errors import BatchError

STUDY = mapping(deviceId={"column": "Serial", "prefix": "Study-"})
NAMES = ["PtID", "Serial", "t", "v"]
Row = list[str]


def user_of(number: int) -> str:
    return f"{number + 0xA000000000:010x}"


def row_of(person: str, serial: str, number: int) -> Row:
    day, rest = divmod(number, 288)
    return [
        person,
        serial,
        f"2026-03-{day + 1:02}T{rest // 12:02}:{rest % 12 * 5:02}:00",
        str(60 + number % 200),
    ]


def table_of(rows: list[Row], delimiter: str = ",") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([NAMES, *rows])
    return text.getvalue()


def users_file(users: Mapping[str, str]) -> str:
    return "".join(f"{study},{user}\n" for study, user in [("study", "tidepool"), *users.items()])


class Study:
    """A table on disk, and the command that splits it."""

    def __init__(self, run: Run, folder: Path) -> None:
        self._run, self.folder = run, folder
        self.root = folder / "staging"

    def split(
        self,
        content: str | bytes,
        users: Mapping[str, str] | str,
        *more: object,
        table: dict[str, Any] = STUDY,
        by: str = "PtID,Serial",
    ) -> Ran:
        (self.folder / "study").write_bytes(content.encode() if isinstance(content, str) else content)
        (self.folder / "ids.csv").write_text(users if isinstance(users, str) else users_file(users))
        (self.folder / "map.json").write_text(json.dumps(table))
        return self._run(
            "stage", "--root", self.root, "--mapping", "map.json", "--split-by", by, "--users", "ids.csv",
            "--timezone", "Europe/Berlin", *more, "study",
        )  # fmt: skip

    @property
    def staged(self) -> list[tuple[dict[str, Any], list[Row]]]:
        """Manifest and rows of each batch."""
        found = []
        for path in sorted(self.root.glob("*/*/*/manifest.json")):
            manifest = json.loads(path.read_text())
            (name,) = [file["name"] for file in manifest["files"]]
            text = gzip.decompress((path.parent / name).read_bytes()).decode()
            layout = manifest["files"][0]["table"]["csv"]
            names, *rows = csv.reader(io.StringIO(text), delimiter=layout["delimiter"])
            assert names == NAMES
            assert path.parent.parent.name == manifest["userId"]
            found.append((manifest, rows))
        return found


@pytest.fixture
def study(run: Run, tmp_path: Path) -> Study:
    return Study(run, tmp_path)


def parquet(rows: list[Row]) -> bytes:
    file = io.BytesIO()
    columns = {name: pyarrow.array([row[at] for row in rows]) for at, name in enumerate(NAMES)}
    pyarrow.parquet.write_table(pyarrow.table(columns), file, row_group_size=100)
    return file.getvalue()


PEOPLE = {f"P{number:03}": user_of(number) for number in range(4)}
ROWS = [row_of(f"P{number % 4:03}", f"S{number % 8}", number) for number in range(64)]


@pytest.mark.parametrize("kind", ["csv", "semicolon", "parquet"])
def test_each_person_and_device_has_a_batch_with_its_own_rows_only(study: Study, kind: str) -> None:
    content: str | bytes = (
        parquet(ROWS) if kind == "parquet" else table_of(ROWS, ";" if kind == "semicolon" else ",")
    )

    done = study.split(content, PEOPLE)

    assert done.code == 0, done.err
    assert len(done.lines) == len(study.staged) == 8
    for manifest, rows in study.staged:
        (person,) = {row[0] for row in rows}
        (serial,) = {row[1] for row in rows}
        assert manifest["userId"] == PEOPLE[person]
        assert manifest["dataSet"]["deviceId"] == f"Study-{serial}"
        assert manifest["files"][0]["records"] == len(rows) == 8
        assert not any(study_id in json.dumps(manifest) for study_id in PEOPLE)
    assert sorted(row for _, rows in study.staged for row in rows) == sorted(ROWS)


def test_whoever_is_not_known_is_listed_and_not_staged(study: Study) -> None:
    rows = [*ROWS, row_of("X9", "S1", 70), row_of("", "S1", 71), row_of("P001", " ", 72), ["P001"]]

    done = study.split(table_of(rows), PEOPLE | {"P777": user_of(777)})

    assert "64 of 68 rows are of 4 people in --users, in 8 parts." in done.err
    assert "not staged: 1 rows of X9, who is not in --users" in done.err
    assert "not staged: 1 rows that do not say whose they are: the cell of the person is empty" in done.err
    assert "the cell of the device is empty (the first is line 68)" in done.err
    assert "not staged: 1 rows that do not have as many cells as the header" in done.err
    assert "no rows of P777" in done.err
    assert sorted(row for _, rows in study.staged for row in rows) == sorted(ROWS)


def test_one_device_for_everybody(study: Study) -> None:
    done = study.split(table_of(ROWS), PEOPLE, "--device-id", "Study", table=mapping(), by="PtID")

    assert done.code == 0, done.err
    assert [(manifest["dataSet"]["deviceId"], len(rows)) for manifest, rows in study.staged] == [
        ("Study", 16)
    ] * 4


@pytest.mark.parametrize(
    ("users", "said"),
    [
        (f"P000,{user_of(0)}\n", "line 1: the first row has to be the names of the columns"),
        ("study,tidepool\nP000,nobody\n", "line 2: its second cell is no Tidepool user id"),
        (f"study,tidepool\nP000,{user_of(0)},x\n", "line 2: it has not two cells"),
        (f"study,tidepool\n,{user_of(0)}\n", "line 2: it has not two cells"),
        (f"study,tidepool\nP000,{user_of(0)}\nP000,{user_of(1)}\n", "line 3: its first cell is there twice"),
        (f"study,tidepool\nP000,{user_of(0)}\nP001,{user_of(0)}\n", "1 Tidepool users are there twice"),
        ("study,tidepool\n", "it names nobody"),
    ],
)
def test_who_is_who_has_to_be_certain(study: Study, users: str, said: str) -> None:
    error = study.split(table_of(ROWS), users).refusal

    assert said in error
    assert "[stage-users]" in error
    assert "P000" not in error
    assert not study.root.exists()


@pytest.mark.parametrize(
    ("by", "said"),
    [
        ("PtID,v", "names as second column another one"),
        ("Nobody", "a column of --split-by is not in the header"),
        ("Serial", "names the column of devices as that of people"),
        ("PtID,Serial,v", "takes the column of people"),
        ("", "--split-by"),
    ],
)
def test_columns_that_tell_nobody_apart(study: Study, by: str, said: str) -> None:
    assert said in study.split(table_of(ROWS), PEOPLE, by=by).error
    assert not study.root.exists()


def test_nothing_is_staged_if_something_of_one_person_is_held(study: Study) -> None:
    rows = [*ROWS, ["P002", "S2", "2026-03-29T02:30:00", "100"]]  # an hour that the zone leaves out

    done = study.split(table_of(rows), PEOPLE)
    meant = study.split(table_of(rows), PEOPLE, "--meant-as", "clock-not-in-zone")

    assert (done.code, done.out) == (1, "")
    assert "P002: " in done.err
    assert "[clock-not-in-zone]" in done.err
    assert "[stage-people-held]" in done.err.splitlines()[-1]
    assert "P002" not in done.err.splitlines()[-1]
    assert len(meant.lines) == 8


STUDY_IDS = ["P000", "P001", "P 2", "X", ""]


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["P000", "P001", "P 2", "X", ""]), st.sampled_from(["S1", 'S"2', "S,3\n4", ""])
        ),
        min_size=1,
        max_size=60,
    ),
    buffered=st.sampled_from([1, 40, 10**6]),
    is_parquet=st.booleans(),
)
def test_parts_and_rows_that_are_left_out_are_the_file(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], buffered: int, is_parquet: bool
) -> None:
    folder = tmp_path_factory.mktemp("split")
    table = [row_of(person, serial, number) for number, (person, serial) in enumerate(rows)]
    path = folder / "study"
    path.write_bytes(parquet(table) if is_parquet else table_of(table).encode())
    users = {"P000": user_of(0), "P001": user_of(1), "P 2": user_of(2)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tidepool_ingest.stage.people.SPOOL_TOTAL_BYTES", buffered)
        people = split(UPath(path), STUDY, ["PtID"], users, folder)

    staged = []
    for part in people.parts:
        text = gzip.decompress(part.path.read_bytes()).decode()
        names, *own = csv.reader(io.StringIO(text, newline=""))
        assert names == NAMES
        assert {users[row[0]] for row in own} == {part.user_id}
        assert len({row[1] for row in own}) == 1
        assert len(own) == part.rows
        staged += own
    assert sorted(staged) == sorted(row for row in table if row[0] in users and row[1])
    assert len(staged) + people.strangers.total() + people.without_id.total() == people.rows == len(table)


def test_a_column_that_tells_rows_apart_and_not_people_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidepool_ingest.stage.people.MAX_PEOPLE", 50)
    (tmp_path / "study").write_text(table_of([row_of(str(number), "S1", number) for number in range(100)]))

    with pytest.raises(BatchError, match="more than 50 ids without a user"):
        split(UPath(tmp_path / "study"), STUDY, ["PtID"], PEOPLE, tmp_path)


@pytest.mark.parametrize("one_in", [50, pytest.param(1, marks=pytest.mark.slow)])
def test_a_study_of_two_hundred_people_becomes_visible_person_by_person(
    study: Study, world: World, one_in: int
) -> None:
    sample = {f"P{number:03}": world.add_user() for number in range(0, 200, one_in)}
    users = {f"P{number:03}": user_of(number) for number in range(200)} | sample
    numbered = list(enumerate(users))
    rows = [row_of(person, f"S{person}", 7 * number + at) for number, person in numbered for at in range(6)]
    random.Random(1).shuffle(rows)
    study.root = world.staging

    done = study.split(parquet(rows), users, "--day", DAY.isoformat(), "--normal")
    outcome = world.run(users=list(sample.values()))

    assert len(done.lines) == 200
    assert not outcome.errors
    assert len(outcome.uploaded) == len(sample)
    for person, user in sample.items():
        own = sorted(row[2:] for row in rows if row[0] == person)
        shown = sorted([one["deviceTime"], round(one["value"] * 18.01559)] for one in world.visible(user))
        assert shown == [[stamp, int(value)] for stamp, value in own]
    assert world.visible() == []
