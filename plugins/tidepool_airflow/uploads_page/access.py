"""Who may see the page, who may act on it, and whether a request was meant by the person who sends it."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import get_user
from airflow.configuration import conf
from airflow.models.dag import DagModel
from fastapi import Depends, HTTPException, Request, status
from itsdangerous import BadSignature, URLSafeTimedSerializer

from tidepool_airflow.links import ACTION_DAG, UPLOAD_DAG, airflow_url

TOKEN_HEADER = "X-Tidepool-Token"
"""Header that another site's page cannot send, with a token that it cannot know."""

TOKEN_SECONDS = 12 * 60 * 60
"""How long a page may stay open before it has to be loaded again."""

User = Annotated[BaseUser, Depends(get_user)]


def may_act(user: BaseUser) -> bool:
    """Tell whether somebody may trigger both the upload and the actions."""
    return all(_may(user, "POST", dag_id) for dag_id in (UPLOAD_DAG, ACTION_DAG))


def require_reader(user: User) -> None:
    """Let those in who may see the runs of the upload DAG.

    :raises HTTPException: 401 for nobody, 403 for somebody else.
    """
    if not _may(user, "GET", UPLOAD_DAG):
        raise HTTPException(status.HTTP_403_FORBIDDEN, "You may not see the runs of the upload DAG.")


def require_actor(user: User) -> None:
    """Let those in who may trigger the DAG.

    :raises HTTPException: 401 for nobody, 403 for somebody else.
    """
    if not may_act(user):
        raise HTTPException(
            status.HTTP_403_FORBIDDEN, f"Only who may trigger {UPLOAD_DAG} and {ACTION_DAG} may do this."
        )


def require_own_page(request: Request, user: User) -> None:
    """Let a request pass that this page has sent, and no other site.

    :raises HTTPException: 403.
    """
    if not _is_of_this_site(request) or not _is_token_of(user, request.headers.get(TOKEN_HEADER, "")):
        raise HTTPException(
            status.HTTP_403_FORBIDDEN, "This was not asked for on this page, or too long ago: load it again."
        )


def token_of(user: BaseUser) -> str:
    """Return what the page sends with what its visitor asks for."""
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
    """Tell by what a browser says of itself, and scripts cannot change, where a request comes from."""
    said = request.headers.get("sec-fetch-site")
    if said is not None:
        return said == "same-origin"
    # Browsers leave it out where the page did not come by HTTPS.
    origin = urlsplit(request.headers.get("origin", "")).netloc
    return origin != "" and origin in (request.headers.get("host"), urlsplit(airflow_url()).netloc)


def _is_token_of(user: BaseUser, token: str) -> bool:
    try:
        return bool(_signer().loads(token, max_age=TOKEN_SECONDS) == user.get_id())
    except BadSignature:
        return False


def _signer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(conf.get_mandatory_value("api", "secret_key"), salt="tidepool-uploads")
