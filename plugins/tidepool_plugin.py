"""The one file that Airflow's plugin loader executes; everything else is a package (see .airflowignore)."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from tidepool_airflow.links import TidepoolDataSetLink
from tidepool_airflow.portless_connections import PortlessConnectionTest


class TidepoolPlugin(AirflowPlugin):
    """What Airflow's UI shows of this project."""

    name = "tidepool"
    operator_extra_links = [TidepoolDataSetLink()]  # noqa: RUF012 - as Airflow types it
    fastapi_root_middlewares = [  # noqa: RUF012
        {"middleware": PortlessConnectionTest, "args": [], "kwargs": {}, "name": "Tidepool connection test"}
    ]
