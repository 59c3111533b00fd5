"""Statements become a program: blocks of categories, effects, correlations, orders, and a last correction.

Each part is solved for what it can hold exactly; then the whole is simulated with every rule, gap and
rounding in place, compared with what is stated, and moved. What still is off is corrected by a tilt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace

from threadpoolctl import threadpool_limits

from app.blueprint.calibration import ROWS, Calibration
from app.blueprint.cells import joint_block
from app.blueprint.model_parameters import Parameters
from app.blueprint.reweighting import loss
from app.blueprint.rows import Floats, Rows
from app.blueprint.sample import Program
from app.blueprint.signs import guessed_signs
from app.blueprint.simulation import NARROW, forget, lost, simulate, widening
from app.blueprint.statements import Measured, Outcome, Statement, measure
from app.blueprint.structure import Structure, implied_between, structure_of
from app.blueprint.tilting import find_tilt, refined
from app.schema.table import Field, TableSchema

PASSES = 14
TILTED = 2
"""Ways that are corrected to the end, where the best is not good."""

GOOD = 2.0
GOOD_EACH = 0.01
"""Sum of gaps beyond half a tolerance each, at which no other way is tried; of many statements, for each."""

FINE = 0.5
"""Distance, in tolerances, that is good enough: chance alone makes a fifth of one."""

TILTED_ON = 65_536
JUDGED_ON = 65_536
LEAST_JUDGED = 32_768
FEWEST = 16_384
DEAREST = 1e10
"""Rows times squared statements that a step of the tilt may cost: about half a second."""

SHARES = frozenset({"proportion", "missing"})

WIDE = 60
"""Columns from which on fewer rows are simulated."""

REFINED = 0.6
"""Distance from what is asked, in tolerances, from which on a tilt is moved on more rows."""

PATIENCE = 7
"""Passes without a gain after which no more are made."""

AT_REST = 2
"""The same, where all is good."""

POLISHED = 3
"""Passes on many rows, once few show no more."""

SLIGHT = 0.95
"""Share of what is beyond that a pass over vague statements may leave, to be worth another."""

SPARED = 0.001
"""Gap beyond chance, in tolerances for each statement, that is not worth another move or a tilt."""

ASTRAY = 0.4
"""Distance of a correlation from what was asked that is wrong however vaguely that was known."""

VAGUE = 4.0
"""Tolerances that are as good as one, of a statement that is vague."""

SKETCHED = 6
"""Passes of a sketch."""

SKETCHED_ON = 16_384

CHANCE = 50.0
"""Tolerances by which chance puts a correlation off, times the root of the rows; a share by twice as many."""

BEHIND = 1.5
"""How many times a rival's loss another way may still have after a few passes."""


@dataclass(frozen=True, eq=False)
class Compiled:
    """A program and what became of each statement.

    Parameters
    ----------
    program : Program
    outcomes : tuple of Outcome
        As measured on simulated rows, in document order.
    guesses : mapping of pointer to {-1, 1}
        Directions that were left open, and the ones taken.
    """

    program: Program
    outcomes: tuple[Outcome, ...]
    guesses: Mapping[str, int]


@dataclass(frozen=True)
class Effort:
    """How near statements are pursued.

    Parameters
    ----------
    vague : callable
        Whether the statement at a pointer is known to no more than a few tolerances.
    sketch : bool
        Whether a look at the rows is all that is wanted: a few passes, and no tilt.
    solved : mutable mapping
        Joint tables of categories by what was asked of them: one that is compiled again after an edit
        elsewhere is not solved again.
    """

    vague: Callable[[str], bool] = lambda pointer: False
    sketch: bool = False
    solved: MutableMapping[Hashable, Floats] = field(default_factory=dict)


def compile_schema(
    schema: TableSchema,
    fields: Iterable[Field],
    *,
    warn: Callable[[str, str], None],
    progress: Callable[[float], None] = lambda fraction: None,
    effort: Effort | None = None,
) -> Compiled:
    """Find the program whose rows have what a schema states.

    Parameters
    ----------
    fields : iterable of Field
        Those to draw: neither computed by formula nor made fresh.
    warn : callable
        Called as `warn(pointer, message)` where a default was taken.
    progress : callable
        Called with the fraction done.
    effort : Effort, optional
        All, unless it is given.
    """
    # Small matrices: threads cost more than they bring, and their sums differ from machine to machine.
    with threadpool_limits(limits=1, user_api="blas"):
        try:
            return _compiled(schema, fields, warn, progress, effort or Effort())
        finally:
            forget()


def _compiled(
    schema: TableSchema,
    fields: Iterable[Field],
    warn: Callable[[str, str], None],
    progress: Callable[[float], None],
    effort: Effort,
) -> Compiled:
    structure = structure_of(schema, fields, warn, effort.vague)
    signs = guessed_signs(structure)
    parameters = _with_blocks(structure, signs, effort.solved)
    progress(0.1)
    parameters.fit_strata(warn)
    if effort.sketch:
        sketched = _calibrated(
            Calibration(parameters, signs, rows=SKETCHED_ON), progress, passes=SKETCHED
        ).program
        return Compiled(sketched, _outcomes(sketched, structure, SKETCHED_ON), dict(signs))
    ranked = _ways(parameters, signs, progress)
    program, outcomes = _tilted(ranked[0], structure, progress)
    for other in ranked[1:TILTED]:
        if _excess([one for one in outcomes if not one.statement.vague], FINE) < GOOD:
            break
        again, found = _tilted(other, structure, progress)
        if _excess(found) < _excess(outcomes):
            program, outcomes = again, found
    progress(1.0)
    return Compiled(program, outcomes, dict(signs))


def _ways(
    parameters: Parameters, signs: Mapping[str, int], progress: Callable[[float], None]
) -> list[Program]:
    """Return the programs that calibration comes to, one way and another, the best first."""
    calibration = Calibration(parameters.copied(), signs)
    statements = parameters.structure.statements
    good = max(GOOD, GOOD_EACH * len(statements))
    ways = calibration.others if len(parameters.structure.marginals) <= WIDE else ()
    found = [_calibrated(calibration, lambda share: progress(0.1 + 0.3 * share))]
    if statements and found[0].firm < good and not found[0].astray:
        return [_polished(calibration, found[0].program)]
    for number, way in enumerate(ways):
        best = min(found, key=lambda one: (one.astray, one.missed))
        if best.firm < good and not best.astray:
            break
        rival = Calibration(parameters.copied(), signs, way)
        found.append(_calibrated(rival, lambda share: None, best.missed))
        progress(0.4 + 0.2 * (number + 1) / len(ways))
    return [one.program for one in sorted(found, key=lambda one: (one.astray, one.missed))]


@dataclass(frozen=True, eq=False)
class _Calibrated:
    """A program, the sum of its gaps, and of what is beyond good enough: of all, and of what is not vague.

    And whether a correlation is something else altogether than was asked, though it be vague.
    """

    program: Program
    missed: float
    far: float
    firm: float
    astray: bool = False


def _calibrated(
    calibration: Calibration,
    progress: Callable[[float], None],
    rival: float = math.inf,
    passes: int = PASSES,
) -> _Calibrated:
    """Return the best program of some passes; soon given up where a rival is far ahead."""
    statements = calibration.parameters.structure.statements
    best, improved = _Calibrated(calibration.program(), math.inf, math.inf, math.inf), 0
    good = max(GOOD, GOOD_EACH * len(statements))
    for number in range(passes):
        candidate = calibration.program()
        rows = calibration.simulated(candidate)
        # Parts pull at one another: the best of the passes is kept, not the last.
        measured = [measure(statement, rows) for statement in statements]
        missed = loss(measured) + lost(rows)
        if missed < 0.97 * best.missed:
            improved = number
        if missed < best.missed:
            far, firm = _far(statements, measured, rows)
            best = _Calibrated(candidate, missed, far, firm, _astray(statements, measured))
        progress((number + 1) / passes)
        if best.far == 0 or (number - improved >= AT_REST and best.far < good):
            break
        patience = PATIENCE if best.firm >= good else PATIENCE // 2  # what is left is vague
        if number - improved >= patience or (number >= PATIENCE and best.missed > BEHIND * rival):
            break
        moved = calibration.move(rows)
        rows.forget()
        if not moved:
            break
    return best


def _astray(statements: Sequence[Statement], measured: Sequence[Measured]) -> bool:
    """Whether a correlation has come out as something else altogether, such as with the opposite sign."""
    return any(
        statement.kind in ("spearman", "pearson") and abs(statement.asked - item.achieved) > ASTRAY
        for statement, item in zip(statements, measured, strict=True)
    )


def _far(statements: Sequence[Statement], measured: Sequence[Measured], rows: Rows) -> tuple[float, float]:
    """Return the sum of what is off by more than is good enough, as far as so few rows can tell.

    Once of all, vague statements by what is good enough of them, and once without these.
    """
    fewer = math.sqrt(ROWS / max(rows.drawn, 1))
    far = firm = lost(rows)
    for statement, item in zip(statements, measured, strict=True):
        free = FINE * max(fewer * (1 + (statement.kind in SHARES)), 1.0) if fewer > 1 else FINE
        found = loss([item], free * (VAGUE if statement.vague else 1))
        far += found
        firm += 0.0 if statement.vague else found
    return far, firm


def _polished(calibration: Calibration, first: Program) -> Program:
    """Move a calibration that is good on so many rows that chance is small beside a tolerance."""
    structure = calibration.parameters.structure
    best, least = first, (math.inf, math.inf)
    exact = not all(statement.vague for statement in structure.statements)
    drawn = _judged_on(structure)
    # Even draws are about twice as precise as chance: nearer than this, moves of many columns follow chance.
    near = FINE / 2 + _furthest_by_chance(len(structure.statements), drawn) / 2
    for number in range(POLISHED):
        candidate = calibration.program()
        rows = simulate(candidate, structure, drawn)
        measured = [measure(statement, rows) for statement in structure.statements]
        if number == 0 and _astray(structure.statements, measured):
            return first  # the moves have gone astray since the best of the passes
        gaps = [
            abs(item.gap) / (VAGUE if statement.vague else 1)
            for statement, item in zip(structure.statements, measured, strict=True)
        ]
        beyond = sum(max(gap - near, 0.0) for gap in gaps)
        gained = exact or beyond < SLIGHT * least[0]
        if (beyond, max(gaps)) < least:
            best, least = candidate, (beyond, max(gaps))
        wide = len(structure.marginals) > NARROW
        enough = beyond <= SPARED * len(gaps) if wide else max(gaps) <= FINE / 2
        moved = gained and not enough and number < POLISHED - 1 and calibration.move(rows)
        rows.forget()
        if not moved:
            break
    return best


def _with_blocks(
    structure: Structure, signs: Mapping[str, int], solved: MutableMapping[Hashable, Floats]
) -> Parameters:
    schema = structure.schema
    blocks = []
    for names in structure.blocks:
        inside = set(names)
        stated = [
            s for s in structure.statements
            if set(s.reads) <= inside and (s.kind != "missing" or s.fields[0] in structure.gaps)
        ]  # fmt: skip
        stated += implied_between(schema, names, structure.statements)
        rules = [rule for rule in schema.rules if rule.fields and set(rule.fields) <= inside]
        blocks.append(
            joint_block(schema, names, structure.marginals, stated, rules, structure.gaps, signs, solved)
        )
    left = tuple(
        rule
        for rule in schema.rules
        if not any(set(rule.fields) <= set(names) for names in structure.blocks)
        and not any(rule in kept for kept in structure.thresholds.values())
    )
    return Parameters(structure, blocks, rules=left)


def _tilted(
    program: Program, structure: Structure, progress: Callable[[float], None]
) -> tuple[Program, tuple[Outcome, ...]]:
    """Correct what is still off; return what then became of each statement, on rows of their own."""
    if not structure.statements:
        return program, ()
    outcomes = _outcomes(program, structure)
    if _sufficient(outcomes, _judged_on(structure)):
        return program, outcomes
    wide = len(structure.marginals) > WIDE
    rows = simulate(program, structure, _affordable(len(structure.statements), TILTED_ON))
    tilt = find_tilt(rows, structure.statements)
    rows.forget()
    progress(0.8)
    tilted, untilted = replace(program, tilt=tilt), outcomes
    outcomes = _outcomes(tilted, structure)
    if _excess(untilted) <= _excess(outcomes):
        return program, untilted
    if tilt is not None and not wide and max(outcome.moved for outcome in outcomes) > REFINED:
        rows = simulate(program, structure, _affordable(len(structure.statements), 2 * JUDGED_ON), seed=2)
        again = replace(program, tilt=refined(rows, structure.statements, tilt))
        rows.forget()
        progress(0.95)
        better = _outcomes(again, structure)
        if _excess(better) < _excess(outcomes):
            return again, better
    return tilted, outcomes


def _sufficient(outcomes: Sequence[Outcome], rows: int) -> bool:
    """Whether chance alone puts the furthest as far off, or nearly: a tilt moves all statements."""
    furthest = _furthest_by_chance(len(outcomes), rows)
    beyond = (
        outcome.moved - FINE / 2 - (2 if outcome.statement.kind in SHARES else 1) * furthest
        for outcome in outcomes
        if not outcome.statement.vague
    )
    return sum(max(gap, 0.0) for gap in beyond) < SPARED * len(outcomes)


def _furthest_by_chance(statements: int, rows: int) -> float:
    """Return by how many tolerances chance puts the furthest of so many correlations off."""
    return CHANCE * math.sqrt(2 * math.log(statements + 1)) / math.sqrt(rows)


def _affordable(statements: int, most: int) -> int:
    """Return on how many rows a tilt is found: its cost grows with the square of the statements."""
    rows = most
    while rows > FEWEST and rows * statements**2 > DEAREST:
        rows //= 2
    return rows


def _judged_on(structure: Structure) -> int:
    return max(JUDGED_ON >> widening(structure, 4 * NARROW), LEAST_JUDGED)


def _outcomes(program: Program, structure: Structure, most: int = JUDGED_ON) -> tuple[Outcome, ...]:
    rows = simulate(program, structure, min(most, _judged_on(structure)), seed=1)
    outcomes = tuple(_outcome(statement, rows) for statement in structure.statements)
    rows.forget()
    return outcomes


def _excess(outcomes: Iterable[Outcome], free: float = 0.1) -> float:
    return sum(min(max(outcome.moved - free, 0.0), 20.0) for outcome in outcomes)


def _outcome(statement: Statement, rows: Rows) -> Outcome:
    found = measure(statement, rows)
    return Outcome(statement, found.achieved, abs(found.gap))
