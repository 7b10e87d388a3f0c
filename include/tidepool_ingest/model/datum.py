"""The types of data that the Platform accepts (P: data/types/factory/factory.go)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tidepool_ingest.model.activity import PhysicalActivity
from tidepool_ingest.model.alert import Alert
from tidepool_ingest.model.basal import (
    AutomatedBasal,
    ScheduledBasal,
    SuspendedBasal,
    TemporaryBasal,
)
from tidepool_ingest.model.base import Datum
from tidepool_ingest.model.bolus import AutomatedBolus, DualBolus, NormalBolus, SquareBolus
from tidepool_ingest.model.calculator import Calculation
from tidepool_ingest.model.device_event import (
    Alarm,
    Calibration,
    Prime,
    PumpSettingsOverride,
    ReservoirChange,
    Status,
    TimeChange,
)
from tidepool_ingest.model.dosing_decision import DosingDecision
from tidepool_ingest.model.food import Food
from tidepool_ingest.model.glucose import BloodKetone, ContinuousGlucose, SelfMonitoredGlucose
from tidepool_ingest.model.insulin import Insulin
from tidepool_ingest.model.parsing import Parser, variant_parser
from tidepool_ingest.model.reported_state import ReportedState
from tidepool_ingest.model.settings_cgm import CgmSettings
from tidepool_ingest.model.settings_controller import ControllerSettings
from tidepool_ingest.model.settings_pump import PumpSettings
from tidepool_ingest.model.specification import literal_fields
from tidepool_ingest.model.status import ControllerStatus, PumpStatus
from tidepool_ingest.model.water import Water

DATUM_MODELS: Final[tuple[type[Datum], ...]] = (
    PhysicalActivity,
    Alert,
    AutomatedBasal,
    ScheduledBasal,
    SuspendedBasal,
    TemporaryBasal,
    ContinuousGlucose,
    SelfMonitoredGlucose,
    BloodKetone,
    DualBolus,
    SquareBolus,
    NormalBolus,
    AutomatedBolus,
    Calculation,
    Alarm,
    Calibration,
    PumpSettingsOverride,
    Prime,
    ReservoirChange,
    Status,
    TimeChange,
    DosingDecision,
    Food,
    Insulin,
    CgmSettings,
    ControllerSettings,
    PumpSettings,
    ReportedState,
    ControllerStatus,
    PumpStatus,
    Water,
)
"""Every type and sub-kind. A type that is not here is ``value-not-allowed``."""

parse_datum: Final[Parser] = variant_parser(DATUM_MODELS)
"""Parse any datum."""

KNOWN_TYPES: Final = frozenset(literal_fields(model)["type"] for model in DATUM_MODELS)
"""The names of the types."""


def type_of(datum: object) -> str:
    """Return a record's type for counting: one that the Platform knows, or ``unknown``.

    :param datum: a decoded record.
    :return: the type; ``unknown`` for one that the Platform does not know, ``unreadable`` for what is no
        object.
    """
    if not isinstance(datum, Mapping):
        return "unreadable"
    kind = datum.get("type")
    return kind if isinstance(kind, str) and kind in KNOWN_TYPES else "unknown"
