"""FastAPI dependencies: the services that a router hands on, and the principal who asks.

A router takes `CurrentPrincipal` and `CurrentServices`:

    @router.get("/v1/things")
    def things(principal: CurrentPrincipal, services: CurrentServices) -> ...:
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from app.keys.service import LOCAL_OWNER, Principal
from app.services import Services


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
    return Principal(LOCAL_OWNER)


CurrentServices = Annotated[Services, Depends(current_services)]
CurrentPrincipal = Annotated[Principal, Depends(current_principal)]
