"""Compare what is visible with what was staged, device by device."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from tidepool_simulator.sample.checker.content import Row
from tidepool_simulator.sample.checker.expected import Expected, Place, expect
from tidepool_simulator.sample.checker.feeds import ExpectedFeed, compare_feeds, expect_feeds
from tidepool_simulator.sample.checker.result import CheckResult, SetCheck
from tidepool_simulator.sample.checker.staged import read_staging
from tidepool_simulator.sample.checker.store import StoredSet, read_store

_HIDES_OLDER = ("org.tidepool.deduplicator.device.deactivate.hash", "org.tidepool.hash-deactivate-old")
_DELETES_OLDER = ("org.tidepool.deduplicator.device.truncate.dataset", "org.tidepool.truncate")


def check(
    staging_root: Path,
    store: Path,
    *,
    users: Collection[str] | None = None,
    without: Collection[str] = (),
) -> CheckResult:
    """Compare a staging root with the store of a simulator.

    :param staging_root: the local folder that batches were staged in.
    :param store: the simulator's SQLite file; it may be running.
    :param users: compare these users only, on both sides.
    :param without: names (``day/user/batch``) of batches that are known not to have been uploaded, such as
        those that a run holds; nothing of them may be visible.
    :raises FileNotFoundError: if there is no such store.
    """
    result = CheckResult()
    staged = [batch for batch in read_staging(staging_root) if users is None or batch.user_id in users]
    stored = [data_set for data_set in read_store(store) if users is None or data_set.user_id in users]
    result.unreadable += (batch.name for batch in staged if batch.records is None)
    taken = [batch for batch in staged if batch.records is not None and batch.name not in without]
    _check_devices(
        result,
        [expect(batch, staging_root) for batch in taken if not batch.continuous],
        [data_set for data_set in stored if not data_set.continuous],
    )
    feeds = expect_feeds([batch for batch in taken if batch.continuous], staging_root)
    _count(result, feeds)
    result.sets += compare_feeds(feeds, [data_set for data_set in stored if data_set.continuous])
    formats = {batch.name: batch.formats for batch in taken}
    for entry in result.sets:
        entry.formats = list(dict.fromkeys(name for batch in entry.batches for name in formats[batch]))
    return result


def _check_devices(result: CheckResult, expected: Sequence[Expected], stored: Sequence[StoredSet]) -> None:
    """Compare normal data sets: device by device, for a newer one hides the older ones of its device."""
    batches: dict[tuple[str, str | None], list[Expected]] = defaultdict(list)
    for batch in expected:
        batches[batch.batch.user_id, batch.batch.device_id].append(batch)
    sets: dict[tuple[str, str | None], list[StoredSet]] = defaultdict(list)
    for data_set in stored:
        sets[data_set.user_id, data_set.device_id].append(data_set)
        result.unreachable += not (data_set.closed or data_set.deleted or data_set.rows)
    _count(result, expected)
    for device in sorted(batches.keys() | sets.keys(), key=str):
        result.sets += _Device(device, batches[device], sets[device]).compare()


def _count(result: CheckResult, expected: Sequence[Expected] | Sequence[ExpectedFeed]) -> None:
    for batch in expected:
        result.staged += batch.staged
        result.quarantined += batch.quarantined
        result.identical += batch.identical


class _Device:
    """All that was staged and stored for one device of one user."""

    def __init__(
        self, device: tuple[str, str | None], batches: Sequence[Expected], sets: Sequence[StoredSet]
    ) -> None:
        self._device = device
        self._batches = _without_replaced(batches, sets)
        self._sets = [stored for stored in sets if stored.rows]
        self._may_hide = {
            stored.upload_id for stored in sets if stored.closed and (stored.active or stored.deleted)
        }
        self._entries = {stored.upload_id: _entry_of(stored) for stored in self._sets}
        self._visible: Counter[Row] = Counter()

    def compare(self) -> list[SetCheck]:
        homes = [self._home_of(batch) for batch in self._batches]
        self._count_visible()
        self._count_missing(homes)
        unplaced = [home for home in homes if not home.data_set_id]
        return [*self._entries.values(), *unplaced]

    def _home_of(self, batch: Expected) -> SetCheck:
        """Return the entry of the data set that holds most of a batch, preferring what is visible."""
        shares = {
            stored.upload_id: sum(
                (2 if found.visible else 1) for found in stored.rows if found.row in batch.places
            )
            for stored in self._sets
            if not stored.deleted
        }
        best = max(shares, key=lambda upload_id: shares[upload_id], default=None)
        if best is None or shares[best] == 0:
            user_id, device_id = self._device
            state = "not uploaded" if batch.rows or batch.unaccounted else "all rejected"
            return SetCheck(user_id, device_id, "", state, [batch.batch.name])
        self._entries[best].batches.append(batch.batch.name)
        return self._entries[best]

    def _allowed(self) -> Counter[Row]:
        """Return how often each row may and must be visible.

        Where a newer upload hides the same records of an older one, what was staged twice is visible once.
        """
        hides = all(batch.batch.deduplicator in _HIDES_OLDER + _DELETES_OLDER for batch in self._batches)
        allowed: Counter[Row] = Counter()
        for batch in self._batches:
            allowed = allowed | batch.rows if hides else allowed + batch.rows
        return allowed

    def _count_visible(self) -> None:
        allowed = self._allowed()
        for stored in self._sets:
            entry = self._entries[stored.upload_id]
            for found in stored.rows:
                if not found.visible:
                    continue
                entry.visible += 1
                self._visible[found.row] += 1
                if self._visible[found.row] <= allowed[found.row]:
                    continue
                if allowed[found.row]:
                    entry.double += 1
                    entry.double_places += self._places(found.row)[:1]
                else:
                    entry.foreign += 1

    def _count_missing(self, homes: Sequence[SetCheck]) -> None:
        missing = self._allowed() - self._visible
        hidden = self._hidden_by_newer()
        for batch, home in zip(self._batches, homes, strict=True):
            home.lost += len(batch.unaccounted)
            home.lost_places += batch.unaccounted
            for row in batch.rows.keys() & missing.keys():
                gone = min(batch.rows[row], missing.pop(row))
                superseded = min(gone, hidden[row])
                home.superseded += superseded
                home.lost += gone - superseded
                home.lost_places += batch.places[row][: gone - superseded]
            home.lost_places = sorted(set(home.lost_places))

    def _hidden_by_newer(self) -> Counter[Row]:
        """Return the rows that a newer data set of this device has hidden.

        Only where a closed and visible one shows something of that kind at that time instead. It need not be
        the one that hid them: what a set hid whose close was interrupted stays hidden when that set is
        deleted and its batch is uploaded anew.
        """
        visible = {
            (found.row.kind, found.row.at)
            for stored in self._sets
            if stored.closed and stored.active and not stored.deleted
            for found in stored.rows
            if found.visible
        }
        return Counter(
            found.row
            for stored in self._sets
            for found in stored.rows
            if not found.visible
            and found.archived_by in self._may_hide
            and found.archived_by != stored.upload_id
            and (found.row.kind, found.row.at) in visible
        )

    def _places(self, row: Row) -> list[Place]:
        return [place for batch in self._batches for place in batch.places.get(row, ())]


def _entry_of(stored: StoredSet) -> SetCheck:
    state = "deleted" if stored.deleted else "closed" if stored.closed else "open"
    return SetCheck(stored.user_id, stored.device_id, stored.upload_id, state, hidden=stored.hidden)


def _without_replaced(batches: Sequence[Expected], sets: Sequence[StoredSet]) -> list[Expected]:
    """Return the batches without those that a newer batch has superseded.

    A batch is replaced when its successor's records are visible, or when a truncating upload came after.
    """
    visible = {found.row for stored in sets for found in stored.rows if found.visible}
    replaced = {
        batch.batch.replaces for batch in batches if batch.batch.replaces and batch.rows.keys() & visible
    }
    kept = [batch for batch in batches if batch.batch.batch_id not in replaced]
    truncating = [
        index
        for index, batch in enumerate(kept)
        if batch.batch.deduplicator in _DELETES_OLDER and batch.rows.keys() & visible
    ]
    return kept[truncating[-1] :] if truncating else kept
