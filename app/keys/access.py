"""FastAPI dependencies: the services that a router hands on, and the principal who asks.

A router takes `CurrentPrincipal` and `CurrentServices`:

    @router.get("/v1/things")
    def things(principal: CurrentPrincipal, services: CurrentServices) -> ...:

Without keys (`no_auth`) only this machine may ask. A `Host` that is not a loopback name is refused (a page
elsewhere could point its own name here), and so is a request that tells of a proxy (`Forwarded`,
`X-Forwarded-*`, `X-Real-IP`, `Via`), of a peer that is not on this machine, or of a web page from elsewhere
(`Origin`): a proxy in front does not make the world local.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import Scope

from app.errors import HostNotAllowed, NotAuthenticated
from app.keys.service import LOCAL_OWNER, KeyRing, Principal
from app.services import Services

_PROXY_HEADERS = frozenset({"forwarded", "x-real-ip", "via", "cf-connecting-ip", "true-client-ip"})
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]/?#@]+)(?::\d{1,5})?")


def _is_loopback_name(host: str) -> bool:
    shape = _HOST.fullmatch(host)
    if shape is None:
        return False
    name = shape.group(1).strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_remote_address(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False  # not a network peer at all
    return not address.is_loopback


def why_not_local(scope: Scope) -> str | None:
    """Return why a request does not come from this machine itself; None where it does."""
    headers = Headers(scope=scope)
    hosts = headers.getlist("host")
    if len(hosts) != 1 or not _is_loopback_name(hosts[0]):
        return "the Host is not a loopback name (localhost, 127.0.0.1 or [::1])"
    if any(name in _PROXY_HEADERS or name.startswith("x-forwarded-") for name in headers):
        return "it came through a proxy"
    client = scope.get("client")
    if client is not None and _is_remote_address(client[0]):
        return "it came over the network"
    origin = headers.get("origin")
    if origin is not None and not _is_loopback_name(urlsplit(origin).netloc):
        return "a web page from elsewhere sent it"
    return None


def require_local(scope: Scope) -> None:
    """Let only this machine through.

    Raises
    ------
    HostNotAllowed
        Where the request does not come from this machine itself.
    """
    reason = why_not_local(scope)
    if reason is not None:
        raise HostNotAllowed(f"The service runs without keys and answers this machine only, but {reason}.")


async def current_services(request: Request) -> Services:
    """Return the services that `create_app` wired."""
    services: Services = request.app.state.services
    return services


async def current_principal(request: Request) -> Principal:
    """Return who asks.

    Raises
    ------
    NotAuthenticated
        Where there is no key, or one that is not known or was revoked.
    """
    if request.app.state.services.settings.no_auth:
        return Principal(LOCAL_OWNER)  # the gate at the door has let only this machine in
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise NotAuthenticated("Send the header `Authorization: Bearer <key>`.")
    keyring: KeyRing = request.app.state.keyring
    secret = secret.strip()
    # A thread is needed only where the database is asked: once in a few seconds for each key.
    remembered = keyring.remembered(secret)
    return await run_in_threadpool(keyring.authenticate, secret) if remembered is None else remembered


CurrentServices = Annotated[Services, Depends(current_services)]
CurrentPrincipal = Annotated[Principal, Depends(current_principal)]
