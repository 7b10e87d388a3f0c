"""Inspecting real exports: what independent readings of them say is in them, and in which zone they are."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import pytest
from upath import UPath

from tests import SHARED
from tidepool_ingest.formats import recognized_format
from tidepool_ingest.inspection.clocks import Clocks, clocks_in
from tidepool_ingest.inspection.findings import Inspection
from tidepool_ingest.inspection.inspecting import Source, inspect_source
from tidepool_ingest.inspection.zones import zone_of
from tidepool_ingest.local_times import Period
from tidepool_ingest.staging.manifest import FileOptions

EXPORTS = SHARED / "exports"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not EXPORTS.is_dir(), reason="exports of real people are not part of this project"),
]

MAPPINGS = {
    "loop_1082_chronological.csv": "loop",
    "d1namo-001.csv": "d1namo",
    "cgmpy-dm.csv": "epoch",
    "lingo-glucose.csv": "lingo",
}
OWN_MAPPING = {
    "time": {"column": "timestamp", "format": "iso"},
    "records": [
        {"record": {"type": "cbg", "units": "mg/dL", "value": {"column": "glucose_value_mg_dl"}}},
    ],
}

VALUED: tuple[str, ...] = ("cbg", "smbg", "insulin", "bolus", "food")

HELD = {
    "lv06-libre3-synthetic-1961.csv": ["zone-implausible"],
    "lv09-uk-reader.csv": ["clock-not-in-zone"],
}

SUSPICIOUS = {
    "cl03-synthetic-1961.csv": ["clock"],
    "lv06-libre3-synthetic-1961.csv": ["clock"],
    "lv13-us-libre3-ampm.csv": ["doubled-rows"],
    "gml-AZT1D.csv": ["doubled-rows"],
}

FITS = {
    "cl06-g6-2019.csv",
    "cl12-2020-q1.csv",
    "cl13-2021-03.csv",
    "cl15-2022-09.csv",
    "cl17-2024-03.csv",
    "cl20-2025-03b.csv",
    "lv01-libre3-mmol-dmy.csv",
}
"""Files in which something speaks for their zone; none speaks for it in the others."""

EXCLUDED = [
    ("cl05-cgmquantify-12col.csv", "Europe/Berlin"),
    ("cl06-g6-2019.csv", "Europe/Berlin"),
    ("cl06-g6-2019.csv", "Asia/Kolkata"),
    ("cl12-2020-q1.csv", "Europe/London"),
    ("cl12-2020-q1.csv", "Etc/UTC"),
    ("cl12-2020-q1.csv", "America/New_York"),
    ("cl13-2021-03.csv", "America/New_York"),
    ("cl15-2022-09.csv", "America/Chicago"),
    ("cl17-2024-03.csv", "Europe/Istanbul"),
    ("cl20-2025-03b.csv", "Asia/Tokyo"),
    ("lv01-libre3-mmol-dmy.csv", "Europe/London"),
    ("lv03-librelink-mmol-dmy.csv", "Europe/Paris"),
    ("lv03-librelink-mmol-dmy.csv", "America/Chicago"),
    ("lv06-libre3-synthetic-1961.csv", "Etc/UTC"),
    ("lv09-uk-reader.csv", "Europe/London"),
    ("lv11-fr-librelink.csv", "Europe/London"),
    ("lv11-fr-librelink.csv", "America/New_York"),
]


@dataclass
class Sample:
    kind: str
    expected: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.expected["file"])

    @property
    def zone(self) -> str | None:
        zone = self.expected.get("zone")
        return "Etc/UTC" if zone == "UTC" else zone

    @property
    def path(self) -> UPath:
        folder = EXPORTS / self.kind
        return UPath(folder / self.name if (folder / self.name).exists() else folder / f"{self.name}.gz")

    def source(self, zone: str | None) -> Source:
        options: dict[str, Any] = {"timezone": zone}
        if self.kind == "tabular":
            options["table"] = mapping_of(self.name)
        name = "table" if self.kind == "tabular" else recognized_format(self.path)
        return Source([self.path], [self.name], name, FileOptions(**options))


def mapping_of(name: str) -> dict[str, Any]:
    if name not in MAPPINGS:
        return OWN_MAPPING
    mapping: dict[str, Any] = json.loads((EXPORTS / "mappings" / f"{MAPPINGS[name]}.json").read_text())
    mapping["time"].pop("zone", None)
    return mapping


def samples() -> Iterator[Sample]:
    for kind in ("clarity", "libreview", "nightscout", "tabular"):
        if (path := EXPORTS / f"{kind}-expected.json").is_file():
            for expected in json.loads(path.read_text()):
                yield Sample(kind, expected)


SAMPLES = {sample.name: sample for sample in samples()}

EACH = list(SAMPLES)

EVENTS_ON_A_JOURNEY = {"cl20-2025-03b.csv"}
"""Of which the independent reading has events in the one zone: the converter knows better. Readings agree."""


@cache
def inspected(name: str) -> list[Inspection]:
    return inspect_source(SAMPLES[name].source(SAMPLES[name].zone))


@cache
def clocks_of(name: str) -> Clocks:
    return clocks_in(SAMPLES[name].source(None).files())


def counts_of(found: list[Inspection]) -> Counter[str]:
    return sum(
        (Counter({kind.type: kind.accepted for kind in one.types if kind.type in VALUED}) for one in found),
        Counter(),
    )


@pytest.mark.parametrize("name", EACH)
def test_counts_and_instants_are_those_of_an_independent_reading(name: str) -> None:
    valued, found = SAMPLES[name].expected["valued"], inspected(name)
    expected: Counter[str] = Counter()
    for kind, number in valued["counts"].items():
        expected[kind.split("/")[0]] += number

    assert counts_of(found) == +expected
    chosen, told = VALUED, valued
    if name in EVENTS_ON_A_JOURNEY:
        chosen, told = ("cbg",), SAMPLES[name].expected["cbg"]
    kinds = [kind for one in found for kind in one.types if kind.type in chosen]
    if expected:
        assert min(kind.first for kind in kinds if kind.first) == datetime.fromisoformat(told["first"])
        assert max(kind.last for kind in kinds if kind.last) == datetime.fromisoformat(told["last"])


@pytest.mark.parametrize("name", EACH)
def test_what_holds_and_what_looks_wrong_is_only_what_somebody_has_looked_at(name: str) -> None:
    held = HELD.get(name, ["table-times"] if "REFUSE" in str(SAMPLES[name].expected.get("verdict")) else [])

    assert sorted({hold.code for one in inspected(name) for hold in one.holds}) == held
    assert [seen.kind for one in inspected(name) for seen in one.suspicions] == SUSPICIOUS.get(name, [])


@pytest.mark.parametrize("name", [each for each in EACH if SAMPLES[each].zone])
def test_nothing_speaks_against_the_zone_that_a_file_is_in(name: str) -> None:
    finding, zone = inspected(name)[0].zone, SAMPLES[name].zone

    assert finding.stated == finding.used == zone
    if name in HELD:
        assert finding.verdict == "contradicted"
        return
    assert finding.verdict == ("fits" if name in FITS else "open")
    if finding.candidates:
        assert zone in finding.candidates


@pytest.mark.parametrize(("name", "zone"), EXCLUDED)
def test_what_speaks_against_other_zones_is_told(name: str, zone: str) -> None:
    finding = zone_of(clocks_of(name), (Period(zone),))

    assert finding.verdict == "contradicted"
    assert zone not in finding.candidates
    assert any(seen.supports == "against" for seen in finding.evidence)
