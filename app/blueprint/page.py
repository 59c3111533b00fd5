"""A blueprint as a page: what a board reads, prints and signs. No scripts, nothing fetched, no numerics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from app.blueprint.model import Blueprint, Column, Conditional, Dependence, Marginal, Stated, StatedTable

_MARKS = {"declared": "", "elicited": "ᵉ", "fitted": "ᶠ", "default": "ᵈ", "guessed": "ᵍ"}
_SHORT = {"min": "least", "max": "greatest"}
_RANGES = (("minimum", "at least"), ("maximum", "at most"))

_STYLE = """
body { margin: 0 auto; padding: 1.2rem; max-width: 62rem; color: #1c1c1c; background: #fff;
  font: 14px/1.4 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.4rem; margin: .4rem 0; } h2 { font-size: 1.05rem; margin: 1.2rem 0 .2rem; }
p { margin: .3rem 0 .5rem; } .soft { color: #555; }
.label { display: inline-block; border: 2px solid #1c1c1c; padding: .1rem .5rem; font-weight: 650; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .18rem .7rem .18rem 0; overflow-wrap: break-word;
  border-bottom: 1px solid #c9c9c9; }
thead th { border-bottom: 1.5px solid #1c1c1c; } tbody th { font-weight: 600; max-width: 13rem; }
td:nth-child(2) { min-width: 7.5rem; } td:last-child { min-width: 3.6rem; }
.sign { display: grid; grid-template-columns: 2fr 2fr 1fr; gap: 1.5rem; margin-top: 2.6rem; }
.sign div { border-top: 1px solid #1c1c1c; padding-top: .2rem; color: #555; }
@media print { body { max-width: none; padding: 0; font-size: 8.6pt; line-height: 1.28; }
  tr, .sign { break-inside: avoid; } h2 { break-after: avoid; }
  thead { display: table-header-group; } @page { size: A4; margin: 13mm 12mm; } }
"""


def blueprint_page(blueprint: Blueprint, job_id: str, digest: str) -> str:
    """Return a blueprint as HTML.

    Parameters
    ----------
    job_id : str
        Of the job that the document belongs to.
    digest : str
        The sha256 of the JSON document, so that what is signed can be told.
    """
    repaired = any(item.moved is not None for item in blueprint.repairs)
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Blueprint – {escape(job_id)}</title><style>{_STYLE}</style></head><body><main>",
        '<p class="label">How a synthetic table is distributed: it holds no record of a person</p>',
        f"<h1>{escape(blueprint.title or 'Blueprint')}</h1>",
        f"<p>{escape(blueprint.description)}</p>" if blueprint.description else "",
        f'<p class="soft">Blueprint {blueprint.blueprint} of job <code>{escape(job_id)}</code>, sha256 '
        f"<code>{escape(digest)}</code>. Numbers are declared but for those marked: ᵉ said by a "
        "language model, ᶠ learned from a real table, ᵈ a default that nobody declared"
        + (", ᵍ a guessed direction" if blueprint.guesses else "")
        + ("; * moved from what was asked, see Repairs" if blueprint.repairs else "")
        + ".</p>",
        _table(
            "Columns",
            ("Column", "What it is", "Distribution", "Missing"),
            (
                (column.name, _kind(column), _distribution(column), _number(column.missing, share=True))
                for column in blueprint.columns
            ),
        ),
        _table(
            "Dependence",
            ("Columns", "Measure", "Value", "Where"),
            (
                (" and ".join(item.fields), item.measure.replace("_", " "), _value(item), _where(item.given))
                for item in blueprint.dependence
            ),
        ),
        _table(
            "In some of the rows",
            ("Column", "Where", "Distribution"),
            ((item.field, _where(item.given), _stratum(item)) for item in blueprint.conditionals),
        ),
        _table(
            "Rules that every row keeps", ("Rule", ""), ((r.rule, _mark(r.source)) for r in blueprint.rules)
        ),
        _table(
            "Repairs: what the rows have instead of what was asked",
            ("Statement", "Asked", "Achieved", "Moved, in tolerances"),
            (
                (
                    _statement(blueprint, item.at),
                    _plain(item.asked),
                    _plain(item.achieved),
                    _moved(item.moved),
                )
                for item in blueprint.repairs
            ),
        ),
        _table(
            "Guessed directions",
            ("Association", "Taken"),
            (
                (_association(blueprint, item.at), "positive" if item.value > 0 else "negative")
                for item in blueprint.guesses
            ),
        ),
        f"<p>{_held(blueprint, repaired)}</p>",
        '<div class="sign"><div>Name</div><div>Signature</div><div>Date</div></div>',
        "</main></body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _table(title: str, heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    body = [
        f'<tr><th scope="row">{escape(first)}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    ]  # fmt: skip
    if not body:
        return ""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    label = escape(title)
    return (
        f'<h2>{label}</h2><table aria-label="{label}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def _mark(source: str) -> str:
    return _MARKS[source]


def _kind(column: Column) -> str:
    said = [column.type or "any"]
    if column.unit:
        said[0] += f", {column.unit}"
    constraints = column.constraints or {}
    said += [f"{words} {constraints[key]}" for key, words in _RANGES if key in constraints]
    said += [word for word in ("required", "unique") if constraints.get(word)]
    if constraints.get("pattern"):
        said.append(f"pattern {constraints['pattern']}")
    if column.categoriesOrdered:
        said.append("ordered")
    if column.formula:
        said.append(f"= {column.formula}")
    if column.relevant:
        said.append(f"only where {column.relevant}")
    return "; ".join(said)


def _distribution(column: Column) -> str:
    if column.marginal is None:
        return "made fresh" if column.formula is None else "as computed"
    return _statistics(column.marginal)


def _stratum(item: Conditional) -> str:
    told = _statistics(item.statistics)
    missing = item.statistics.missing
    return (
        told
        if missing is None
        else "; ".join(filter(None, (told, f"missing {_number(missing, share=True)}")))
    )


def _statistics(marginal: Marginal) -> str:
    said = [] if marginal.family is None else [marginal.family.value + _mark(marginal.family.source)]
    for name in ("mean", "sd", "median", "min", "max"):
        node = getattr(marginal, name)
        if node is not None:
            said.append(f"{_SHORT.get(name, name)} {_number(node)}")
    if marginal.quantiles is not None:
        said.append("quantiles " + _numbers(marginal.quantiles))
    if marginal.proportions is not None:
        said.append(_numbers(marginal.proportions, share=True))
    return "; ".join(said)


def _number(node: Stated | None, *, share: bool = False) -> str:
    if node is None:
        return "–"
    moved = "*" if node.asked is not None else ""
    return (_share(node.value) if share else _plain(node.value)) + _mark(node.source) + moved


def _numbers(node: StatedTable, *, share: bool = False) -> str:
    written = ", ".join(
        f"{key}: {_share(value) if share else _plain(value)}" for key, value in node.value.items()
    )
    return written + _mark(node.source) + ("*" if node.asked is not None else "")


def _value(item: Dependence) -> str:
    sign = ""
    if item.sign is not None:
        sign = f" ({'positive' if item.sign.value > 0 else 'negative'}{_mark(item.sign.source)})"
    return _plain(item.value) + _mark(item.source) + ("*" if item.asked is not None else "") + sign


def _where(given: Mapping[str, Any] | None) -> str:
    return " and ".join(f"{name} {_condition(value)}" for name, value in (given or {}).items())


def _condition(value: Any) -> str:
    if isinstance(value, Mapping):
        return " and ".join(f"{words} {value[key]}" for key, words in _RANGES if key in value)
    if isinstance(value, list):
        return "is " + " or ".join(map(str, value))
    return f"is {str(value).lower() if isinstance(value, bool) else value}"


def _statement(blueprint: Blueprint, at: str) -> str:
    parts = [part.replace("~1", "/").replace("~0", "~") for part in at.split("/")[1:]]
    match parts:
        case ["columns", place, *rest]:
            words = f"{blueprint.columns[int(place)].name}: "
        case ["conditionals", place, *rest]:
            conditional = blueprint.conditionals[int(place)]
            words = f"{conditional.field} where {_where(conditional.given)}: "
        case ["dependence", *_]:
            return _association(blueprint, at)
        case _:
            return at
    return words + " ".join(part for part in rest if part not in ("marginal", "statistics", "value"))


def _association(blueprint: Blueprint, at: str) -> str:
    item = blueprint.dependence[int(at.split("/")[2])]
    return f"{item.measure.replace('_', ' ')} of {item.fields[0]} and {item.fields[1]}"


def _held(blueprint: Blueprint, repaired: bool) -> str:
    total = len(blueprint.outcomes)
    if not total:
        return "What became of each statement has not been measured yet."
    met = sum(item.moved is not None and item.moved <= 1 for item in blueprint.outcomes)
    told = f"Of {total} statements the population that rows are drawn from has {met} within their tolerance"
    return told + ("; the others are listed under Repairs." if repaired else ".")


def _plain(value: int | float | str) -> str:
    return value if isinstance(value, str) else f"{value:.6g}".replace("-", "−")


def _share(value: int | float | str) -> str:
    return value if isinstance(value, str) else f"{100 * value:.3g} %"


def _moved(value: int | float | None) -> str:
    return "a default" if value is None else f"{value:.1f}"
