"""The one data set of a feed: found or opened once, guarded, pinned."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.factories import DROP_HASH, NONE, ORIGIN, ORIGIN_OLDER, bolus, cbg, minute_of, readings
from tests.world import CLIENT, FeedWorld
from tidepool_ingest.client import DataSet
from tidepool_ingest.errors import IngestError
from tidepool_ingest.guards import with_mark
from tidepool_ingest.ledger import Ledger
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.upload import Feed, FeedError, continuous_data_set, data_set_body, upload_normal
from tidepool_ingest.upload.feeds.resolver import MARK
from tidepool_simulator import Fault

BODY = {
    "dataSetType": "continuous",
    "client": {"name": CLIENT, "version": "1.2.3"},
    "deduplicator": {"name": ORIGIN},
}


def refusal(world: FeedWorld, number: int) -> str:
    with pytest.raises(FeedError) as caught:
        world.upload(number)
    return caught.value.code


def test_a_data_set_that_is_there_already_is_found(world: FeedWorld) -> None:
    there = world.client.open_data_set(world.user, BODY).data_set_id
    number = world.feed(readings(3), "b-0001")

    assert [data_set.data_set_id for data_set in world.sets(number)] == [there]
    assert world.data_sets() == [there]


def test_its_id_is_told_before_anything_is_sent(world: FeedWorld) -> None:
    number = world.ready(readings(3))
    told: list[tuple[str, int]] = []

    world.upload(number, on_open=lambda data_set_id: told.append((data_set_id, len(world.recorder.chunks))))

    assert told == [(world.data_sets()[0], 0)]


def test_tasks_that_race_for_the_first_data_set_open_one(world: FeedWorld) -> None:
    numbers = [world.ready([cbg(number)], batch=f"b-{number}") for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(world.upload, numbers))

    assert len(world.data_sets()) == 1
    assert len(world.values()) == 4


@pytest.mark.parametrize(
    "fault",
    [
        Fault.lost_answer("create"),
        Fault.failed_after("create"),
        Fault.late_commit("create", 0.1, status=504),
        Fault.lost_request("create"),
    ],
    ids=lambda fault: fault.name or str(fault.answer),
)
def test_an_answer_that_was_lost_opens_no_second_one(world: FeedWorld, fault: Fault) -> None:
    world.timed(doubt=0.4)
    world.simulator.faults.add(fault)
    world.feed(readings(3), "b-0001")

    assert len(world.data_sets()) == 1
    assert len(world.values()) == 3


def test_several_data_sets_of_one_name_are_refused(world: FeedWorld) -> None:
    for _ in range(2):
        world.client.open_data_set(world.user, BODY)

    assert refusal(world, world.ready(readings(3))) == "feed-ambiguous"
    assert not world.recorder.chunks


MARKED = with_mark(BODY, MARK)


def test_of_two_of_ours_the_second_gives_way_while_it_is_empty(world: FeedWorld) -> None:
    first, _second = (world.client.open_data_set(world.user, MARKED).data_set_id for _ in range(2))

    world.feed(readings(3), "b-0001")

    assert world.data_sets() == [first]
    assert len(world.values()) == 3


@pytest.mark.parametrize("holds_data", [0, 1])
def test_one_that_holds_data_is_never_deleted(world: FeedWorld, holds_data: int) -> None:
    two = [world.client.open_data_set(world.user, MARKED).data_set_id for _ in range(2)]
    world.client.upload_data(two[holds_data], json.dumps([bolus(1)]).encode())
    number = world.ready(readings(3))

    if holds_data == 1:
        assert refusal(world, number) == "feed-ambiguous"
        assert sorted(world.data_sets()) == sorted(two)
    else:
        world.upload(number)
        assert world.data_sets() == [two[0]]


def test_whoever_opens_one_while_another_deployment_does_gives_way(
    world: FeedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, firsts = world.client.open_data_set, []

    def after_the_other(user: str, body: dict[str, Any]) -> DataSet:
        firsts.append(opened(user, MARKED).data_set_id)
        return opened(user, body)

    monkeypatch.setattr(world.client, "open_data_set", after_the_other)
    world.feed(readings(3), "b-0001")

    assert world.data_sets() == firsts
    assert len(world.values()) == 3


def test_a_lost_ledger_finds_it_again_and_doubles_nothing(world: FeedWorld, empty_ledger: Path) -> None:
    for first, deduplicator in ((0, ORIGIN), (10, NONE)):
        client = {"name": f"{CLIENT}.{deduplicator[-4:]}", "version": "1.2.3"}
        body = {"client": client, "deduplicator": {"name": deduplicator}}
        world.stage(readings(3, first), deduplicator[-4:], data_set=body)
    assert world.run().codes == []
    shown, there = sorted(world.values()), sorted(world.data_sets())
    copied = world.folder / "empty.db"
    shutil.copy(empty_ledger, copied)
    world.ledger.close()
    world.ledger = Ledger(f"sqlite:///{copied}")

    assert world.run(run="run-2").codes == []

    assert sorted(world.values()) == shown
    assert sorted(world.data_sets()) == there


def test_a_second_data_set_made_by_another_program_is_left_alone(world: FeedWorld) -> None:
    first = world.feed(readings(3), "b-0001")
    world.client.open_data_set(world.user, BODY)
    second = world.feed(readings(3, first=10), "b-0002")

    assert world.sets(first)[0].data_set_id == world.sets(second)[0].data_set_id
    assert len(world.values()) == 6


@pytest.mark.parametrize("name", [NONE, ORIGIN_OLDER, DROP_HASH])
def test_another_deduplicator_than_the_manifest_asks_for_is_refused(world: FeedWorld, name: str) -> None:
    world.client.open_data_set(world.user, {**BODY, "deduplicator": {"name": name}})

    assert refusal(world, world.ready(readings(3))) == "feed-deduplicator"


def test_an_older_name_of_the_same_deduplicator_is_the_same(world: FeedWorld) -> None:
    world.client.open_data_set(
        world.user, {**BODY, "deduplicator": {"name": "org.tidepool.continuous.origin"}}
    )
    world.feed(readings(3), "b-0001")

    assert len(world.data_sets()) == 1


def test_a_feed_that_changes_its_deduplicator_is_refused(world: FeedWorld) -> None:
    world.feed(readings(3), "b-0001")
    number = world.ready(readings(3, first=9), batch="b-0002", data_set={"deduplicator": {"name": NONE}})

    assert refusal(world, number) == "feed-deduplicator"


def test_a_normal_data_set_of_the_same_client_name_is_refused(world: FeedWorld) -> None:
    body = {**BODY, "dataSetType": "normal", "deviceId": "device-9"}
    closed = world.client.open_data_set(world.user, body).data_set_id
    world.client.close_data_set(closed)

    assert refusal(world, world.ready(readings(3))) == "feed-client-name-shared"


def test_a_normal_batch_may_not_use_the_name_of_a_feed(world: FeedWorld) -> None:
    world.feed(readings(3), "b-0001")
    world.data_set_type, world.uploader = "normal", upload_normal
    data_set = {"dataSetType": "normal", "client": {"name": CLIENT, "version": "1.2.3"}}
    number = world.ready(readings(3), batch="normal", data_set=data_set)

    assert refusal(world, number) == "feed-client-name-shared"
    assert world.row(number).state == "failed"


def test_a_normal_batch_may_not_use_the_name_of_a_data_set_somebody_else_feeds(world: FeedWorld) -> None:
    world.client.open_data_set(world.user, BODY)
    world.data_set_type, world.uploader = "normal", upload_normal
    data_set = {"dataSetType": "normal", "client": {"name": CLIENT, "version": "1.2.3"}}

    assert refusal(world, world.ready(readings(3), data_set=data_set)) == "feed-client-name-shared"


def test_a_data_set_that_was_deleted_takes_no_more(world: FeedWorld) -> None:
    number = world.feed(readings(3), "b-0001")
    world.client.delete_data_set(str(world.sets(number)[0].data_set_id))
    later = world.ready(readings(3, first=10), batch="b-0002")

    assert refusal(world, later) == "feed-deleted"
    assert len(world.recorder.chunks) == 1
    assert (world.row(later).state, world.row(later).reason) == ("failed", "feed-deleted")


def test_a_data_set_that_was_closed_takes_no_more(world: FeedWorld) -> None:
    number = world.feed(readings(3), "b-0001")
    _close(world, str(world.sets(number)[0].data_set_id))

    assert refusal(world, world.ready(readings(3, first=10), batch="b-0002")) == "feed-closed"
    assert len(world.values()) == 3


def test_a_closed_data_set_is_not_taken_for_a_new_feed(world: FeedWorld) -> None:
    _close(world, world.client.open_data_set(world.user, BODY).data_set_id)

    assert refusal(world, world.ready(readings(3))) == "feed-closed"


def _close(world: FeedWorld, data_set_id: str) -> None:
    """Close a continuous data set as only a service of Tidepool's can."""
    world.simulator.store.update_data_set(data_set_id, state="closed")


def test_a_feed_goes_on_under_another_client_name(world: FeedWorld) -> None:
    number = world.feed(readings(3), "b-0001")
    world.client.delete_data_set(str(world.sets(number)[0].data_set_id))
    client = {"client": {"name": "org.example.second", "version": "1.0.0"}}
    world.feed(readings(3, first=10), "b-0002", data_set=client)

    assert len(world.values()) == 3


@pytest.mark.parametrize(
    "name",
    [
        "org.tidepool.deduplicator.device.deactivate.hash",
        "org.tidepool.deduplicator.device.truncate.dataset",
    ],
)
def test_deduplicators_that_work_at_close_are_refused_with_the_reason(world: FeedWorld, name: str) -> None:
    with pytest.raises(BatchError, match="when a data set is closed, and a continuous one never is"):
        world.ready(readings(3), data_set={"deduplicator": {"name": name}})


@pytest.mark.parametrize("name", [DROP_HASH, ORIGIN_OLDER])
def test_deduplicators_that_compare_with_what_is_visible_are_refused_for_normal_sets(
    world: FeedWorld, name: str
) -> None:
    world.data_set_type = "normal"
    with pytest.raises(BatchError, match="nothing of a normal data set is before it is closed"):
        world.ready(readings(3), data_set={"dataSetType": "normal", "deduplicator": {"name": name}})


def test_each_kind_of_upload_refuses_batches_of_the_other(world: FeedWorld) -> None:
    number = world.ready(readings(3))
    world.uploader = upload_normal

    assert refusal(world, number) == "feed-is-not-normal"
    assert world.simulator.requests == []


def test_the_data_set_can_be_asked_for_alone(world: FeedWorld) -> None:
    body: dict[str, Any] = data_set_body({"dataSetType": "continuous"}, world.settings)
    feed = Feed(world.api_host, world.user, body)

    first = continuous_data_set(world.context(), feed)
    again = continuous_data_set(world.context(), feed)

    assert first == again == world.data_sets()[0]


def test_errors_say_what_to_do(world: FeedWorld) -> None:
    world.feed([cbg(0), bolus(1)], "b-0001")
    for _ in range(2):
        world.client.open_data_set(world.add_user(), BODY)
    number = world.ready([cbg(5)], batch="b-0002", data_set={"deduplicator": {"name": NONE}})
    with pytest.raises(IngestError) as caught:
        world.upload(number)

    assert "another dataSet.client.name" in caught.value.remedy
    assert world.user not in str(caught.value)
    assert minute_of(5) not in str(caught.value)


def test_a_forced_run_sends_a_batch_again_and_doubles_nothing(world: FeedWorld) -> None:
    world.feed(readings(3), "b-0001")
    world.feed([cbg(1, 9.0)], "b-0002")
    outcome = world.run(run="run-2", force=True)

    assert (outcome.codes, len(outcome.uploaded)) == ([], 2)
    assert len(world.data_sets()) == 1
    assert world.values()[minute_of(1)] == 9.0
    assert world.all_right()


def test_a_batch_of_a_feed_replaces_no_other(world: FeedWorld) -> None:
    with pytest.raises(BatchError, match="feed-replaces"):
        world.ready(readings(3), replaces="b-0000")
