"""The page docs/zero-shot.md: every figure of the zero-shot comparison, also the poor ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from benchmarks.quality import Measured
from benchmarks.zero_shot import (
    CTGAN,
    ELICITED,
    HALVES,
    INDEPENDENT,
    ROWS,
    SPLITS,
    STAND_IN,
    STAND_IN_TRAIN,
    WRITTEN,
    Compared,
    Found,
)

NAMES: Mapping[str, str] = {
    ELICITED: "a model's knowledge, `blueprint`",
    WRITTEN: "rows by a model, `rows`",
    CTGAN: "CTGAN on the real rows",
    INDEPENDENT: "independent columns of the real rows",
    HALVES: "half of the real rows against the other half",
}
MEASURES: Mapping[str, tuple[str, bool]] = {
    "marginals": ("marginals", False),
    "sign": ("sign", True),
    "size": ("size", False),
    "tstr": ("TSTR", True),
    "impossible": ("impossible rows", False),
}
FEW = 300
"""Real rows below which CTGAN is to be beaten."""


def page(compared: Sequence[Compared], epochs: int | str = "auto") -> str:
    """Return the page."""
    parts = [_head(epochs), _summary(compared)]
    parts += [_of_table(one) for one in compared]
    return "\n\n".join(parts).rstrip() + "\n"


def _head(epochs: int | str) -> str:
    text = (Path(__file__).parent / "pages" / "zero-shot.md").read_text("utf-8").strip()
    return Template(text).substitute(
        blueprint=NAMES[ELICITED], written=NAMES[WRITTEN], ctgan=NAMES[CTGAN], marginals=NAMES[INDEPENDENT],
        rows=f"{ROWS:,}", splits=SPLITS, epochs=epochs,
    )  # fmt: skip


def _summary(compared: Sequence[Compared]) -> str:
    lines = [
        "## In short",
        "",
        "In how many of the five measures the model's knowledge (`blueprint`) is ahead, equal or behind:",
        "",
        "| table | real rows | against rows by a model | against CTGAN | against independent columns |",
        "|---|---|---|---|---|",
    ]
    for one in compared:
        cells = [_duel(one, other) for other in (WRITTEN, CTGAN, INDEPENDENT)]
        rows = f"{one.rows:,}" if one.table.real is not None else "none"
        lines.append(f"| {one.table.name} ({one.table.role}) | {rows} | {' | '.join(cells)} |")
    lines += [
        "",
        "Aimed at: ahead of rows by a model in four of five on every table, and of CTGAN where there are "
        f"fewer than {FEW} real rows.",
    ]
    absent = [
        f"{one.table.name} ({', '.join(f'`{name}`' for name in missing)})"
        for one in compared
        if (missing := [name for name in (ELICITED, WRITTEN) if name not in one.found])
    ]
    if absent:
        lines += ["", f"**Not recorded yet, and so not measured: {'; '.join(absent)}.**"]
    return "\n".join(lines)


@dataclass(frozen=True)
class Standing:
    """The names of the five measures in which one table is ahead of another, equal to it, and behind it."""

    ahead: tuple[str, ...]
    equal: tuple[str, ...]
    behind: tuple[str, ...]


def standing(one: Measured, other: Measured) -> Standing:
    """Return where `one` is ahead of `other`, equal to it, and behind it; what is not measured is equal."""
    found: dict[str, list[str]] = {"ahead": [], "equal": [], "behind": []}
    for name, (title, higher) in MEASURES.items():
        ours, theirs = getattr(one, name), getattr(other, name)
        if ours is None or theirs is None or round(ours - theirs, 3) == 0:
            found["equal"].append(title)
        else:
            found["ahead" if (ours > theirs) == higher else "behind"].append(title)
    return Standing(**{where: tuple(names) for where, names in found.items()})


def _duel(one: Compared, other: str) -> str:
    if ELICITED not in one.found or other not in one.found:
        return "not recorded"
    found = standing(one.found[ELICITED].figures, one.found[other].figures)
    named = [("equal", found.equal), ("behind", found.behind)]
    return ", ".join(
        [f"{len(found.ahead)} ahead"]
        + [f"{len(names)} {where} ({', '.join(names)})" for where, names in named if names]
    )


def _of_table(one: Compared) -> str:
    document = one.table.document
    real = f"{one.rows:,} real rows"
    if one.table.real is None:
        real = (
            f"no real rows: held against a stand-in of {STAND_IN:,} rows that has the declared statistics, "
            "in the columns and pairs that are declared; CTGAN and independent columns learned from "
            f"{STAND_IN_TRAIN} others that have them too ({SPLITS} draws, means over them)"
        )
    lines = [
        f"## {one.table.name}",
        "",
        f"{document['title']}; {len(document['fields'])} columns, {real}. The prompts were {one.table.role} "
        f"it. Outcome: `{one.table.target}`; TRTR {one.trtr:.3f}.",
        "",
        "| candidate | rows | marginals | sign | size | TSTR | impossible rows | repeated | copied |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in NAMES:
        if name in one.found:
            lines.append(
                f"| {NAMES[name]} | {one.found[name].rows:,} | {_figures(one.found[name].figures)} |"
            )
    lines += ["", *_talks(one), *_columns(one), *_pairs(one), *_impossible(one)]
    return "\n".join(lines)


def _figures(figures: Measured) -> str:
    shares = [figures.impossible, figures.repeated, figures.copied]
    plain = [figures.marginals, figures.sign, figures.size, figures.tstr]
    return " | ".join(
        ["–" if value is None else f"{value:.3f}" for value in plain]
        + [f"{100 * value:.1f} %" for value in shares]
    )


def _talks(one: Compared) -> list[str]:
    lines = []
    for name in (ELICITED, WRITTEN):
        if name not in one.found:
            continue
        said = one.found[name].talk
        line = (
            f"The talk of `{name}` was recorded on {said['made']}: {said['answers']} answers, about "
            f"{said['tokens']:,} tokens both ways (four characters a token)."
        )
        if said["other_preview"]:
            line += " Its critique was answered to a preview whose last digits were others."
        if said["reader"]:
            line += f" Its reader {said['reader']}"
        if said["warnings"]:
            line += " The job warns: " + " · ".join(said["warnings"])
        lines.append(line)
    return [*lines, ""] if lines else []


def _present(one: Compared) -> list[str]:
    return [name for name in (ELICITED, WRITTEN, CTGAN, INDEPENDENT) if name in one.found]


def _columns(one: Compared) -> list[str]:
    shown = _present(one) + ([HALVES] if HALVES in one.found else [])
    lines = ["Marginals, column by column:", "", *_header(["column", *shown])]
    for column in one.found[INDEPENDENT].columns:
        cells = [f"{one.found[name].columns[column]:.3f}" for name in shown]
        lines.append(f"| {column} | {' | '.join(cells)} |")
    return [*lines, ""]


def _pairs(one: Compared) -> list[str]:
    shown = _present(one)
    certain = [pair for pair, (_, sure) in one.compared_pairs.items() if sure]
    rest = [pair for pair in one.compared_pairs if pair not in certain and one.table.real is None]
    certain.sort(key=lambda pair: -abs(one.compared_pairs[pair][0]))
    lines = [
        f"Associations: {len(one.compared_pairs)} pairs, {len(certain)} of them certain in the real rows "
        "(wrong directions in bold):",
        "",
        *_header(["pair", "real", *shown]),
    ]
    for pair in [*certain, *rest]:
        value = one.compared_pairs[pair][0]
        cells = [_directed(one.found[name], pair, value, pair in certain) for name in shown]
        lines.append(f"| {pair} | {value:.2f} | {' | '.join(cells)} |")
    return [*lines, ""]


def _directed(found: Found, pair: str, real: float, certain: bool) -> str:
    value = found.pairs[pair]
    return f"**{value:.2f}**" if certain and value * real <= 0 else f"{value:.2f}"


def _impossible(one: Compared) -> list[str]:
    shown = _present(one)
    lines = ["Impossible rows, by what is impossible:", "", *_header(["what", "real", *shown])]
    for what in one.table.impossible:
        cells = [f"{100 * one.found[name].impossible[what]:.1f} %" for name in shown]
        lines.append(f"| {what} | {100 * one.real_impossible[what]:.1f} % | {' | '.join(cells)} |")
    return lines


def _header(names: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
