"""The safe expression language of rules, formulas and `relevant`: parsing and type checks. Never `eval`.

A whitelisted subset of Python expressions (API.md, "The schema"). `parse_expression` gives an
`Expression`; `app.schema.evaluate` computes it on whole columns.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed, type-checked expression.

    Parameters
    ----------
    text : str
        As the caller wrote it.
    fields : tuple of str
        Names of the fields it reads, in order of first appearance.
    result : str
        Type of the value: "boolean", "number", "string", "date", "datetime" or "time".
    tree : ast.expr
        The whitelisted syntax tree; no other node types occur in it.
    """

    text: str
    fields: tuple[str, ...]
    result: str
    tree: ast.expr = field(compare=False, repr=False)
