"""Which fields of a datum are its content: what the Platform keeps of each type, field by field.

A shape is a map from field name to one of

* ``PLAIN``: a text, number, truth value or a list of them, compared as it is;
* ``FREE``: any JSON value, compared as a whole;
* ``TIME``: a moment, compared as an instant;
* ``WALL_TIME``: a local time without zone, which the Platform gives back with one;
* ``NAMES``: a list of texts in any order, since the Platform sorts it;
* ``GLUCOSE_RATE``: a glucose rate, whose unit has a field of its own;
* ``GLUCOSE``: a number converted to mmol/L when the record's glucose unit is mg/dL;
* a shape: an object; ``[shape]``: a list of objects; ``{ANY_NAME: shape}``: a map with names made by people.

Fields that are not listed are dropped by the Platform, made by it, or links between records.
"""

from __future__ import annotations

from typing import Any

PLAIN = "plain"
FREE = "free"
TIME = "time"
WALL_TIME = "wall time"
NAMES = "names"
GLUCOSE = "glucose"
GLUCOSE_RATE = "glucose rate"
ANY_NAME = "*"

Shape = dict[str, Any]


def _plain(names: str) -> Shape:
    return dict.fromkeys(names.split(), PLAIN)


def _glucose(names: str) -> Shape:
    return dict.fromkeys(names.split(), GLUCOSE)


_AMOUNT = _plain("units value")
_TARGET = _glucose("target range low high")

_SIMPLE = _plain("actingType brand") | {"concentration": _AMOUNT}
_INNER_FORMULATION = _plain("name") | {"simple": _SIMPLE}
_FORMULATION = _INNER_FORMULATION | {"compounds": [_plain("amount") | {"formulation": _INNER_FORMULATION}]}
_INSULIN = {"insulinFormulation": _FORMULATION}

BASE: Shape = (
    _plain("deviceId deviceTime timezone timezoneOffset conversionOffset clockDriftOffset source notes")
    | {"time": TIME, "payload": FREE, "annotations": FREE, "tags": NAMES}
    | {"origin": _plain("id name type version") | {"time": TIME, "payload": FREE}}
)
"""What every datum may have."""

_HIDDEN = _plain("type deliveryType rate scheduleName") | _INSULIN | {"annotations": FREE}
_HIDDEN_TEMP = (
    _plain("type deliveryType rate percent") | _INSULIN | {"annotations": FREE, "suppressed": _HIDDEN}
)
_BASAL = _plain("deliveryType duration expectedDuration")
_BOLUS = _plain("subType deliveryContext") | _INSULIN
_NORMAL = _plain("normal expectedNormal")
_EXTENDED = _plain("extended expectedExtended duration expectedDuration")

_NUTRITION = _plain("estimatedAbsorptionDuration") | {
    "carbohydrate": _plain("dietaryFiber net sugars total units"),
    "energy": _AMOUNT,
    "fat": _plain("total units"),
    "protein": _plain("total units"),
}
_FOOD = _plain("brand code name") | {"amount": _AMOUNT, "nutrition": _NUTRITION}

_SNOOZE = {"snooze": _plain("duration units")}
_LEVEL_ALERT = _plain("enabled level units") | _SNOOZE
_RATE_ALERT = _plain("enabled rate units") | _SNOOZE
_DURATION_ALERT = _plain("enabled duration units") | _SNOOZE
_ALERTS = (
    _plain("enabled")
    | dict.fromkeys(
        ("urgentLow", "urgentLowPredicted", "low", "lowPredicted", "high", "highPredicted"), _LEVEL_ALERT
    )
    | dict.fromkeys(("fall", "rise"), _RATE_ALERT)
    | dict.fromkeys(("noData", "outOfRange"), _DURATION_ALERT)
)
_OLD_LEVEL_ALERT = _plain("enabled snooze") | _glucose("level")
_OLD_RATE_ALERT = _plain("enabled") | _glucose("rate")
_OLD_RATE_ALERTS = {"fallRate": _OLD_RATE_ALERT, "riseRate": _OLD_RATE_ALERT}

_IDENTITY = _plain("firmwareVersion hardwareVersion model name serialNumber softwareVersion") | {
    "manufacturers": NAMES
}
_RATE_STARTS = [_plain("start rate")]
_RATIO_STARTS = [_plain("start amount")]
_SENSITIVITY_STARTS = [_plain("start") | _glucose("amount")]
_TARGET_STARTS = [_plain("start") | _TARGET]
_SCALES = _plain("basalRateScaleFactor carbRatioScaleFactor insulinSensitivityScaleFactor")
_UNITS = {"units": _plain("carb insulin")}
_BATTERY = {"battery": _plain("remaining state units") | {"time": TIME}}
_DECIDED_FOOD = {"nutrition": _NUTRITION, "time": TIME}
_AMOUNT_THEN = _plain("amount") | {"time": TIME}
_GLUCOSE_THEN = _glucose("value") | {"time": TIME}
_ISSUES = [_plain("id") | {"metadata": FREE}]
_BOLUS_ADVICE = _plain("amount normal extended duration")

SHAPES: dict[tuple[str, str | None], Shape] = {
    ("cbg", None): _glucose("value")
    | _plain("trend sampleInterval backfilled")
    | {"trendRate": GLUCOSE_RATE},
    ("smbg", None): _glucose("value") | _plain("subType"),
    ("bloodKetone", None): _plain("value"),
    ("basal", "scheduled"): _BASAL | _INSULIN | _plain("rate scheduleName"),
    ("basal", "automated"): _BASAL | _INSULIN | _plain("rate scheduleName") | {"suppressed": _HIDDEN},
    ("basal", "temp"): _BASAL
    | _INSULIN
    | _plain("rate percent")
    | {"suppressed": _HIDDEN | {"suppressed": _HIDDEN}},
    ("basal", "suspend"): _BASAL
    | {"suppressed": _HIDDEN_TEMP | _HIDDEN | {"suppressed": _HIDDEN | {"suppressed": _HIDDEN}}},
    ("bolus", "normal"): _BOLUS | _NORMAL,
    ("bolus", "automated"): _BOLUS | _NORMAL,
    ("bolus", "square"): _BOLUS | _EXTENDED,
    ("bolus", "dual/square"): _BOLUS | _NORMAL | _EXTENDED,
    ("wizard", None): _glucose("bgInput insulinSensitivity")
    | _plain("carbInput carbUnits insulinCarbRatio insulinOnBoard")
    | {"bgTarget": _TARGET, "recommended": _plain("carb correction net")},
    ("deviceEvent", "alarm"): _plain("subType alarmType"),
    ("deviceEvent", "calibration"): _plain("subType") | _glucose("value"),
    ("deviceEvent", "prime"): _plain("subType primeTarget volume"),
    ("deviceEvent", "reservoirChange"): _plain("subType"),
    ("deviceEvent", "status"): _plain("subType status duration expectedDuration") | {"reason": FREE},
    ("deviceEvent", "timeChange"): _plain("subType method")
    | dict.fromkeys(("from", "to"), _plain("timeZoneName") | {"time": WALL_TIME})
    | {"change": _plain("agent from to")},
    ("deviceEvent", "pumpSettingsOverride"): _plain(
        "subType method overrideType overridePreset duration expectedDuration"
    )
    | _SCALES
    | {"bgTarget": _TARGET},
    ("food", None): _FOOD | _plain("meal mealOther") | {"ingredients": [_FOOD]},
    ("insulin", None): _plain("site")
    | {"dose": _plain("active correction food total units"), "formulation": _FORMULATION},
    ("physicalActivity", None): _plain("activityType activityTypeOther aggregate name reportedIntensity")
    | dict.fromkeys(("distance", "duration", "elevationChange", "energy"), _AMOUNT)
    | {"flight": _plain("count"), "step": _plain("count"), "lap": _plain("count") | {"distance": _AMOUNT}},
    ("reportedState", None): {"states": [_plain("severity state stateOther")]},
    ("water", None): {"amount": _AMOUNT},
    ("alert", None): _plain("name priority sound soundName trigger triggerDelay")
    | dict.fromkeys(("issuedTime", "acknowledgedTime", "retractedTime"), TIME),
    ("cgmSettings", None): _IDENTITY
    | _plain("transmitterId")
    | {
        "defaultAlerts": _ALERTS,
        "scheduledAlerts": [_plain("name days start end") | {"alerts": _ALERTS}],
        "highAlerts": _OLD_LEVEL_ALERT,
        "lowAlerts": _OLD_LEVEL_ALERT,
        "outOfRangeAlerts": _plain("enabled snooze"),
        "rateOfChangeAlerts": _OLD_RATE_ALERTS,
        "rateOfChangeAlert": _OLD_RATE_ALERTS,
    },
    ("pumpSettings", None): _IDENTITY
    | _UNITS
    | _plain("activeSchedule automatedDelivery scheduleTimeZoneOffset")
    | _glucose("bgSafetyLimit")
    | _INSULIN
    | {
        "basal": {"rateMaximum": _AMOUNT, "temporary": _plain("type")},
        "bolus": {
            "amountMaximum": _AMOUNT,
            "calculator": _plain("enabled") | {"insulin": _plain("duration units")},
            "extended": _plain("enabled"),
        },
        "basalSchedule": _RATE_STARTS,
        "basalSchedules": {ANY_NAME: _RATE_STARTS},
        "bgTarget": _TARGET_STARTS,
        "bgTargets": {ANY_NAME: _TARGET_STARTS},
        "carbRatio": _RATIO_STARTS,
        "carbRatios": {ANY_NAME: _RATIO_STARTS},
        "insulinSensitivity": _SENSITIVITY_STARTS,
        "insulinSensitivities": {ANY_NAME: _SENSITIVITY_STARTS},
        "bgTargetPhysicalActivity": _TARGET,
        "bgTargetPreprandial": _TARGET,
        "display": {"bloodGlucose": _plain("units")},
        "insulinModel": _plain("actionDelay actionDuration actionPeakOffset modelType modelTypeOther"),
        "overridePresets": {ANY_NAME: _plain("abbreviation duration") | _SCALES | {"bgTarget": _TARGET}},
    },
    ("controllerSettings", None): {
        "device": _IDENTITY,
        "notifications": _plain(
            "alert alertStyle announcement authorization badge criticalAlert lockScreen notificationCenter"
            " sound"
        ),
    },
    ("controllerStatus", None): _BATTERY,
    ("pumpStatus", None): _BATTERY
    | _plain("deliveryIndeterminant")
    | {
        "basalDelivery": _plain("state")
        | {"time": TIME, "dose": _plain("rate amountDelivered") | {"startTime": TIME, "endTime": TIME}},
        "bolusDelivery": _plain("state") | {"dose": _plain("amount amountDelivered") | {"startTime": TIME}},
        "reservoir": _plain("remaining units") | {"time": TIME},
    },
    ("dosingDecision", None): _plain("reason scheduleTimeZoneOffset")
    | _UNITS
    | {
        "bgForecast": [_GLUCOSE_THEN],
        "bgHistorical": [_GLUCOSE_THEN],
        "bgTargetSchedule": _TARGET_STARTS,
        "smbg": _GLUCOSE_THEN,
        "carbsOnBoard": _AMOUNT_THEN,
        "insulinOnBoard": _AMOUNT_THEN,
        "food": _DECIDED_FOOD,
        "originalFood": _DECIDED_FOOD,
        "recommendedBasal": _plain("rate duration"),
        "recommendedBolus": _BOLUS_ADVICE,
        "requestedBolus": _BOLUS_ADVICE,
        "errors": _ISSUES,
        "warnings": _ISSUES,
    },
}
"""The shape of each type and sub-kind, beside ``BASE``."""

SUB_KIND_FIELDS = {"basal": "deliveryType", "bolus": "subType", "deviceEvent": "subType"}
"""The field that distinguishes the kinds of a type, where their shapes differ."""

EMBEDDED = {
    ("wizard", None): "bolus",
    ("deviceEvent", "alarm"): "status",
    ("deviceEvent", "reservoirChange"): "status",
}
"""The field that holds a whole datum, which the Platform stores as a record of its own."""

STORED_AS = {"rateOfChangeAlerts": "rateOfChangeAlert"}
"""A field that the Platform reads under one name and keeps under another."""

RATE_UNITS = "trendRateUnits"
"""The field that names the unit of a ``GLUCOSE_RATE``."""
