"""The six deduplicators of the Platform: what happens to a data set and its data at each step.

Names, aliases and the table of devices that need no name are the model's
(:mod:`tidepool_ingest.model.deduplicators`); here is what each does. Rules:
data/deduplicator/deduplicator/*.go of the Platform.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tidepool_ingest.model import deduplicators as described
from tidepool_ingest.model import identity_hash
from tidepool_ingest.model.gotime import parse_instant
from tidepool_simulator.records import DataSet, Datum, Existing, Selection
from tidepool_simulator.store import Store


class Deduplicator:
    """What all have in common; by itself, the one called ``none``.

    :param description: name and version, stamped on the data sets.
    """

    def __init__(self, store: Store, description: described.Deduplicator) -> None:
        self._store = store
        self._description = description

    def open(self, data_set: DataSet) -> DataSet:
        """Make a new data set ready for data; a continuous one is visible from now on."""
        stamp = {"name": self._description.name, "version": self._description.version}
        return self._store.update_data_set(
            data_set.upload_id, active=data_set.is_continuous, document={"deduplicator": stamp}
        )

    def add(self, data_set: DataSet, data: list[Datum]) -> None:
        """Store data; those of a continuous data set are visible at once."""
        for datum in data:
            datum.active = data_set.is_continuous
        self._store.insert(data_set, data)

    def remove(self, data_set: DataSet, selection: Selection) -> None:
        """Remove selected data."""
        self._store.destroy(data_set, selection)

    def close(self, data_set: DataSet) -> None:
        """Make a closed data set and its data visible; nothing for a continuous one."""
        if not data_set.is_continuous:
            self._store.update_data_set(data_set.upload_id, active=True)
            self._store.activate(data_set)

    def delete(self, data_set: DataSet) -> None:
        """Delete a data set with its data."""
        self._store.delete_data_set(data_set)


class DeviceDeactivateHash(Deduplicator):
    """Closing hides older data of the device with equal hashes; deleting brings them back."""

    def add(self, data_set: DataSet, data: list[Datum]) -> None:
        """Give each datum its hash and store it."""
        for datum in data:
            scope = datum.stored.get("deviceId")
            datum.hash = identity_hash(datum.stored, user_id=data_set.user_id, scope=scope)
        super().add(data_set, data)

    def close(self, data_set: DataSet) -> None:
        """Hide the older data, then make these visible."""
        self._store.archive_older(data_set)
        super().close(data_set)

    def delete(self, data_set: DataSet) -> None:
        """Bring the older data back, then delete these."""
        self._store.unarchive_older(data_set)
        super().delete(data_set)


class DeviceTruncateDataSet(Deduplicator):
    """Closing removes all other data of the device."""

    def close(self, data_set: DataSet) -> None:
        """Remove the other data of the device, then make these visible."""
        self._store.delete_others(data_set)
        super().close(data_set)


class DataSetDeleteOrigin(Deduplicator):
    """Data replace those of the same set with the same origin id."""

    def add(self, data_set: DataSet, data: list[Datum]) -> None:
        """Mark what is replaced, store the data, then destroy what is marked."""
        data = self._kept(data_set, data)
        selection = _by_origin(data)
        if selection is None:
            super().add(data_set, data)
        else:
            self._store.mark_deleted(data_set, selection)
            super().add(data_set, data)
            self._store.destroy_marked(data_set, selection)

    def remove(self, data_set: DataSet, selection: Selection) -> None:
        """Hide selected data, where others destroy them."""
        # Only what is visible can be hidden: on an open normal data set nothing is, so nothing happens.
        self._store.archive(data_set, selection)

    def _kept(self, data_set: DataSet, data: list[Datum]) -> list[Datum]:
        return data


class DataSetDeleteOriginOlder(DataSetDeleteOrigin):
    """The same, but a bolus or food is dropped unless it is newer than the one it would replace."""

    def _kept(self, data_set: DataSet, data: list[Datum]) -> list[Datum]:
        selection = _by_origin(datum for datum in data if datum.type in self._description.keeps_newer)
        if selection is None:
            return data
        existing = {old.origin_id: old for old in self._store.existing(data_set, selection)}
        # Any type, not only the guarded ones, is compared with what has its origin id: so does the Platform.
        return [
            datum
            for datum in data
            if datum.origin_id not in existing or _is_newer(datum, existing[datum.origin_id])
        ]


class DataSetDropHash(Deduplicator):
    """Drops data whose hash is visible in the set already; of equal ones in one request the last stays."""

    def add(self, data_set: DataSet, data: list[Datum]) -> None:
        """Give each datum its hash and store those that are new."""
        for datum in data:
            datum.hash = identity_hash(datum.stored, user_id=data_set.user_id, scope=data_set.id)
        last = {datum.hash: datum for datum in data}
        data = [datum for datum in data if last[datum.hash] is datum]
        if data:
            selection = Selection("hash", tuple(str(datum.hash) for datum in data))
            existing = {old.hash for old in self._store.existing(data_set, selection)}
            data = [datum for datum in data if datum.hash not in existing]
        super().add(data_set, data)


_CLASSES: dict[str, Callable[[Store, described.Deduplicator], Deduplicator]] = {
    described.DEVICE_DEACTIVATE_HASH.name: DeviceDeactivateHash,
    described.DEVICE_TRUNCATE_DATA_SET.name: DeviceTruncateDataSet,
    described.DATA_SET_DELETE_ORIGIN.name: DataSetDeleteOrigin,
    described.DATA_SET_DELETE_ORIGIN_OLDER.name: DataSetDeleteOriginOlder,
    described.DATA_SET_DROP_HASH.name: DataSetDropHash,
    described.NONE.name: Deduplicator,
}


def _by_origin(data: Iterable[Datum]) -> Selection | None:
    ids = tuple(datum.origin_id for datum in data if datum.origin_id is not None)
    return Selection("origin_id", ids) if ids else None


def _is_newer(datum: Datum, old: Existing) -> bool:
    new_time = parse_instant(datum.origin_time or "")
    if new_time is None:
        return False
    old_time = parse_instant(old.origin_time or "")
    return old_time is None or new_time.moment > old_time.moment


def deduplicator_of(store: Store, description: described.Deduplicator) -> Deduplicator:
    """Return what works as the model describes it."""
    return _CLASSES[description.name](store, description)
