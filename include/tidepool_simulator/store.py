"""What the Platform's database does, write by write.

Every public method that writes is one write of the Platform's code or a short chain of them, each a
transaction of its own: between two of them other requests see what there is, and a fault may stop there.
Tables: :mod:`.database`. Rules: data/store/mongo/mongo_data.go of the Platform.
"""

from __future__ import annotations

from tidepool_simulator.data_set_store import DataSetStore
from tidepool_simulator.datum_store import DatumStore
from tidepool_simulator.records import DataSet
from tidepool_simulator.writes import OF_SET, MissingDeviceError, names_of


class Store(DataSetStore, DatumStore):
    """All data sets and data, and what concerns both."""

    def delete_data_set(self, data_set: DataSet) -> None:
        """Remove the data of a set for good, then mark the set as deleted."""
        self._delete("data", OF_SET, names_of(data_set))
        self._mark_sets_deleted(f"{OF_SET} AND deleted_time IS NULL", names_of(data_set), modified=True)

    def delete_others(self, data_set: DataSet) -> None:
        """Remove a device's data of all other sets for good, then mark the device's other sets as deleted.

        The data go by their own device id, the sets by theirs.

        :raises MissingDeviceError: when the set has no device id.
        """
        if not data_set.device_id:
            raise MissingDeviceError
        others = "user_id = :user AND device_id = :device AND upload_id != :upload"
        self._delete("data", others, names_of(data_set))
        self._mark_sets_deleted(f"{others} AND deleted_time IS NULL", names_of(data_set), modified=False)

    def delete_user(self, user_id: str) -> None:
        """Remove everything of a user for good."""
        for table in ("data", "data_sets"):
            self._delete(table, "user_id = :user", {"user": user_id})
