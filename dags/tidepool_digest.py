"""Tell a team once a day what became of batches since yesterday, and what needs attention.

It goes to the connection that `TIDEPOOL_NOTIFY_CONNECTION` names: Slack, a mail server, or whatever Apprise
knows. Without one, this DAG has no schedule and sends nothing. Triggered by hand, it sends at once, which
is how to try a connection. It holds numbers, codes and a link, and nothing of anybody's data.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG

from tidepool_airflow import notices, settings
from tidepool_airflow.dag_docs import documented
from tidepool_airflow.operators import TidepoolDigestOperator

with DAG(
    dag_id="tidepool_digest",
    description="Sends a daily digest to the connection that is named for it; without one, it does nothing",
    schedule=notices.digest_schedule(),
    start_date=pendulum.datetime(2015, 1, 1, tz="UTC"),
    catchup=False,
    # Who names a connection wants it.
    is_paused_upon_creation=False,
    max_active_runs=1,
    tags=settings.tags(),
    default_args=settings.default_args(),
) as dag:
    TidepoolDigestOperator(task_id="send")

documented(dag, __doc__, "airflow.md#notifications")
