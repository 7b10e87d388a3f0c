"""Who may see the page, who may act on it, and whether the person who sends a request intends it."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import bearer_scheme, get_user
from airflow.configuration import conf
from airflow.models.dag import DagModel
from fastapi import Depends, HTTPException, Request, status
from fastapi.concurrency import run_in_threadpool
from itsdangerous import BadSignature, URLSafeTimedSerializer

from tidepool_airflow.known_dags import action_dag, gates
from tidepool_airflow.links import airflow_url

TOKEN_HEADER = "X-Tidepool-Token"
"""Header that another site's page cannot send, with a token that it cannot know."""

TOKEN_SECONDS = 12 * 60 * 60
"""How long a page may stay open before it has to be loaded again."""

User = Annotated[BaseUser, Depends(get_user)]


def may_act(user: BaseUser) -> bool:
    """Return whether somebody may trigger both the uploads and the actions."""
    return all(_may(user, "POST", dag_id) for dag_id in (*gates(), action_dag()))


async def may_start(request: Request, dag_id: str) -> bool:
    """Return whether Airflow would let the sender of a request start runs of a DAG.

    It asks as Airflow's own routes do, and answers nobody: where it is not so, the request is for Airflow.
    """
    try:
        user = await get_user(request, None, await bearer_scheme(request))
    except HTTPException:
        return False
    return await run_in_threadpool(_may, user, "POST", dag_id)


def require_reader(user: User) -> None:
    """Admit those who may see the runs of the upload DAGs.

    :raises HTTPException: 401 for nobody, 403 for somebody else.
    """
    if not all(_may(user, "GET", dag_id) for dag_id in gates()):
        raise HTTPException(status.HTTP_403_FORBIDDEN, "You may not see the runs of the upload DAG.")


def require_actor(user: User) -> None:
    """Admit those who may trigger the upload and action DAGs.

    :raises HTTPException: 401 for nobody, 403 for somebody else.
    """
    if not may_act(user):
        *others, last = (*gates(), action_dag())
        raise HTTPException(
            status.HTTP_403_FORBIDDEN,
            f"Only people who may trigger {', '.join(others)} and {last} may do this.",
        )


def require_own_page(request: Request, user: User) -> None:
    """Admit a request that this page has sent, not another site.

    :raises HTTPException: 403.
    """
    if not _is_of_this_site(request) or not _is_token_of(user, request.headers.get(TOKEN_HEADER, "")):
        raise HTTPException(
            status.HTTP_403_FORBIDDEN,
            "This request does not come from this page, or the page is too old: load it again.",
        )


def token_of(user: BaseUser) -> str:
    """Return the token that the page sends with its visitor's requests."""
    return str(_signer().dumps(user.get_id()))


def _may(user: BaseUser, method: str, dag_id: str) -> bool:
    details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
    return get_auth_manager().is_authorized_dag(
        method=method,  # type: ignore[arg-type]
        access_entity=DagAccessEntity.RUN,
        details=details,
        user=user,
    )


def _is_of_this_site(request: Request) -> bool:
    """Return whether a request comes from this site, by headers that scripts cannot set."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    # Browsers omit it if the page was not loaded by HTTPS.
    origin = urlsplit(request.headers.get("origin", "")).netloc
    return origin != "" and origin in (request.headers.get("host"), urlsplit(airflow_url()).netloc)


def _is_token_of(user: BaseUser, token: str) -> bool:
    try:
        return bool(_signer().loads(token, max_age=TOKEN_SECONDS) == user.get_id())
    except BadSignature:
        return False


def _signer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(conf.get_mandatory_value("api", "secret_key"), salt="tidepool-uploads")
