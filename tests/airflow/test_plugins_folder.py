"""Airflow's plugin loader executes every file under plugins/ as a module of its own: it finds one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from airflow._shared.module_loading.file_discovery import find_path_from_directory
from dev.home import PROJECT

from tests.airflow.loading import loaded
from tidepool_airflow.links import (
    LINKS,
    TidepoolDataSetLink,
    TidepoolQuarantineLink,
    TidepoolUploadLink,
    upload_url,
    uploads_url,
)

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


def test_the_plugin_and_the_provider_register_every_link() -> None:
    from airflow.providers_manager import ProvidersManager

    from tidepool_airflow.plugin import TidepoolPlugin

    names = {f"{link.__module__}.{link.__name__}" for link in LINKS}

    assert names <= set(ProvidersManager().extra_links_class_names)
    assert [type(link) for link in TidepoolPlugin.operator_extra_links] == list(LINKS)


def test_the_link_leads_to_the_data_set_that_the_task_opened() -> None:
    link, key = TidepoolDataSetLink(), cast("Any", None)
    opened = cast("Any", SimpleNamespace(data_set_url="https://api.tidepool.org/v1/data_sets/upid_1"))

    assert link.get_link(opened, ti_key=key) == opened.data_set_url
    assert link.get_link(cast("Any", SimpleNamespace(data_set_url=None)), ti_key=key) == ""


def test_links_lead_to_the_batch_on_the_uploads_page() -> None:
    key = cast("Any", None)
    for batch in (7, "7"):
        task = cast("Any", SimpleNamespace(batch=batch))
        assert TidepoolUploadLink().get_link(task, ti_key=key) == upload_url(7)
        assert TidepoolQuarantineLink().get_link(task, ti_key=key) == f"{upload_url(7)}#quarantine"
    assert upload_url(7).endswith("/plugin/tidepool-uploads/tidepool/uploads/7")
    for batch in (0, None, "{{ batch }}"):
        assert TidepoolUploadLink().get_link(cast("Any", SimpleNamespace(batch=batch)), ti_key=key) == ""
    pack = cast("Any", SimpleNamespace(batch=None, batches=[7, 8]))
    assert TidepoolUploadLink().get_link(pack, ti_key=key) == uploads_url()
    assert TidepoolQuarantineLink().get_link(pack, ti_key=key) == ""


def test_loading_the_plugin_leaves_the_page_for_the_api_server() -> None:
    assert not {"fastapi", "jinja2.environment", "tidepool_airflow.uploads_page.application"} & set(
        loaded()[0].modules
    )
