"""Moves effects, correlations and orders until simulated rows show what is stated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.blueprint.inducing import induced_effects
from app.blueprint.model_parameters import Parameters
from app.blueprint.moving_effects import Effects
from app.blueprint.moving_margins import Margins
from app.blueprint.moving_orders import Orders
from app.blueprint.moving_pairs import Pairs
from app.blueprint.rows import Rows
from app.blueprint.sample import Program
from app.blueprint.simulation import simulate, widening
from app.blueprint.standins import StandIns

ROWS = 32_768
FEWEST = 8_192


@dataclass(frozen=True)
class Way:
    """What a calibration may do in one way or another: which is better shows in the rows.

    Parameters
    ----------
    turned : bool
        Whether of two numbers in order the one of which more is stated is cut.
    induced : bool
        Whether numbers go with categories by way of others (`app.blueprint.inducing`).
    """

    turned: bool = False
    induced: bool = True


class Calibration:
    """The state of a calibration.

    Parameters
    ----------
    parameters : Parameters
        Moved in place.
    signs : mapping of pointer to {-1, 1}
        Directions that were taken where none is stated.
    rows : int
        To simulate in each pass; fewer where there are many columns.
    """

    def __init__(
        self, parameters: Parameters, signs: Mapping[str, int], way: Way | None = None, rows: int = ROWS
    ) -> None:
        self._rows = rows
        self.parameters, self.way = parameters, way or Way()
        inputs = StandIns(parameters.structure)
        self._margins = Margins(parameters)
        self._orders = Orders(parameters, self.way.turned)
        self._effects = Effects(parameters, signs, inputs)
        self._pairs = Pairs(parameters, signs, inputs, self._orders.ordered)
        self._tightened = False
        induced = {}
        if self.way.induced:
            tied = ((pair.first, pair.second) for pair in self._orders.ordered)
            induced = induced_effects(parameters, tied)
            parameters.effects |= induced
        self.others = self._other_ways(bool(induced))
        parameters.correlate()
        self._orders.place(None)

    def program(self) -> Program:
        """Return the program as it stands."""
        return self.parameters.program()

    def simulated(self, program: Program) -> Rows:
        """Simulate a program."""
        structure = self.parameters.structure
        return simulate(program, structure, max(self._rows >> widening(structure), FEWEST))

    def move(self, rows: Rows) -> bool:
        """Move everything towards what is stated; say whether anything was far off."""
        if not self._tightened:
            self._tightened = True
            if self._margins.tighten(rows):
                return True
        far = self._orders.move(rows, self._effects.factors)
        far = self._margins.move(rows) or far
        far = self._effects.move(rows) or far
        return self._pairs.move(rows) or far

    def _other_ways(self, induced: bool) -> tuple[Way, ...]:
        """Return what else may be tried."""
        if self.way != Way():
            return ()
        ways = [Way(turned=True)] if self._orders.turnable else []
        if induced:
            ways.append(Way(induced=False))
            ways += [Way(turned=True, induced=False)] if self._orders.turnable else []
        return tuple(ways)
