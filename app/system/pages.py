"""Small HTML pages: what a problem type means, and the reference of the routes."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from html import escape
from pathlib import Path

from app.errors import SynthwardError
from app.problem_objects import ProblemType, problem_type_of

ASSETS = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "favicon-32x32.png": "image/png",
}
"""Files of the reference page, and their media types; nothing is fetched from elsewhere."""

PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'"
)

_STYLE = "body{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem;color:#1a1a1a}code{background:#f2f2f2;padding:0 .2em}"  # noqa: E501 - one rule sheet

DOCS_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Synthward: the HTTP reference</title>
<link rel="stylesheet" href="/docs/swagger-ui.css"><link rel="icon" href="/docs/favicon-32x32.png"></head>
<body><div id="reference"></div>
<script src="/docs/swagger-ui-bundle.js"></script><script src="/docs/start.js"></script></body></html>
"""
DOCS_SCRIPT = """SwaggerUIBundle({url: "/openapi.json", dom_id: "#reference", deepLinking: true,
  validatorUrl: null, persistAuthorization: false, defaultModelsExpandDepth: 0});
"""


@cache
def asset(name: str) -> bytes:
    """Return a file of the reference page, from the installed package. The package itself is not imported."""
    spec = importlib.util.find_spec("swagger_ui")
    assert spec is not None and spec.submodule_search_locations is not None
    return (Path(spec.submodule_search_locations[0]) / "static" / name).read_bytes()


def problem_page(slug: str) -> str | None:
    """Return the page that explains a problem type; None where there is no such type."""
    for kind in _kinds(SynthwardError):
        if kind.slug == slug:
            return _page(kind, problem_type_of(kind))
    return None


def _kinds(parent: type[SynthwardError]) -> Iterator[type[SynthwardError]]:
    yield parent
    for kind in parent.__subclasses__():
        yield from _kinds(kind)


def _page(kind: type[SynthwardError], line: ProblemType) -> str:
    meaning = " ".join((kind.__doc__ or "").strip().split("\n\n")[0].split())
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(kind.title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(kind.title)}</h1>"
        f"<p>Problem type <code>/problems/{kind.slug}</code>, HTTP status {line.status}.</p>"
        f"<p>{_marked(meaning)}</p><h2>What to do</h2><p>{_marked(line.advice)}</p></body></html>\n"
    )


def _marked(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
