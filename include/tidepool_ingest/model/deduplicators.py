"""The Platform's deduplicators: what a client must know of each (P: data/deduplicator/)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

NORMAL: Final = "normal"
CONTINUOUS: Final = "continuous"
DATA_SET_TYPES: Final = frozenset({NORMAL, CONTINUOUS})


class HashScope(Enum):
    """The scope within which a hash deduplicator distinguishes records."""

    DEVICE = "deviceId"
    DATA_SET = "uploadId"


class AtClose(Enum):
    """What closing a normal data set does to the rows that other data sets have of its device."""

    NOTHING = "nothing"
    """They stay as they are: the same records uploaded once more are there twice."""
    ARCHIVES_EQUAL = "archives equal ones"
    """Those with an equal hash are hidden: of one record, the set closed last wins."""
    DELETES_ALL = "deletes all"
    """All are deleted for good, whatever they hold."""


@dataclass(frozen=True)
class Deduplicator:
    """A deduplicator.

    :param name: the name to ask for it by; case matters.
    :param version: what the Platform stores beside the name.
    :param aliases: older names that still work.
    :param hash_scope: within what it hashes records; ``None``: it does not.
    :param needs_device_id: whether the data set must have a ``deviceId``: without one it opens, takes data,
        and can then never be closed.
    :param removes_from_open_set: whether selectors remove rows of an open normal set. Where they do not, the
        Platform answers 200 all the same.
    :param at_close: what its close does to other data sets of the device.
    :param works_for: the types of data sets in which it does what it is for. Any name opens either type.
    :param keeps_repeats: whether a record that is sent again stays beside the one that its data set holds
        already, so that the older has to be removed first.
    :param keeps_newer: types of which it keeps what the data set holds, unless the ``origin.time`` of what is
        sent is newer.
    :param drops_equal: whether it drops a record whose hash its data set holds already.
    :param may_be_split: whether a batch may go into several data sets. Under the one that truncates, the
        close of each would delete those before it; those that use origin or hash compare what is in one
        data set.
    """

    name: str
    version: str
    aliases: tuple[str, ...] = ()
    hash_scope: HashScope | None = None
    needs_device_id: bool = False
    removes_from_open_set: bool = True
    at_close: AtClose = AtClose.NOTHING
    works_for: frozenset[str] = DATA_SET_TYPES
    keeps_repeats: bool = True
    keeps_newer: frozenset[str] = frozenset()
    drops_equal: bool = False
    may_be_split: bool = False

    @property
    def may_drop(self) -> bool:
        """Whether it keeps what it has instead of what is sent, for some records at least."""
        return self.drops_equal or bool(self.keeps_newer)

    @property
    def needs_datum_device_id(self) -> bool:
        """Whether each datum, embedded ones too, must have a ``deviceId``; one without leads to a 500."""
        return self.hash_scope is HashScope.DEVICE

    def goes_by(self, name: str) -> bool:
        """Return whether this name selects it.

        :param name: the name, or an older one.
        """
        return name == self.name or name in self.aliases


DEVICE_DEACTIVATE_HASH: Final = Deduplicator(
    name="org.tidepool.deduplicator.device.deactivate.hash",
    version="1.1.0",
    aliases=("org.tidepool.hash-deactivate-old",),
    hash_scope=HashScope.DEVICE,
    needs_device_id=True,
    at_close=AtClose.ARCHIVES_EQUAL,
    works_for=frozenset({NORMAL}),
    may_be_split=True,
)
"""At close: archives what older data sets of the device have with the same hashes."""

DEVICE_TRUNCATE_DATA_SET: Final = Deduplicator(
    name="org.tidepool.deduplicator.device.truncate.dataset",
    version="1.1.0",
    aliases=("org.tidepool.truncate",),
    needs_device_id=True,
    at_close=AtClose.DELETES_ALL,
    works_for=frozenset({NORMAL}),
)
"""At close: deletes all that other data sets have of the device."""

DATA_SET_DELETE_ORIGIN: Final = Deduplicator(
    name="org.tidepool.deduplicator.dataset.delete.origin",
    version="1.0.0",
    aliases=("org.tidepool.continuous.origin",),
    removes_from_open_set=False,
    keeps_repeats=False,
)
"""At each post: replaces what the data set has with the same ``origin.id``."""

DATA_SET_DELETE_ORIGIN_OLDER: Final = Deduplicator(
    name="org.tidepool.deduplicator.dataset.delete.origin.older",
    version="1.0.0",
    removes_from_open_set=False,
    works_for=frozenset({CONTINUOUS}),
    keeps_repeats=False,
    keeps_newer=frozenset({"bolus", "food"}),  # the Platform's FilterableDataSetDataTypes
)
"""As above, but a bolus or food replaces only an older one; in an open normal set any counts as older."""

DATA_SET_DROP_HASH: Final = Deduplicator(
    name="org.tidepool.deduplicator.dataset.drop.hash",
    version="1.0.0",
    hash_scope=HashScope.DATA_SET,
    works_for=frozenset({CONTINUOUS}),
    keeps_repeats=False,
    drops_equal=True,
)
"""At each post: drops what the data set has with the same hash; an open normal set counts as empty."""

NONE: Final = Deduplicator(
    name="org.tidepool.deduplicator.none",
    version="1.0.0",
    aliases=("org.tidepool.continuous",),
    may_be_split=True,
)
"""Keeps whatever comes."""

DEDUPLICATORS: Final = (
    DEVICE_DEACTIVATE_HASH,
    DEVICE_TRUNCATE_DATA_SET,
    DATA_SET_DELETE_ORIGIN,
    DATA_SET_DELETE_ORIGIN_OLDER,
    DATA_SET_DROP_HASH,
    NONE,
)
"""In the order in which the Platform asks them."""

# fmt: off
_DEACTIVATED_DEVICES: Final[Mapping[str, frozenset[str]]] = {
    "Abbott": frozenset({"FreeStyle Libre"}),
    "LifeScan": frozenset({"OneTouch Ultra 2", "OneTouch UltraMini", "Verio", "Verio Flex"}),
    "Medtronic": frozenset({
        "523", "523K", "551", "554", "723", "723K", "751", "754", "1510", "1510K", "1511", "1512", "1580",
        "1581", "1582", "1710", "1710K", "1711", "1712", "1714", "1714K", "1715", "1780", "1781", "1782",
    }),
    "Trividia Health": frozenset({"TRUE METRIX", "TRUE METRIX AIR", "TRUE METRIX GO"}),
}
_TRUNCATED_MANUFACTURERS: Final = frozenset({"Animas"})
# fmt: on


def deduplicator_named(name: str) -> Deduplicator | None:
    """Find a deduplicator by its name or an older one.

    :param name: the name.
    :return: the deduplicator; ``None`` when the Platform knows none, and would answer 500.
    """
    return next((deduplicator for deduplicator in DEDUPLICATORS if deduplicator.goes_by(name)), None)


def inert_deduplicator() -> Deduplicator:
    """Return the deduplicator whose data sets change nothing of others and keep whatever comes."""
    return next(
        deduplicator
        for deduplicator in DEDUPLICATORS
        if deduplicator.at_close is AtClose.NOTHING
        and deduplicator.hash_scope is None
        and deduplicator.keeps_repeats
    )


def default_for(body: Mapping[str, Any]) -> Deduplicator | None:
    """Return the deduplicator of a data set that names none.

    :param body: an accepted create body.
    :return: the deduplicator that its device implies; ``None`` when there is none, and the Platform would
        answer 500 after it has stored the data set.
    """
    if body.get("dataSetType") not in (None, NORMAL) or body.get("deviceId") is None:
        return None
    manufacturers = body.get("deviceManufacturers") or ()
    model = body.get("deviceModel")
    if any(model in _DEACTIVATED_DEVICES.get(manufacturer, ()) for manufacturer in manufacturers):
        return DEVICE_DEACTIVATE_HASH
    if not _TRUNCATED_MANUFACTURERS.isdisjoint(manufacturers):
        return DEVICE_TRUNCATE_DATA_SET
    return None


def deduplicator_of(body: Mapping[str, Any]) -> Deduplicator | None:
    """Return the deduplicator of a data set: the one that it names, or the one that its device implies.

    :param body: an accepted create body.
    :return: the deduplicator; ``None`` when there is none, and the Platform would answer 500.
    """
    name = (body.get("deduplicator") or {}).get("name")
    return default_for(body) if name is None else deduplicator_named(name)
