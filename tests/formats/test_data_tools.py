"""The round trip through the npm package that Tidepool's web page exports with: records, package, our reader.

It needs Node 18 to 21 (the package imports JSON in a way that later ones refuse), and either the package, in
``node_modules`` of the folder that ``TIDEPOOL_DATA_TOOLS`` names, or npm and a network to install it from.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.factories import cbg
from tests.formats.web_page import Record, comparable, exported, kept, read, stored
from tests.model.examples import EXAMPLES
from tidepool_ingest.formats.tidepool_export.units import kind_of
from tidepool_ingest.formats.tidepool_export.web_fields import IN_STRINGS, KEPT
from tidepool_ingest.formats.tidepool_web_export.restoring import UNCLEAR

pytestmark = pytest.mark.slow

PACKAGE, VERSION = "@tidepool/data-tools", "2.5.0"
INSTALL_SECONDS = 300
EXPORT = """
import tools from '@tidepool/data-tools';
process.stdin
  .pipe(tools.jsonParser())
  .pipe(tools.splitPumpSettingsData())
  .pipe(tools.tidepoolProcessor({ bgUnits: '%s', excludeLocalTime: true }))
  .pipe(tools.jsonStreamWriter())
  .pipe(process.stdout);
"""
"""What Tidepool's export service does with what its data API answers."""


@pytest.fixture(scope="module")
def package() -> Path:
    """Return a folder in whose ``node_modules`` the package is."""
    if shutil.which("node") is None:
        pytest.skip("Node is not installed")
    named = os.environ.get("TIDEPOOL_DATA_TOOLS")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(named) if named else cache / f"tidepool-data-tools-{VERSION}"
    if not (folder / "node_modules" / PACKAGE / "index.js").is_file():
        _install(folder)
    tried = _node(folder, f"import '{PACKAGE}'", b"")
    if tried.returncode:
        pytest.skip(f"this Node cannot load {PACKAGE} {VERSION}")
    return folder


def _install(folder: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip(f"TIDEPOOL_DATA_TOOLS names no folder with {PACKAGE}, and npm is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"private": true}')
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=dev"]
    try:
        done = subprocess.run(
            [*command, f"{PACKAGE}@{VERSION}"],
            cwd=folder,
            capture_output=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode:
        pytest.skip(f"npm cannot install {PACKAGE} {VERSION}")


def _node(folder: Path, script: str, given: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["node", "--no-warnings", "--input-type=module", "-e", script],
        cwd=folder,
        input=given,
        capture_output=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )


def through(package: Path, records: list[Record], units: str) -> list[Record]:
    """Return what the package makes of records; whole numbers beyond 2**53 are doubles there."""
    done = _node(package, EXPORT % units, json.dumps(records).encode())
    assert done.returncode == 0, done.stderr.decode()
    rows: list[Record] = json.loads(done.stdout, parse_int=_as_double)
    return rows


def _as_double(text: str) -> int:
    return int(float(text)) if abs(int(text)) > 2**53 else int(text)


@pytest.fixture(scope="module")
def records(shared: Path) -> list[Record]:
    """Return what the Platform stores of every record that it accepts, and of our own examples."""
    found = [stored(name) for name in EXAMPLES]
    with gzip.open(shared / "conformance" / "datum-normalized.ndjson.gz") as file:
        for line in file:
            case = json.loads(line, parse_int=_as_double)
            found += [record for record in (case["normalized"], *(case["extra"] or ())) if record]
    for number, record in enumerate(found):
        record |= {"id": f"{number:032x}", "uploadId": "upid_0123456789ab"}
    return found


def test_the_table_of_fields_is_the_packages_own(package: Path) -> None:
    folder = package / "node_modules" / PACKAGE
    config = json.loads((folder / "config.json").read_text())
    about = json.loads((folder / "package.json").read_text())

    assert (about["version"], about["license"]) == (VERSION, "BSD-2-Clause")
    assert {name for kind in config.values() for name in kind["fields"]} == KEPT
    del config["pumpSettings"]  # never a row: they are written in pieces
    strings = {
        kind: {name for name, column in sheet["fields"].items() if column.get("stringify")}
        for kind, sheet in config.items()
    }
    assert strings == IN_STRINGS


@pytest.mark.parametrize("units", ["mmol/L", "mg/dL"])
def test_what_the_package_keeps_comes_back(
    package: Path, records: list[Record], tmp_path: Path, units: str
) -> None:
    rows = through(package, records, units)
    assert rows == json.loads(json.dumps(exported(records, units)), parse_int=_as_double)
    by_id = {record["id"]: record for record in records}
    position_of = {row["id"]: at for at, row in reversed(list(enumerate(rows)))}

    found, rejected = read(tmp_path, rows)

    unclear = {json.loads(one.text or b"")["id"] for one in rejected if one.code == UNCLEAR}
    assert [by_id[name].get("units") for name in unclear] == [None] * (units == "mg/dL")
    lost = {json.loads(one.text or b"")["id"] for one in rejected}
    expected = [by_id[name] for name in sorted(position_of.keys() - lost, key=lambda name: position_of[name])]
    outcomes: Counter[tuple[str, str]] = Counter((kind_of(by_id[name]), "lost") for name in lost - unclear)
    outcomes.update((kind_of(by_id[name]), "unclear") for name in unclear)
    outcomes.update((kind_of(one), "not exported") for name, one in by_id.items() if name not in position_of)
    assert len(found) == len(expected)
    for record, original in zip(found, expected, strict=True):
        assert comparable(record) == comparable(kept(original)), kind_of(original)
        outcomes[kind_of(original), "equal"] += 1
    for kind in sorted({kind for kind, _ in outcomes}):
        counts = {what: outcomes[kind, what] for what in ("equal", "lost", "unclear", "not exported")}
        print(units, kind, *(f"{what} {count}" for what, count in counts.items() if count))
    assert sum(outcomes.values()) == len(records)


def test_an_export_that_was_cut_off_says_so(package: Path) -> None:
    script = "import tools from '@tidepool/data-tools'; const out = tools.jsonStreamWriter();"
    script += "out.pipe(process.stdout); out.write({type: 'cbg'}); out.cancel();"
    rows = json.loads(_node(package, script, b"").stdout)

    assert [list(row) for row in rows] == [["type"], ["exportError"]]


def test_glucose_is_what_it_was_to_five_decimals(package: Path, tmp_path: Path) -> None:
    readings = [
        cbg(0, at / 100_000, id=f"{at:032x}", payload={"a": 1}) for at in range(200_000, 2_500_000, 1_111)
    ]

    found, _ = read(tmp_path, through(package, readings, "mg/dL"))

    assert {row["units"] for row in found} == {"mg/dL"}
    assert [comparable(row)["value"] for row in found] == [reading["value"] for reading in readings]
