"""Login managers: whoever runs the sign-in, keeps the tokens and serves them to a Client (the protocol of Globus Compute before 4.9)."""

from __future__ import annotations

import logging
import typing as t

import globus_sdk
from globus_compute_sdk import Client as ComputeClient
from globus_compute_sdk.sdk.auth.auth_client import ComputeAuthClient
from globus_sdk.scopes import AuthScopes

from .sign_in import app_of, hub_url
from .web_client import WebClient

log = logging.getLogger(__name__)


@t.runtime_checkable
class LoginManagerProtocol(t.Protocol):
    """What ``Client(login_manager=...)`` takes. ``get_search_client`` may be there too; a hub needs none."""

    def ensure_logged_in(self) -> t.Any: ...

    def logout(self) -> t.Any: ...

    def get_auth_client(self) -> globus_sdk.AuthClient: ...

    def get_web_client(self, *, base_url: str) -> t.Any: ...


class LoginManager:
    """Signs in as the environment says: a client by its secret, or a person on a terminal, whose tokens are kept in a file."""

    def __init__(self, *, hub: str | None = None) -> None:
        self.hub = hub_url(hub)
        self.app = app_of(self.hub)
        self.app.add_scope_requirements({"funcx_service": [ComputeClient.FUNCX_SCOPE]})

    def ensure_logged_in(self) -> bool:
        if self.app.login_required():
            self.app.login()
        return True

    def logout(self) -> bool:
        self.app.logout()
        return True

    def get_auth_client(self) -> globus_sdk.AuthClient:
        return ComputeAuthClient(app=self.app, base_url=f"{self.hub}/")

    def get_web_client(self, *, base_url: str) -> WebClient:
        return WebClient(base_url=base_url, app=self.app)


class StaticTokenLoginManager:
    """Serves tokens that somebody else got, by scope: ``{Client.FUNCX_SCOPE: …, AuthScopes.openid: …}``."""

    def __init__(self, tokens: t.Mapping[t.Any, str], *, hub: str | None = None) -> None:
        self.hub = hub_url(hub)
        self._tokens = {str(scope): token for scope, token in tokens.items()}

    def _authorizer(self, scope: t.Any) -> globus_sdk.AccessTokenAuthorizer:
        token = self._tokens.get(str(scope))
        if token is None:
            raise LookupError(f"no token for the scope {scope}: give one to StaticTokenLoginManager")
        return globus_sdk.AccessTokenAuthorizer(token)

    def ensure_logged_in(self) -> bool:
        self._authorizer(ComputeClient.FUNCX_SCOPE)
        return True

    def logout(self) -> bool:
        log.warning("these tokens were got elsewhere, and have to be revoked there")
        return False

    def get_auth_client(self) -> globus_sdk.AuthClient:
        return globus_sdk.AuthClient(
            environment="production", base_url=f"{self.hub}/", authorizer=self._authorizer(AuthScopes.openid)
        )

    def get_web_client(self, *, base_url: str) -> WebClient:
        return WebClient(base_url=base_url, authorizer=self._authorizer(ComputeClient.FUNCX_SCOPE))
