"""Below the staging root, no link, named pipe, socket or device is opened in place of a file or folder."""

from __future__ import annotations

import gc
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from tests.not_regular import lay_socket, no_waiting
from tidepool_ingest.errors import Disposition
from tidepool_ingest.formats import guess_format
from tidepool_ingest.stage import stage
from tidepool_ingest.staging import local, storage
from tidepool_ingest.staging.batches import (
    Arrivals,
    BatchFolder,
    Ignored,
    days,
    days_with_batches,
    list_batches,
    removed_folders,
)
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import read_manifest
from tidepool_ingest.staging.work_area import PreparedBatch, WorkArea

DAY = date(2026, 1, 2)
A, B = "aaaaaaaaaa", "bbbbbbbbbb"
KEY = "0" * 64

Lay = Callable[[Path], Any]


def lay_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root may make a device")


def lay_link(path: Path) -> None:
    beside = path.parent.parent / "another-persons"
    beside.write_bytes(b"secret")
    path.symlink_to(beside)


KINDS: dict[str, Lay] = {
    "named pipe": os.mkfifo,
    "link": lay_link,
    "link to nothing": lambda path: path.symlink_to("nothing"),
    "link to an endless device": lambda path: path.symlink_to("/dev/zero"),
    "socket": lay_socket,
    "device": lay_device,
}


@pytest.fixture(params=KINDS)
def lay(request: pytest.FixtureRequest) -> Lay:
    return KINDS[request.param]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "staging"
    made.mkdir()
    return made


def ready(root: Path, name: str = f"{DAY}/{A}/b1") -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "data.ndjson").write_text("{}\n")
    return folder


def code_of(call: Callable[[], Any]) -> str:
    with pytest.raises(BatchError) as caught:
        call()
    assert caught.value.disposition is Disposition.DATA
    assert A not in str(caught.value)
    return caught.value.code


# ---------------------------------------------------------------- files of a batch


def test_it_is_not_read_in_place_of_a_file(root: Path, lay: Lay) -> None:
    folder = ready(root)
    for name in ("manifest.json", "data.ndjson"):
        (folder / name).unlink()
        lay(folder / name)
    data = UPath(folder / "data.ndjson")

    with no_waiting(folder / "manifest.json", folder / "data.ndjson"):
        codes = {
            code_of(lambda: read_manifest(UPath(folder), A)),
            code_of(lambda: next(storage.read_blocks(data, file_number=1))),
            code_of(lambda: storage.read_at_most(data, 1, missing="file-missing")),
            code_of(lambda: storage.read_range(data, 0, 1, missing="file-missing")),
        }
        with pytest.raises(local.NotRegularError):
            storage.info_of(data)

    assert codes == {"file-not-regular"}


def test_the_file_is_named_by_its_number(root: Path) -> None:
    os.mkfifo(ready(root) / "more.ndjson")
    with pytest.raises(BatchError, match=r"file 2: .*\[file-not-regular\]"):
        next(storage.read_blocks(UPath(root / f"{DAY}/{A}/b1/more.ndjson"), file_number=2))


@pytest.mark.parametrize("where", [str(DAY), f"{DAY}/{A}", f"{DAY}/{A}/b1"])
def test_no_folder_on_the_way_is_a_link(root: Path, tmp_path: Path, where: str) -> None:
    ready(root)
    (root / where).rename(tmp_path / "elsewhere")
    (root / where).symlink_to(tmp_path / "elsewhere")
    data = UPath(root / f"{DAY}/{A}/b1/data.ndjson")

    assert code_of(lambda: storage.read_at_most(data, 1, missing="file-missing")) == "file-not-regular"
    assert code_of(lambda: storage.write_whole(data, b"", below_root=4)) == "file-not-regular"
    assert (tmp_path / "elsewhere").exists()


def test_what_is_exchanged_after_it_was_looked_at_is_not_read(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = ready(root) / "data.ndjson"
    looking = local._lstat
    ways: list[Lay] = [KINDS["named pipe"], KINDS["link"], KINDS["socket"]]

    def exchange(folder: int, name: str) -> os.stat_result:
        found = looking(folder, name)
        file.unlink()
        ways.pop()(file)
        return found

    for _way in list(ways):
        file.unlink()
        file.write_bytes(b"{}")
        with monkeypatch.context() as patch, no_waiting(file):
            patch.setattr(local, "_lstat", exchange)
            code = code_of(lambda: next(storage.read_blocks(UPath(file))))
        assert code == "file-not-regular"


def test_a_folder_that_is_exchanged_while_a_file_in_it_is_opened_leads_nowhere_else(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ready(root)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "data.ndjson").write_bytes(b"secret")
    looking = local._lstat

    def exchange(opened: int, name: str) -> os.stat_result:
        if not folder.is_symlink():
            folder.rename(tmp_path / "moved")
            folder.symlink_to(tmp_path / "elsewhere")
        return looking(opened, name)

    monkeypatch.setattr(local, "_lstat", exchange)
    assert list(storage.read_blocks(UPath(folder / "data.ndjson"))) == [b"{}\n"]


def test_no_descriptor_is_left_open(root: Path, lay: Lay) -> None:
    folder = ready(root)
    lay(folder / "other")
    gc.collect()  # what tests before this one have left is not closed in the middle of it
    before = len(list(Path("/dev/fd").iterdir()))
    for _turn in range(5):
        list(storage.read_blocks(UPath(folder / "data.ndjson")))
        code_of(lambda: next(storage.read_blocks(UPath(folder / "other"))))
        list(list_batches(UPath(root), DAY, DAY))
        storage.write_whole(UPath(folder / "new"), b"x", below_root=4)
        code_of(lambda: storage.write_whole(UPath(folder / "other"), b"x", below_root=4))
    assert len(list(Path("/dev/fd").iterdir())) <= before


def test_a_hard_link_is_a_file(root: Path, tmp_path: Path) -> None:
    file = ready(root) / "data.ndjson"
    os.link(file, file.with_name("more.ndjson"))
    assert list(storage.read_blocks(UPath(file.with_name("more.ndjson")))) == [b"{}\n"]


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_the_root_itself_may_be_a_link(root: Path, tmp_path: Path, form: str) -> None:
    ready(root)
    (tmp_path / "linked").symlink_to(root)
    linked = UPath(form.format(tmp_path / "linked"))

    (found,) = list_batches(linked, DAY, DAY)
    assert storage.read_at_most(found.folder.path / "manifest.json", 9, missing="file-missing") == b"{}"
    area = WorkArea(linked, KEY)
    area.begin()
    with area.accepted_writer() as accepted, area.quarantine_writer():
        chunk = accepted.write([b"{}"])
    area.finish(PreparedBatch(content_key=KEY, chunk_records=1, data_set={}, records=1, chunks=(chunk,)))
    assert area.whole_plan() is not None
    assert area.read_chunk(chunk) == [b"{}"]
    area.drop_accepted()
    area.discard()
    assert days_with_batches(linked) == [DAY]


# ---------------------------------------------------------------- listing


def test_it_is_counted_where_a_folder_belongs_and_others_are_found(root: Path, lay: Lay) -> None:
    ready(root)
    ready(root, f"{DAY}/{B}/b2")
    lay(root / "2026-01-03")
    lay(root / f"{DAY}/cccccccccc")
    lay(root / f"{DAY}/{A}/b9")
    lay(root / "notes")
    lay(root / f"{DAY}/nobody")
    lay(root / f"{DAY}/_hidden")
    ignored = Ignored()

    found = [listed.folder for listed in list_batches(UPath(root), DAY, date(2026, 1, 3), ignored)]

    assert [(folder.user_id, folder.batch_id) for folder in found] == [(A, "b1"), (B, "b2")]
    assert ignored.counts["not-regular"] == 3


def test_no_link_to_a_folder_is_looked_into(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ready(root)
    (root / "2026-01-03").symlink_to(root / str(DAY))
    (root / f"{DAY}/{B}").symlink_to(root / f"{DAY}/{A}")
    (root / f"{DAY}/{A}/loop").symlink_to("..")
    (folder / "within").symlink_to(root)
    ignored = Ignored()

    assert len(list(list_batches(UPath(root), DAY, date(2026, 1, 3), ignored))) == 1
    assert days(UPath(root)) == [DAY]
    assert days_with_batches(UPath(root)) == [DAY]
    assert Arrivals(UPath(root)).look(DAY, date(2026, 1, 3)) == 1
    assert ignored.counts == {"not-regular": 3}


def test_a_manifest_that_is_none_makes_a_batch_that_fails(root: Path, lay: Lay) -> None:
    folder = ready(root)
    (folder / "manifest.json").unlink()
    lay(folder / "manifest.json")

    assert [listed.folder.batch_id for listed in list_batches(UPath(root), DAY, DAY)] == ["b1"]
    assert days_with_batches(UPath(root)) == [DAY]


def test_what_is_exchanged_between_two_listings_stops_no_listing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(root)
    ready(root, f"{DAY}/{B}/b2")
    entering = local._enter

    def exchange(folder: int, name: str, access: int) -> int:
        user = root / str(DAY) / A
        if name == A and not user.is_symlink():
            user.rename(tmp_path / "moved")
            user.symlink_to(tmp_path / "moved")
        return entering(folder, name, access)

    monkeypatch.setattr(local, "_enter", exchange)
    ignored = Ignored()
    assert [listed.folder.user_id for listed in list_batches(UPath(root), DAY, DAY, ignored)] == [B]
    assert ignored.counts == {"not-regular": 1}


def test_a_batch_whose_folder_is_now_a_link_is_not_there_any_more(root: Path, tmp_path: Path) -> None:
    folder = ready(root)
    ready(root, f"{DAY}/{B}/b2")
    batches = [BatchFolder.at(UPath(root), f"{DAY}/{user}") for user in (f"{A}/b1", f"{B}/b2")]
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")

    assert {gone.user_id for gone in removed_folders(UPath(root), batches)} == {A}


# ---------------------------------------------------------------- what this account may not read


def close(monkeypatch: pytest.MonkeyPatch, closed: str) -> None:
    """Let nobody open entries of a name, as if their mode were 0: the account of a test may open all."""
    opening = os.open

    def refuse(name: Any, flags: int, *mode: int, dir_fd: int | None = None) -> int:
        if name == closed and flags & getattr(os, "O_PATH", 0) == 0:
            raise PermissionError(f"canary {name}")
        return opening(name, flags, *mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refuse)


def close_to_looks(monkeypatch: pytest.MonkeyPatch, closed: str) -> None:
    """Let folders of a name be listed, and nobody look at what is in them, as if their mode were 0644."""
    scanning, opening = os.scandir, os.open
    names: dict[int, str] = {}

    class Unseen:
        def __init__(self, name: str) -> None:
            self.name = name

        def stat(self, *, follow_symlinks: bool) -> os.stat_result:
            raise PermissionError(f"canary {self.name}")

    def noted(name: Any, flags: int, *mode: int, dir_fd: int | None = None) -> int:
        descriptor = opening(name, flags, *mode, dir_fd=dir_fd)
        names[descriptor] = str(name)
        return descriptor

    @contextmanager
    def scanned(folder: int) -> Iterator[Any]:
        with scanning(folder) as found:
            yield (Unseen(each.name) if names.get(folder) == closed else each for each in found)

    monkeypatch.setattr(os, "open", noted)
    monkeypatch.setattr(os, "scandir", scanned)


@pytest.mark.parametrize("how", [close, close_to_looks])
@pytest.mark.parametrize("closed", [str(DAY), A, "b1"])
def test_a_folder_that_may_not_be_listed_is_counted(
    root: Path, monkeypatch: pytest.MonkeyPatch, closed: str, how: Callable[[pytest.MonkeyPatch, str], None]
) -> None:
    ready(root)
    ready(root, f"2026-01-03/{B}/b2")
    batch = BatchFolder.at(UPath(root), f"{DAY}/{A}/b1")
    how(monkeypatch, closed)
    ignored = Ignored()

    found = list_batches(UPath(root), DAY, date(2026, 1, 3), ignored)

    assert [listed.folder.batch_id for listed in found] == ["b2"]
    assert ignored.counts == {"not-permitted": 1}
    assert Arrivals(UPath(root)).look(DAY, date(2026, 1, 3)) == 1
    assert date(2026, 1, 3) in days_with_batches(UPath(root))
    assert removed_folders(UPath(root), [batch]) == set()


def test_a_file_that_may_not_be_read_fails_its_batch(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = UPath(ready(root))
    close(monkeypatch, "manifest.json")
    assert code_of(lambda: read_manifest(folder, A)) == "file-not-permitted"


def test_a_folder_that_is_there_is_not_made(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError  # as NFS may answer where a folder is, but may not be made

    WorkArea(UPath(root), KEY).begin()
    monkeypatch.setattr(os, "mkdir", refuse)
    WorkArea(UPath(root), KEY).begin()


# ---------------------------------------------------------------- the work area


def filled(root: Path) -> WorkArea:
    area = WorkArea(UPath(root), KEY)
    area.begin()
    with area.accepted_writer() as accepted, area.quarantine_writer():
        chunk = accepted.write([b"{}"])
    area.finish(PreparedBatch(content_key=KEY, chunk_records=1, data_set={}, records=1, chunks=(chunk,)))
    return area


WRITING: dict[str, Callable[[WorkArea], Any]] = {
    "begin": lambda area: area.begin(),
    "accepted": lambda area: area.accepted_writer().__enter__(),
    "quarantine": lambda area: area.quarantine_writer().__enter__(),
    "plan": lambda area: area.finish(PreparedBatch(content_key=KEY, chunk_records=1, data_set={}, records=0)),
    "parts": lambda area: area.record_part_areas([KEY]),
    "load": lambda area: area.load(),
    "whole": lambda area: area.whole_plan(),
    "quarantine size": lambda area: area.has_rejected_records(),
    "modified": lambda area: storage.modified_at(area.plan_path),
    "removing": lambda area: area.invalidate(),
    "stale": lambda area: storage.remove_partial_files(area.path),
    "discard": lambda area: area.discard(),
}


@pytest.mark.parametrize("where", ["_work", f"_work/{KEY}"])
@pytest.mark.parametrize("doing", WRITING)
def test_nothing_is_done_through_a_work_area_that_is_a_link(
    root: Path, tmp_path: Path, where: str, doing: str
) -> None:
    filled(root)
    (root / where).rename(tmp_path / "elsewhere")
    (root / where).symlink_to(tmp_path / "elsewhere")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "elsewhere").rglob("*")}

    assert code_of(lambda: WRITING[doing](WorkArea(UPath(root), KEY))) == "file-not-regular"

    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "elsewhere").rglob("*")} == before


def test_a_file_of_it_that_was_laid_beforehand_is_not_written_or_read_through(root: Path, lay: Lay) -> None:
    area = filled(root)
    names = ("accepted.ndjson", "quarantine.ndjson", "prepared.json", "parts.json")
    folder = root / "_work" / KEY
    for name in names:
        (folder / name).unlink(missing_ok=True)
        lay(folder / name)
    laid = {name: (folder / name).lstat() for name in names}

    with no_waiting(*(folder / name for name in names)):
        for doing in ("accepted", "quarantine", "plan", "parts", "load", "quarantine size", "modified"):
            assert code_of(lambda doing=doing: WRITING[doing](area)) == "file-not-regular"  # type: ignore[misc]
        assert code_of(area.is_quarantine_intact) == "file-not-regular"
        assert code_of(lambda: next(area.quarantine_blocks())) == "file-not-regular"

    assert {name: (folder / name).lstat() for name in names} == laid
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, "quarantine.sha256"])


def test_removing_an_area_removes_links_and_not_what_they_lead_to(root: Path, tmp_path: Path) -> None:
    area = filled(root)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_bytes(b"x")
    folder = root / "_work" / KEY
    (folder / "folder").symlink_to(tmp_path / "elsewhere")
    (folder / "prepared.json").unlink()
    (folder / "prepared.json").symlink_to(tmp_path / "elsewhere" / "kept")
    (folder / ".x.part").symlink_to(tmp_path / "elsewhere" / "kept")

    assert storage.remove_partial_files(area.path) == 1
    area.discard()

    assert not folder.exists()
    assert (tmp_path / "elsewhere" / "kept").read_bytes() == b"x"


# ---------------------------------------------------------------- what a person gives to a command


def test_a_given_file_may_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b'{"type":"cbg","deviceId":"D-1"}\n')
    (tmp_path / "link").symlink_to(tmp_path / "data")

    assert guess_format(UPath(tmp_path / "link")) == "ndjson"
    assert len(stage(UPath(tmp_path / "link"), UPath(root), B, day=DAY)) == 1


@pytest.mark.parametrize("where", [str(DAY), f"{DAY}/{A}"])
def test_staging_writes_through_no_link(root: Path, tmp_path: Path, where: str) -> None:
    (tmp_path / "data").write_bytes(b'{"type":"cbg","deviceId":"D-1"}\n')
    (tmp_path / "elsewhere").mkdir()
    (root / where).parent.mkdir(exist_ok=True)
    (root / where).symlink_to(tmp_path / "elsewhere")

    code = code_of(lambda: stage(UPath(tmp_path / "data"), UPath(root), A, day=DAY))

    assert code == "file-not-regular"
    assert list((tmp_path / "elsewhere").iterdir()) == []
