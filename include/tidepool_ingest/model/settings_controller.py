"""Settings of a controller, such as a phone (P: data/types/settings/controller/)."""

from __future__ import annotations

from typing import Literal

from tidepool_ingest.model.base import Datum
from tidepool_ingest.model.fields import Record, any_of
from tidepool_ingest.model.hardware import Hardware

_HARDWARE = (
    "firmwareVersion",
    "hardwareVersion",
    "manufacturers",
    "model",
    "name",
    "serialNumber",
    "softwareVersion",
)
_FLAGS = ("alert", "criticalAlert", "badge", "sound", "announcement", "notificationCenter", "lockScreen")


class ControllerDevice(Hardware):
    """What the controller is; at least one thing about it."""

    rules = (any_of(*_HARDWARE),)


class Notifications(Record):
    """What the controller may show; at least one thing about it."""

    authorization: Literal["authorized", "denied", "ephemeral", "notDetermined", "provisional"] | None = None
    alert: bool | None = None
    critical_alert: bool | None = None
    badge: bool | None = None
    sound: bool | None = None
    announcement: bool | None = None
    notification_center: bool | None = None
    lock_screen: bool | None = None
    alert_style: Literal["alert", "banner", "none"] | None = None

    rules = (any_of("authorization", *_FLAGS, "alertStyle"),)


class ControllerSettings(Datum):
    """Settings of a controller."""

    type: Literal["controllerSettings"]
    device: ControllerDevice | None = None
    notifications: Notifications | None = None

    rules = (any_of("device", "notifications"),)
