"""A schedule: a small world, and what goes wrong in it; the same seed and number always give the same."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TypeVar

from tests.faults.catalogue import (
    DAMAGES,
    DOUBTS,
    FEED_REMOTE,
    FREEZES,
    HALF_CLOSES,
    KILLS,
    LOCAL_OF,
    OF_LEDGERS,
    REMOTE,
    Kind,
    Local,
    Proxied,
)
from tests.faults.feeds import FeedBatchSpec, feed_batches, with_retractions
from tidepool_simulator import Fault

HASH = "org.tidepool.deduplicator.device.deactivate.hash"
ORIGIN = "org.tidepool.deduplicator.dataset.delete.origin"
NONE = "org.tidepool.deduplicator.none"
TRUNCATE = "org.tidepool.deduplicator.device.truncate.dataset"

EVERY = (HASH, NONE, ORIGIN, TRUNCATE)
"""Every deduplicator that works for normal data sets."""

PART_RECORDS = (40, 70)
"""Limits of a part, in half of the schedules of normal data sets: two to four parts a batch."""

BEHIND_A_PROXY = 3
"""Every so many schedules, Tidepool is reached through a proxy that has faults of its own."""

STARTS = 5
"""Task starts among which the local faults of a schedule are spread."""


@dataclass(frozen=True)
class BatchSpec:
    """One batch of a schedule.

    :param name: its folder.
    :param device: number of its device.
    :param first: its first minute.
    :param count: its records, a minute each.
    :param dose: units of its boluses.
    :param spoiled: records in it that the Platform rejects.
    :param deduplicator: name of the deduplicator.
    :param earlier: whether it is uploaded before anything goes wrong.
    :param poisoned: whether Tidepool answers 500 to each request that holds one of its records.
    :param day: its day folder, counted from the first.
    :param age: its place in a backlog, which its manifest tells as the time at which it was staged.
    """

    name: str
    device: int
    first: int
    count: int
    dose: float
    spoiled: int
    deduplicator: str
    earlier: bool = False
    poisoned: bool = False
    day: int = 0
    age: int | None = None

    @property
    def wave(self) -> int:
        """Before which run it is staged: 0 is before anything goes wrong."""
        return 0 if self.earlier else 1

    def line(self) -> str:
        """Return what it is, for a person."""
        return (
            f"  batch {self.name}: device {self.device}, {self.count} records and {self.spoiled} spoiled,"
            f" {self.deduplicator.rpartition('deduplicator.')[2]}"
            f"{', uploaded earlier' if self.earlier else ''}{', poisoned' if self.poisoned else ''}"
            f"{'' if self.age is None else f', {self.age} of a backlog, in day folder {self.day}'}"
        )


@dataclass(frozen=True)
class LocalFault:
    """Something that goes wrong at our side.

    :param kind: what.
    :param start: which start of a task it strikes, from 0.
    :param at: which call of its kind in that task, from 0.
    :param moment: ``before``, ``during`` or ``after`` that call.
    :param seconds: how long it lasts, or into the call it strikes.
    """

    kind: Local
    start: int
    at: int
    moment: str
    seconds: float


@dataclass(frozen=True)
class ProxyFault:
    """Something that goes wrong at the proxy.

    :param kind: what.
    :param at: how many that it could have struck pass before.
    """

    kind: Proxied
    at: int


@dataclass(frozen=True)
class Schedule:
    """What happens.

    :param seed: the run's seed.
    :param number: its place in the run.
    :param batches: what is staged.
    :param chunk_records: records a request.
    :param remote: faults at Tidepool's side.
    :param local: faults at ours.
    :param at_once: whether the batches of a run are worked on at the same time.
    :param chunks_at_once: chunks of one data set that may be in progress at the same time.
    :param kind: ``normal`` or ``continuous`` data sets, or a ``backlog`` of normal ones.
    :param part_records: records a data set; a batch of more is cut into parts. ``None`` for the usual limit,
        which no batch here comes near.
    :param proxied: faults at the proxy in front of Tidepool; there is none if there are no such faults.
    """

    seed: int
    number: int
    batches: tuple[BatchSpec | FeedBatchSpec, ...]
    chunk_records: int
    remote: tuple[Fault, ...]
    local: tuple[LocalFault, ...]
    at_once: bool
    chunks_at_once: int
    kind: str = "normal"
    part_records: int | None = None
    proxied: tuple[ProxyFault, ...] = ()

    def lines(self) -> list[str]:
        """Return what it holds, for a person."""
        lines = [
            f"schedule {self.number} of seed {self.seed}: chunks of {self.chunk_records} records,"
            f" {self.chunks_at_once} at once"
            f"{f', cut into parts of {self.part_records} at most' if self.part_records else ''}"
        ]
        lines += [batch.line() for batch in self.batches]
        lines += [f"  {fault.name}, after {fault.skip} such requests" for fault in self.remote]
        lines += [
            f"  start {fault.start}: {fault.kind}, {fault.moment} call {fault.at}" for fault in self.local
        ]
        lines += [f"  {fault.kind}, after {fault.at} such" for fault in self.proxied]
        return lines


def schedule_of(seed: int, number: int, kind: str = "normal") -> Schedule:
    """Return one schedule of a run.

    The first fault at each side takes turns through all kinds, so that none is left out by chance.

    :param seed: the run's seed.
    :param number: its place in the run.
    :param kind: ``normal`` or ``continuous`` data sets, or a ``backlog`` of normal ones.
    """
    schedule = _feeds(seed, number) if kind == "continuous" else _normal(seed, number, kind)
    return replace(schedule, proxied=_proxied(seed, number))


def _proxied(seed: int, number: int) -> tuple[ProxyFault, ...]:
    if number % BEHIND_A_PROXY:
        return ()
    # By a chance of its own, as with the parts.
    chance = random.Random(f"proxy {seed} {number}")
    every = tuple(Proxied)
    kinds = [every[number // BEHIND_A_PROXY % len(every)], *chance.choices(every, k=chance.randrange(4))]
    few = (Proxied.HANDSHAKE_CUT, Proxied.REFUSED, Proxied.SLOW)
    return tuple(ProxyFault(kind, chance.randrange(2 if kind in few else 10)) for kind in kinds)


def _feeds(seed: int, number: int) -> Schedule:
    chance = random.Random(f"feeds {seed} {number}")
    leading = FEED_REMOTE[number % len(FEED_REMOTE)]
    kinds = [leading, *chance.choices(FEED_REMOTE, k=chance.randrange(6))]
    if leading.operation == "delete-data":
        kinds.append(chance.choice(DOUBTS))
    deletes = leading.operation == "delete-data" or chance.random() < 0.5
    earlier = leading.operation != "create" and chance.random() < 0.5
    batches = feed_batches(chance, first_wave=0 if earlier else 1, deletes=deletes)
    chunk_records = chance.choice((8, 15, 30))
    chunks = sum(-(-len(batch.records) // chunk_records) for batch in batches if batch.wave)
    remote = tuple(_fault(kind, chance, chunks, first=kind is leading) for kind in kinds)
    local = _local(chance, number, "continuous")
    if any(fault.kind is Local.SECOND_DEPLOYMENT for fault in local):
        # Of two that create a feed's data set, neither can see what the other's request will still do.
        remote = remote[:1] + tuple(
            fault
            for fault in remote[1:]
            if not (fault.operation == "create" and str(fault.name).startswith("late commit"))
        )
    at_once, chunks_at_once = chance.random() < 0.5, chance.choice((1, 2, 4))
    # By a chance of its own, so that whether a batch is retracted changes nothing else of a schedule.
    retractions = random.Random(f"retractions {seed} {number}")
    batches = with_retractions(_with_poison(batches, local), retractions)
    return Schedule(
        seed, number, batches, chunk_records, remote, local, at_once, chunks_at_once, "continuous"
    )


def _normal(seed: int, number: int, kind: str) -> Schedule:
    chance = random.Random(f"{'faults' if kind == 'normal' else kind} {seed} {number}")
    batches = _batches(chance) if kind == "normal" else _backlog(chance)
    chunk_records = chance.choice((20, 30, 45))
    chunks = sum(-(-batch.count // chunk_records) for batch in batches if not batch.earlier)
    leading = REMOTE[number % len(REMOTE)]
    kinds = [leading, *chance.choices(REMOTE, k=chance.randrange(6))]
    if leading.operation == "delete":
        kinds.append(chance.choice(HALF_CLOSES))
    if leading.operation == "delete-data":
        kinds.append(chance.choice(DOUBTS))
        batches = tuple(_with_hash(batch) for batch in batches)
    remote = tuple(_fault(kind, chance, chunks, first=kind is leading) for kind in kinds)
    local = _local(chance, number, kind)
    if kind == "normal" and local[0].kind in OF_LEDGERS and leading.operation != "delete-data":
        batches = (_alone(number), *(batch for batch in batches if batch.device != 1))
    at_once, chunks_at_once = chance.random() < 0.4 or kind == "backlog", chance.choice((1, 2, 4))
    # By a chance of its own, so that whether batches are cut changes nothing else of a schedule.
    part_records = random.Random(f"parts {seed} {number}").choice((None, None, *PART_RECORDS))
    if kind == "backlog":
        part_records = None  # of a batch that is held in between, some parts would rightly be visible
    return Schedule(
        seed,
        number,
        _with_poison(batches, local),
        chunk_records,
        remote,
        local,
        at_once,
        chunks_at_once,
        kind,
        part_records=part_records,
    )


def _batches(chance: random.Random) -> tuple[BatchSpec, ...]:
    count = chance.randrange(60, 180)
    if chance.random() < 0.5:
        deduplicator = chance.choice((HASH, HASH, HASH, ORIGIN, NONE))
        alone = BatchSpec("one", 1, 0, count, 1.5, chance.randrange(3), deduplicator)
        return (alone, *_another(chance))
    # Two batches of one device that overlap; of the boluses in both, the newer's doses win.
    older = BatchSpec("one", 1, 0, count, 1.5, chance.randrange(3), HASH, earlier=chance.random() < 0.6)
    dose = 1.5 if not older.earlier else 2.5
    newer = BatchSpec("two", 1, count // 2, count, dose, chance.randrange(3), HASH)
    return (older, newer, *_another(chance))


def _backlog(chance: random.Random) -> tuple[BatchSpec, ...]:
    """Return read-outs of one or two devices, each of which overlaps with the one before it.

    In half of the schedules, each tells the doses of its boluses anew: then those of the newest count.
    """
    batches = []
    tells_anew, days = chance.random() < 0.5, chance.choice((1, 2, 9))
    for device in range(1, chance.choice((2, 3))):
        read_outs = chance.randrange(3, 6)
        # Neither their names nor the order in which they are listed says which one is newer.
        names = chance.sample(range(100), read_outs)
        day_folders = sorted(chance.randrange(days) for _ in range(read_outs))
        first = 0
        for age in range(read_outs):
            count = chance.randrange(20, 50)
            dose = 1.5 + age if tells_anew else 1.5
            name, day = f"device-{device}-{names[age]:02}", day_folders[age]
            batches.append(BatchSpec(name, device, first, count, dose, 0, HASH, day=day, age=age))
            first += chance.randrange(count)
    return tuple(batches)


def _alone(number: int) -> BatchSpec:
    """Return the one batch of a device, under each deduplicator in turn."""
    deduplicator = EVERY[number // len(Local) % len(EVERY)]
    return BatchSpec("one", 1, 0, 60 + number % 100, 1.5, number % 3, deduplicator)


def _another(chance: random.Random) -> list[BatchSpec]:
    if chance.random() < 0.6:
        return []
    return [BatchSpec("three", 2, 0, chance.randrange(40, 100), 3.5, 0, HASH)]


Spec = TypeVar("Spec", BatchSpec, FeedBatchSpec)


def _with_poison(batches: tuple[Spec, ...], local: tuple[LocalFault, ...]) -> tuple[Spec, ...]:
    """Poison the first batch that is not uploaded before anything goes wrong, if a fault says so."""
    if all(fault.kind is not Local.POISON for fault in local):
        return batches
    chosen = next(at for at, batch in enumerate(batches) if batch.wave)
    return tuple(replace(batch, poisoned=at == chosen) for at, batch in enumerate(batches))


def _with_hash(batch: BatchSpec) -> BatchSpec:
    return BatchSpec(**{**vars(batch), "deduplicator": HASH})


def _fault(kind: Kind, chance: random.Random, chunks: int, *, first: bool) -> Fault:
    most = {"post": chunks, "delete-data": 2, "close": 2, "read-back": 2, "create": 2, "list": 4}.get(
        kind.operation, 1
    )
    skip = 0 if first and kind.operation != "post" else chance.randrange(most)
    return kind.make(chance, skip).model_copy(update={"name": kind.name})


def _local(chance: random.Random, number: int, of: str) -> tuple[LocalFault, ...]:
    every = LOCAL_OF[of]
    # Poison takes many rounds to be found: it leads schedules, and comes with no other fault by chance.
    others = tuple(kind for kind in every if kind is not Local.POISON)
    kinds = [every[number % len(every)], *chance.choices(others, k=chance.randrange(3))]
    kinds += chance.choices(KILLS, k=chance.randrange(2))
    return tuple(_local_fault(kind, chance) for kind in dict.fromkeys(kinds))


def _local_fault(kind: Local, chance: random.Random) -> LocalFault:
    counts = {
        Local.READ_FAILS: 8,
        Local.DISK_FULL: 4,
        Local.KILL_AT_LEDGER: 36,
        Local.FREEZE_AT_REQUEST: 5,
    }
    most = counts.get(kind, 12)
    # The first start only plans; most of the writing of files is done by the first that prepares.
    start = chance.randrange(1, 3) if kind is Local.DISK_FULL else chance.randrange(STARTS)
    if kind in (*KILLS, *FREEZES, *DAMAGES, Local.STALL, *OF_LEDGERS):
        start = chance.randrange(1, 3 if kind in (*FREEZES, *DAMAGES) else STARTS)
    return LocalFault(
        kind,
        start,
        chance.randrange(most),
        chance.choice(("before", "during", "after")),
        round(chance.uniform(0.0, 0.4), 3),
    )
