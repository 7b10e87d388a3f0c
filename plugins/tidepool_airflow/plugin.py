"""What Airflow's UI shows of this project: the page, its place in the navigation, links, middleware.

Airflow finds a plugin in two ways, and calls one that it finds in both an error. An installed package has an
entry point, ``airflow.plugins``. A folder with a copy of this package, which nobody has installed, has none:
there, ``plugins/tidepool_plugin.py`` takes its place.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution

from airflow.plugins_manager import AirflowPlugin

from tidepool_airflow.links import LINKS, PREFIX, ROUTE, page_path
from tidepool_airflow.middleware import ConnectionTestWorkaround, RunParamsMiddleware
from tidepool_airflow.provider_info import PACKAGE
from tidepool_airflow.uploads_page import UploadsPage

ENTRY_POINTS = "airflow.plugins"
"""The group of entry points that Airflow loads plugins from, after those of its plugins folder."""


class TidepoolPlugin(AirflowPlugin):
    """What Airflow's UI shows of this project."""

    name = "tidepool"
    operator_extra_links = [link() for link in LINKS]  # noqa: RUF012 - as Airflow types it
    fastapi_apps = [  # noqa: RUF012
        {"app": UploadsPage(), "url_prefix": PREFIX, "name": "Tidepool uploads"}
    ]
    external_views = [  # noqa: RUF012
        {
            "name": "Uploads",  # a longer one is cut off
            "href": page_path(),
            "url_route": ROUTE,
            "destination": "nav",
            "nav_top_level": True,
            "icon": f"{page_path()}static/icon.svg",
            "icon_dark_mode": f"{page_path()}static/icon-dark.svg",
        }
    ]
    fastapi_root_middlewares = [  # noqa: RUF012
        {
            "middleware": ConnectionTestWorkaround,
            "args": [],
            "kwargs": {},
            "name": "Tidepool connection test",
        },
        {"middleware": RunParamsMiddleware, "args": [], "kwargs": {}, "name": "Tidepool run parameters"},
    ]


def has_entry_point() -> bool:
    """Return whether an installed package brings the plugin, so that no folder has to."""
    try:
        found = distribution(PACKAGE).entry_points
    except PackageNotFoundError:
        return False
    return any(each.group == ENTRY_POINTS and each.module == __name__ for each in found)
