"""The one file that Airflow's plugin loader executes; everything else is a package (see .airflowignore)."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from tidepool_airflow.links import LINKS, PREFIX, ROUTE, page_path
from tidepool_airflow.middleware import ConnectionTestWorkaround, RunParamsMiddleware
from tidepool_airflow.uploads_page import UploadsPage


class TidepoolPlugin(AirflowPlugin):
    """What Airflow's UI shows of this project."""

    name = "tidepool"
    operator_extra_links = [link() for link in LINKS]  # noqa: RUF012 - as Airflow types it
    fastapi_apps = [  # noqa: RUF012
        {"app": UploadsPage(), "url_prefix": PREFIX, "name": "Tidepool uploads"}
    ]
    external_views = [  # noqa: RUF012
        {
            "name": "Tidepool uploads",
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
