"""What a blueprint keeps of the talk that it came from: who was asked, every answer, and what was patched."""

from __future__ import annotations

import json
from typing import Any

from app.blueprint.places import in_blueprint
from app.generators.llm.doubt import doubt_of
from app.generators.llm.elicit import Elicited
from app.generators.llm.providers import Provider

KEY = "elicitation"
"""The part of the blueprint that holds the record; a sampler does not read it."""

_KEPT = ("answers", "sure", "scale", "spread", "why", "critique")


def record(elicited: Elicited, provider: Provider, times: int) -> dict[str, Any]:
    """Return the record of a talk.

    Returns
    -------
    dict
        `provider`, `model`, `elicitations`. `statements`: of those that share their answers one entry, with
        the pointers to them in the blueprint (`at`), the `answers` that were pooled, how `sure` the model
        said that it was, the `spread` of the answers on `scale`, `unsure` with the reason where the model
        counts as unsure, and `why` where it gave a reason. `critiques`: the patches of each round with
        their reasons, made and not made.
    """
    statements: dict[str, dict[str, Any]] = {}
    for at, origin in elicited.provenance.items():
        said = {name: origin[name] for name in _KEPT if origin.get(name) not in (None, "", [], False)}
        doubt = doubt_of(origin)
        if doubt is not None:
            said["unsure"] = doubt
        key = json.dumps([said, _about(at)])
        entry = statements.setdefault(key, {"at": []} | said)
        entry["at"].append(in_blueprint(at))
    return {
        "provider": provider.name,
        "model": provider.model,
        "elicitations": times,
        "statements": list(statements.values()),
        "critiques": [dict(item) for item in elicited.rounds],
    }


def _about(at: str) -> str:
    """Return what answers belong to: a column's own figures together; a pair's groups go by their answers."""
    parts = at.split("/")
    return "/".join(parts[:3]) if parts[1] == "fields" else parts[1]
