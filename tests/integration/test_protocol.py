"""The upload protocol as a state machine: staging, faults, kills and runs in any order hypothesis thinks of.

After each step, what the ledger calls verified is held against Tidepool's own store; at the end faults are
taken away, the job is run until it is done, and everything staged has to be visible once.
"""

from __future__ import annotations

import functools
import random
import sqlite3
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.factories import HASH, NONE, ORIGIN, readings, wizard
from tests.faults.catalogue import LATEST_COMMIT, REMOTE, Kind
from tests.killing import Killed, Killer
from tests.world import World, a_world, an_empty_ledger
from tidepool_ingest.errors import IngestError
from tidepool_ingest.ledger import BatchState, DataSetState
from tidepool_ingest.ledger.database import LeaseHeldError
from tidepool_ingest.ledger.leases import Lease

KINDS = [kind for kind in REMOTE if "hang" not in kind.name]
"""Faults that end by themselves: this world's client waits as long as the real one."""

RUNS_TO_HEAL = 8
MOST_BATCHES = 4


@functools.cache
def empty_ledger() -> Path:
    return an_empty_ledger(Path(tempfile.mkdtemp(prefix="tidepool-protocol-")))


class Protocol(RuleBasedStateMachine):
    """One world, and what may be done to it."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="tidepool-protocol-")))
        self._world = self._stack.enter_context(a_world(folder, empty_ledger(), World))
        self._world.timed(doubt=LATEST_COMMIT + 0.2, lease=1.0, request=0.3, close_turn=5.0, patience=0.2)
        self._patch = self._stack.enter_context(pytest.MonkeyPatch.context())
        self._patch.setattr("tidepool_ingest.ledger.client_state.FIRST_PAUSE_SECONDS", 0.02)
        self._killer = Killer(self._world, self._patch)
        self._batches = 0
        self._runs = 0

    # ---------------------------------------------------------------- what may happen

    @precondition(lambda self: self._batches < MOST_BATCHES)
    @rule(
        device=st.sampled_from(["d1", "d1", "d2"]),
        first=st.integers(0, 12),
        count=st.integers(1, 12),
        deduplicator=st.sampled_from([HASH, HASH, NONE, ORIGIN]),
        bad=st.integers(0, 1),
    )
    def stage(self, device: str, first: int, count: int, deduplicator: str, bad: int) -> None:
        """Stage a batch; those of one device overlap."""
        self._batches += 1
        # Without a deduplicator between data sets, overlaps would rightly be there twice.
        device = device if deduplicator == HASH else f"{device}-{self._batches}"
        good = readings(count, first, deviceId=device)
        good.append(wizard(200 + self._batches, deviceId=device))
        good[-1]["bolus"]["deviceId"] = device
        if deduplicator == ORIGIN:
            good = [{**one, "origin": {"id": f"{self._batches}-{at}"}} for at, one in enumerate(good)]
        body = {"deviceId": device, "deduplicator": {"name": deduplicator}}
        self._world.stage([*good, *[{"type": "cbg"}] * bad], f"batch-{self._batches}", data_set=body)

    @rule(kind=st.sampled_from(KINDS), seed=st.integers(0, 99), skip=st.integers(0, 3))
    def strike(self, kind: Kind, seed: int, skip: int) -> None:
        """Let something go wrong at Tidepool's side, sooner or later."""
        fault = kind.make(random.Random(seed), skip)
        # What is late is over long before the doubt is, on a busy machine too.
        self._world.simulator.faults.add(fault.model_copy(update={"delay": fault.delay / 2}))

    @rule(at_once=st.sampled_from([1, 3]))
    def run(self, at_once: int) -> None:
        """Run the job once."""
        self._job(at_once)

    @rule(at=st.integers(0, 40), after=st.booleans(), at_once=st.sampled_from([1, 3]))
    def run_and_be_killed(self, at: int, after: bool, at_once: int) -> None:
        """Run the job, and let it end like a process that is killed: nothing is given back."""
        self._killer.strike(at, after=after)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Lease, "release", lambda lease: None)
            try:
                self._job(at_once)
            except Killed:
                pass
            finally:
                self._killer.stand_down()

    @rule(seconds=st.sampled_from([0.1, 1.1]))
    def wait(self, seconds: float) -> None:
        """Let time pass: late work is done, claims of the dead end."""
        time.sleep(seconds)

    def _job(self, at_once: int) -> bool:
        """Return whether nothing is left to do."""
        self._runs += 1
        done = True
        for number in self._world.plan().batches:
            try:
                if self._world.prepare(number, chunk_records=3, max_quarantined_percent=60).accepted:
                    self._world.upload(
                        number, run=f"run-{self._runs}", at_once=at_once, max_rejected_percent=60
                    )
            except LeaseHeldError as error:
                done = False
                time.sleep(min(error.retry_after, 0.2))
            except IngestError:
                done = False
        return done

    # ---------------------------------------------------------------- what always holds

    @invariant()
    def what_is_verified_is_there_once(self) -> None:
        world = self._world
        rows = [
            row
            for batch in world.ledger.batches.get_all(range(1, MOST_BATCHES + 1))
            for row in world.sets(batch.id)
            if row.state is DataSetState.VERIFIED
        ]
        with closing(sqlite3.connect(world.store, timeout=30)) as store:
            for row in rows:
                found = store.execute(
                    "SELECT count(*), count(DISTINCT id), sum(active OR archived_by IS NOT NULL)"
                    " FROM data WHERE upload_id = ?",
                    (row.data_set_id,),
                ).fetchone()
                assert found == (row.expected_rows,) * 3
            twice = "SELECT count(*) FROM data WHERE active GROUP BY hash, upload_id, id HAVING count(*) > 1"
            assert store.execute(twice).fetchall() == []

    def teardown(self) -> None:
        """Heal the world, run until all is done, and look at everything."""
        with self._stack:
            world = self._world
            world.simulator.faults.clear()
            assert world.simulator.settle(10)
            for _ in range(RUNS_TO_HEAL):
                if self._job(2):
                    break
                time.sleep(0.3)
            batches = world.ledger.batches.get_all(range(1, MOST_BATCHES + 1))
            assert len(batches) == self._batches
            assert {row.state for row in batches} <= {BatchState.VERIFIED}
            assert world.simulator.settle(10)
            self.what_is_verified_is_there_once()
            assert world.all_right()


QUICK = settings(
    max_examples=4, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)

TestProtocol = Protocol.TestCase
TestProtocol.settings = QUICK


@pytest.mark.slow
class TestProtocolAtLength(Protocol.TestCase):  # type: ignore[misc]
    settings = settings(QUICK, max_examples=18, stateful_step_count=16)
