"""Query parameters that a route does not know are refused: a misspelt `dry_run` must not queue a job."""

from __future__ import annotations

import difflib
from collections import Counter
from typing import Any, get_origin

from fastapi import Request
from fastapi.dependencies.utils import request_params_to_args
from fastapi.exceptions import RequestValidationError

from app.errors import Fault, InvalidInput, pointer
from app.problems import faults_of_request


async def known_query(request: Request) -> None:
    """Let a request pass whose query names nothing unknown, and nothing twice; a dependency for routers.

    Raises
    ------
    InvalidInput
        With `/query/<name>` for each parameter that is unknown or came twice, and, so that one answer names
        every fault, for each that is known and faulty.
    """
    if not request.scope["query_string"]:
        return
    fields = {field.alias: field for field in request.scope["route"].dependant.query_params}
    faults = []
    for name, times in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in fields:
            close = difflib.get_close_matches(name, fields, 1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            faults.append(Fault(pointer("query", name), f"This parameter is not known here.{hint}"))
        elif times > 1 and not _takes_several(fields[name]):
            faults.append(Fault(pointer("query", name), "This parameter came twice; give it once."))
    if faults:
        # FastAPI judges the known ones only where its dependencies let the request pass.
        _, others = request_params_to_args(list(fields.values()), request.query_params)
        raise InvalidInput([*faults, *faults_of_request(RequestValidationError(others))])


def _takes_several(field: Any) -> bool:
    return get_origin(field.field_info.annotation) is list
