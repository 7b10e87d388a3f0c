"""The one file that Airflow's plugin loader executes; everything else is a package (see .airflowignore).

It brings the plugin where the package lies in the plugins folder and is not installed. An installed one has
an entry point, and Airflow would call the second plugin of its name an error.
"""

from __future__ import annotations

from tidepool_airflow import plugin

if not plugin.has_entry_point():
    TidepoolPlugin = plugin.TidepoolPlugin
