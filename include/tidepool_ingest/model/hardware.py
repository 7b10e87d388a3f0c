"""What a device says about its make: pumps, monitors and controllers say it alike."""

from __future__ import annotations

from typing import Annotated, Final

from annotated_types import Len

from tidepool_ingest.model.base import Name
from tidepool_ingest.model.fields import Record, Sorted, Unique

MANUFACTURERS_MAX: Final = 10


class Hardware(Record):
    """Make and versions of a device."""

    firmware_version: Name | None = None
    hardware_version: Name | None = None
    manufacturers: Annotated[list[Name], Len(1, MANUFACTURERS_MAX), Unique(), Sorted()] | None = None
    model: Name | None = None
    name: Name | None = None
    serial_number: Name | None = None
    software_version: Name | None = None
