"""Query parameters that a route does not know are refused: a misspelt `dry_run` must not queue a job."""

from __future__ import annotations

import difflib

from fastapi import Request

from app.errors import Fault, InvalidInput, pointer


async def known_query(request: Request) -> None:
    """Let a request pass whose query names nothing unknown; a dependency for routers.

    Raises
    ------
    InvalidInput
        With `/query/<name>` for each unknown parameter.
    """
    if not request.scope["query_string"]:
        return
    known = [field.alias for field in request.scope["route"].dependant.query_params]
    faults = []
    for name in dict.fromkeys(request.query_params.keys()):
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            faults.append(Fault(pointer("query", name), f"This parameter is not known here.{hint}"))
    if faults:
        raise InvalidInput(faults)
