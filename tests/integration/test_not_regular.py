"""A link, named pipe or socket in staging fails its own batch, and no other one; nothing waits for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.factories import cbg, readings, sha256
from tests.happenings import age, tidy
from tests.not_regular import lay_socket, no_waiting
from tests.world import World
from tidepool_ingest.ledger import BatchState
from tidepool_ingest.maintenance import cleanup
from tidepool_ingest.maintenance.erasure import PersonErasure
from tidepool_ingest.reports.run import counts_of
from tidepool_ingest.staging.errors import BatchError

LAID: dict[str, Callable[[Path], Any]] = {
    "named pipe": os.mkfifo,
    "socket": lay_socket,
    "link": lambda path: path.symlink_to("../good/data.ndjson"),
}


@pytest.mark.parametrize("lay", LAID.values(), ids=LAID)
@pytest.mark.parametrize("name", ["data.ndjson", "manifest.json"])
def test_it_fails_its_batch_and_the_others_go_up(world: World, name: str, lay: Callable[[Path], Any]) -> None:
    world.stage(readings(2), "good")
    laid = world.stage(readings(2, first=10), "laid") / name
    world.stage(readings(2, first=20), "other")
    laid.unlink()
    lay(laid)

    with no_waiting(laid):
        outcome = world.run()

    assert outcome.codes == ["file-not-regular"]
    assert len(outcome.uploaded) == 2
    (failed,) = [world.row(number) for number in outcome.errors]
    assert (failed.batch_id, failed.state, failed.reason) == ("laid", BatchState.FAILED, "file-not-regular")
    assert len(world.visible()) == 4


def test_one_with_a_digest_in_its_manifest_is_found_when_it_is_prepared(world: World) -> None:
    laid = world.stage(readings(2), file={"sha256": sha256(b"")}) / "data.ndjson"
    laid.unlink()
    os.mkfifo(laid)

    with no_waiting(laid):
        assert world.run().codes == ["file-not-regular"]


def test_another_persons_file_does_not_go_up_under_this_user(world: World) -> None:
    theirs = world.stage(readings(3), user=world.add_user())
    mine = world.stage(readings(2, first=20))
    (mine / "data.ndjson").unlink()
    (mine / "data.ndjson").symlink_to(theirs / "data.ndjson")

    assert world.run().codes == ["file-not-regular"]
    assert world.visible() == []


def test_it_is_counted_where_a_batch_belongs(world: World, tmp_path: Path) -> None:
    folder = world.stage(readings(2))
    folder.with_name("linked").symlink_to(folder)
    folder.parent.with_name("bbbbbbbbbb").symlink_to(tmp_path)

    made = world.plan()

    assert len(made.batches) == 1
    assert made.summary()["ignored"] == {"not-regular": 2}


def test_a_work_area_laid_beforehand_fails_its_batch_and_no_other(world: World, tmp_path: Path) -> None:
    world.stage(readings(2), "good")
    world.stage(readings(2, first=10), "laid")
    planned = world.plan().batches
    (key,) = [row.content_key for row in map(world.row, planned) if row.batch_id == "laid"]
    (tmp_path / "elsewhere").mkdir()
    work = world.staging / "_work"
    work.mkdir()
    (work / key).symlink_to(tmp_path / "elsewhere")

    outcome = world.run()

    assert outcome.codes == ["file-not-regular"]
    assert "`_work`" in str(*outcome.errors.values())
    assert len(outcome.uploaded) == 1
    assert list((tmp_path / "elsewhere").iterdir()) == []
    counted = counts_of(world.root, [world.row(number) for number in planned])
    assert counted.held == 1


def test_a_linked_work_area_stops_no_cleanup_of_others(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(cleanup.log, "warning", lambda text, *parts: said.append(text % parts))
    world.stage(readings(2), "one")
    world.stage([*readings(2, first=10), cbg(50, 99)], "two")
    first, second = world.run(max_quarantined_percent=100).uploaded
    age(world, 31)
    area = world.staging / "_work" / world.row(first).content_key
    area.rename(tmp_path / "elsewhere")
    area.symlink_to(tmp_path / "elsewhere")

    assert tidy(world) == {"accepted": 1}

    (warning,) = said
    assert "[file-not-regular]" in warning
    assert world.user not in warning
    assert (tmp_path / "elsewhere" / "accepted.ndjson").exists()
    assert world.row(second).purged is not None


def test_a_person_whose_folder_is_a_link_is_not_called_erased(world: World, tmp_path: Path) -> None:
    folder = world.stage(readings(2)).parent
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    erasure = PersonErasure(world.ledger, world.root, world.user)

    assert len(erasure.find().folders) == 1
    with pytest.raises(BatchError, match=r"\[file-not-regular\]"):
        erasure.run("ada")

    assert (tmp_path / "elsewhere" / "one" / "data.ndjson").exists()
    folder.unlink()
    folder.parent.rmdir()
    folder.parent.symlink_to(tmp_path)
    with pytest.raises(BatchError, match="a day folder is a link"):
        erasure.run("ada")
    folder.parent.unlink()
    assert erasure.run("ada").folders == ()
