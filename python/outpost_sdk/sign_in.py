"""Where the hub is, and who signs in there.

The first complete pair of an id and a secret wins, both halves from one source, as in the agent and in the TypeScript
SDK; half a pair is a problem that names the other half, never a reason to look further. Without a secret a person
signs in.
"""

from __future__ import annotations

import ipaddress
import os
import platform
import sys
import typing as t
import urllib.parse
import warnings
from pathlib import Path

import globus_sdk
from globus_sdk.login_flows import CommandLineLoginFlowManager
from globus_sdk.token_storage import SQLiteTokenStorage

DEFAULT_HUB_URL = "http://localhost:5000"
#: The hub's client for programs that people sign in with: it has no secret.
NATIVE_CLIENT_ID = "4cf29807-cf21-49ec-9443-ff9a3fb9f81c"

_PREFIXES = ("OUTPOST", "GLOBUS_COMPUTE", "FUNCX_SDK")
# globus_sdk knows its own services by the environment's name. Ours have addresses, so the name only has to be one
# that it knows.
_ENVIRONMENT = "production"


class SignInRequired(RuntimeError):
    """Nobody is signed in, and nobody can be asked."""


def _setting(name: str) -> str | None:
    """Empty means unset."""
    return os.environ.get(name) or None


def hub_url(given: str | None = None) -> str:
    """The hub to talk to, without a slash at its end: the one given, that of ``OUTPOST_HUB_URL``, or the one on this machine."""
    url = given or _setting("OUTPOST_HUB_URL") or DEFAULT_HUB_URL
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"the hub's address must be an http or https URL, not {url!r}; see OUTPOST_HUB_URL")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError(f"{url} would carry secrets in clear text: use https, or http on this machine only")
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def credentials() -> tuple[str, str] | None:
    """Id and secret of the client that the environment names; None when it names none."""
    half: tuple[str, str] | None = None
    for prefix in _PREFIXES:
        names = (f"{prefix}_CLIENT_ID", f"{prefix}_CLIENT_SECRET")
        client_id, secret = map(_setting, names)
        if client_id and secret:
            if prefix == "FUNCX_SDK":
                warnings.warn(
                    "FUNCX_SDK_CLIENT_ID and FUNCX_SDK_CLIENT_SECRET are the old names of OUTPOST_CLIENT_ID and OUTPOST_CLIENT_SECRET",
                    DeprecationWarning,
                    stacklevel=2,
                )
            return client_id, secret
        # An id without a secret is how Globus Compute names a client that people sign in with.
        if secret or (client_id and prefix != "GLOBUS_COMPUTE"):
            half = half or ((names[0], names[1]) if client_id else (names[1], names[0]))
    if half is not None:
        raise ValueError(f"{half[1]} must be set, because {half[0]} is")
    return None


def _token_file() -> str:
    home = Path(_setting("OUTPOST_HOME") or Path.home() / ".outpost")
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return str(home / "python-tokens.db")


class _TerminalLogin(CommandLineLoginFlowManager):
    """Asks on a terminal, and fails at once where there is none."""

    def print_authorize_url(self, authorize_url: str) -> None:
        if not sys.stdin.isatty():
            raise SignInRequired(
                "nobody is signed in, and there is no terminal to ask on: set OUTPOST_CLIENT_ID and OUTPOST_CLIENT_SECRET "
                "(`hub client create` makes a pair), pass login_manager=, or run this once on a terminal"
            )
        super().print_authorize_url(authorize_url)


def app_of(hub: str, *, pair: tuple[str, str] | None = None) -> globus_sdk.GlobusApp:
    """What signs in at this hub and keeps the tokens: of the client of the environment, or of a person."""
    found = pair or credentials()
    name = platform.node()
    login: dict[str, t.Any] = {"environment": _ENVIRONMENT, "base_url": f"{hub}/", "app_name": name}
    storage: dict[str, t.Any] = {"connect_params": {"check_same_thread": False}}
    if found is not None:
        client_id, secret = found
        return globus_sdk.ClientApp(
            name,
            login_client=globus_sdk.ConfidentialAppAuthClient(client_id, secret, **login),
            config=globus_sdk.GlobusAppConfig(
                environment=_ENVIRONMENT,
                token_storage=SQLiteTokenStorage(_token_file(), namespace=f"client/{client_id}/{hub}", **storage),
            ),
        )
    return globus_sdk.UserApp(
        name,
        login_client=globus_sdk.NativeAppAuthClient(_setting("GLOBUS_COMPUTE_CLIENT_ID") or NATIVE_CLIENT_ID, **login),
        config=globus_sdk.GlobusAppConfig(
            environment=_ENVIRONMENT,
            request_refresh_tokens=True,
            login_flow_manager=_TerminalLogin,
            token_storage=SQLiteTokenStorage(_token_file(), namespace=f"person/{hub}", **storage),
        ),
    )
