"""Why a file is held until a person has said what it means: what only all of its rows can show.

A hold names its code, and the manifest's ``meantAs`` releases it where the file is as it is meant to be.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Self

from tidepool_ingest.errors import Fault, HeldError, meant_as, of_file


class FileHeldError(HeldError):
    """A file could be read in more than one way, or in a way that nobody can mean.

    :param code: a key of ``faults``.
    :param file_number: which file, counting from 1 in the manifest's order.
    :param batch: how messages name the batch.
    :param detail: where in the file, or how often, in words of this project only.
    """

    def __init__(
        self, code: str, *, file_number: int | None = None, batch: str | None = None, detail: str = ""
    ) -> None:
        self.file_number = file_number
        self.batch = batch
        self.detail = detail
        fault = self.faults[code]
        places = (f"batch {batch}" if batch else "", f"file {file_number}" if file_number else "")
        place = ", ".join(part for part in places if part)
        self.particulars = ": ".join(part for part in (places[1], detail) if part)
        what = f"{fault.sentence} ({detail})" if detail else fault.sentence
        super().__init__(f"{place + ': ' if place else ''}{what} [{code}].", remedy=fault.remedy, code=code)

    def for_batch(self, batch: str) -> Self:
        """Return the same error naming its batch.

        :param batch: how messages name the batch.
        """
        return type(self)(self.code, file_number=self.file_number, batch=batch, detail=self.detail)


CLOCK_NOT_IN_ZONE: Final = "clock-not-in-zone"
ZONE_IMPLAUSIBLE: Final = "zone-implausible"
DATES_SWAPPED: Final = "dates-swapped"
DATE_ORDER_UNCLEAR: Final = "date-order-unclear"

CLOCK_FAULTS: Final[dict[str, Fault]] = {
    CLOCK_NOT_IN_ZONE: Fault(
        "a file has times in an hour that its time zone leaves out, when clocks go forward: the device's "
        "clock was not that of the zone",
        "Correct the time zone, or give periods, each `until` a local time: a clock that was set late is in "
        "another zone until then. If the times are right as they are, name `clock-not-in-zone` under "
        "`meantAs` (`--meant-as`): they are then taken with the offset before the change, and annotated.",
        mends=meant_as(CLOCK_NOT_IN_ZONE),
    ),
    ZONE_IMPLAUSIBLE: Fault(
        "in its time zone, a file has times after the moment at which it says that it was generated",
        "Correct the time zone: it is that of the place where the device's clock was set. If a clock was "
        "wrong, name `zone-implausible` under `meantAs` (`--meant-as`).",
        mends=meant_as(ZONE_IMPLAUSIBLE),
    ),
    DATES_SWAPPED: Fault(
        "times in a file run backwards, as they do where a spreadsheet has swapped day and month",
        "Get the file again from its source, and do not open it in a spreadsheet before it is staged. If it "
        "was only sorted anew, name `dates-swapped` under `meantAs` (`--meant-as`).",
        mends=meant_as(DATES_SWAPPED),
    ),
    DATE_ORDER_UNCLEAR: Fault(
        "nothing in a file shows whether its dates begin with the day or with the month",
        "Say it: `dateOrder` of the file (`--date-order`) is `dmy`, `mdy` or `ymd`.",
        mends=of_file("dateOrder", "--date-order", "dmy", is_example=True),
    ),
}


class ClockHeldError(FileHeldError):
    """What a file's local times show of the clock that made them does not go with what is said of it."""

    faults = CLOCK_FAULTS


def hold_unless_meant(
    code: str, meant_as: Collection[str], *, file_number: int | None = None, detail: str = ""
) -> None:
    """Hold the batch of a file, unless its manifest says that the file is as it is meant to be.

    :param code: a key of :data:`CLOCK_FAULTS`.
    :param meant_as: the codes that the manifest names.
    :param file_number: which file, counting from 1 in the manifest's order.
    :param detail: as for :class:`FileHeldError`.
    :raises ClockHeldError: it is not among them.
    """
    if code not in meant_as:
        raise ClockHeldError(code, file_number=file_number, detail=detail)
