"""Airflow finds the plugin in the plugins folder or as an installed package, and loads it once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests import PROJECT

LAYOUTS = ("checkout", "image", "wheel-and-folder", "folder-alone")

COUNT = """
import json, os, sys
from airflow import plugins_manager, settings
from airflow._shared.module_loading import _get_grouped_entry_points

# A process for each, in which Airflow has been imported and has not looked for plugins yet.
for folder, *paths in map(json.loads, sys.argv[1:]):
    if os.fork():
        os.wait()
        continue
    sys.path[:0] = paths
    settings.PLUGINS_FOLDER = folder
    sys.path.append(folder)
    _get_grouped_entry_points.cache_clear()
    apps, middlewares = plugins_manager.get_fastapi_plugins()
    print(json.dumps({
        "plugins": [
            str(each.source) for each in plugins_manager._get_plugins()[0] if each.name == "tidepool"
        ],
        "errors": plugins_manager.get_import_errors(),
        "apps": [each["url_prefix"] for each in apps if "tidepool" in each["url_prefix"]],
        "middleware": sorted(each["name"] for each in middlewares if "Tidepool" in each["name"]),
        "views": [
            each["url_route"] for each in plugins_manager._get_ui_plugins()[0]
            if "tidepool" in each.get("url_route", "")
        ],
        "links": sorted(each.name for each in plugins_manager.get_operator_extra_links()),
    }), flush=True)
    os._exit(0)
"""


@pytest.fixture(scope="module")
def counted(
    wheel: Path, plain_site: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """What Airflow has loaded of this project, by layout."""
    made = tmp_path_factory.mktemp("layouts")
    installed, editable, empty = made / "installed", made / "editable", made / "empty"
    with zipfile.ZipFile(wheel) as content:
        content.extractall(installed)
    for folder in installed.glob("*.dist-info"):
        shutil.copytree(folder, editable / folder.name)
    empty.mkdir()
    plugins, sources = str(PROJECT / "plugins"), [str(PROJECT / "include"), str(PROJECT / "plugins")]
    layouts = [
        [plugins, *sources, str(editable)],
        [str(empty), str(installed)],
        [plugins, str(installed)],
        [plugins, *sources],
    ]
    done = subprocess.run(
        # Without the site-packages of this environment, which know this project.
        [sys.executable, "-S", "-c", COUNT, *map(json.dumps, layouts)],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(plain_site),
            "AIRFLOW_HOME": str(made),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        },
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return dict(zip(LAYOUTS, found, strict=True))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_page_middleware_and_links_are_there_once(counted: dict[str, dict[str, Any]], layout: str) -> None:
    found = counted[layout]

    assert found["errors"] == {}
    assert len(found["plugins"]) == 1
    assert found["apps"] == ["/tidepool/uploads"]
    assert found["middleware"] == ["Tidepool connection test", "Tidepool run parameters"]
    assert found["views"] == ["tidepool-uploads"]
    assert found["links"] == ["Quarantine", "Tidepool data set", "Upload"]


def test_an_installed_package_goes_first(counted: dict[str, dict[str, Any]]) -> None:
    by_folder = {
        layout: found["plugins"][0].startswith("$PLUGINS_FOLDER/") for layout, found in counted.items()
    }

    assert by_folder == {
        "checkout": False,
        "image": False,
        "wheel-and-folder": False,
        "folder-alone": True,
    }
