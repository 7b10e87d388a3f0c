"""Airflow's plugin loader executes every file under plugins/ as a module of its own: it finds one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from airflow._shared.module_loading.file_discovery import find_path_from_directory

from tests.airflow.loading import loaded
from tidepool_airflow.links import TidepoolDataSetLink
from tidepool_airflow.local.home import PROJECT

PLUGINS = PROJECT / "plugins"


def test_loading_plugins_has_no_errors() -> None:
    for each in loaded():
        assert each.plugin_errors == {}
        assert "tidepool" in each.plugins


def test_loading_plugins_replaces_no_module_of_the_standard_library() -> None:
    for each in loaded():
        assert each.replaced == []


def test_the_loader_finds_the_one_file_that_is_a_plugin() -> None:
    executed = [
        path for path in find_path_from_directory(str(PLUGINS), ".airflowignore") if path.endswith(".py")
    ]

    assert executed == [str(PLUGINS / "tidepool_plugin.py")]


def test_the_plugin_and_the_provider_register_the_link() -> None:
    from airflow.providers_manager import ProvidersManager

    from tidepool_plugin import TidepoolPlugin

    name = f"{TidepoolDataSetLink.__module__}.{TidepoolDataSetLink.__name__}"

    assert name in ProvidersManager().extra_links_class_names
    assert [type(link) for link in TidepoolPlugin.operator_extra_links] == [TidepoolDataSetLink]


def test_the_link_leads_to_the_data_set_that_the_task_opened() -> None:
    link, key = TidepoolDataSetLink(), cast("Any", None)
    opened = cast("Any", SimpleNamespace(data_set_url="https://api.tidepool.org/v1/data_sets/upid_1"))

    assert link.get_link(opened, ti_key=key) == opened.data_set_url
    assert link.get_link(cast("Any", SimpleNamespace(data_set_url=None)), ti_key=key) == ""
