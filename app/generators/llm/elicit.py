"""What a language model knows of a table, asked in steps and put around what is declared.

The story: rules first (what is derived needs no judgement), then each column on its own, then which columns
go together, then how strongly; each of the last three by several elicitations that know nothing of one
another and look at the matter differently. Then what comes of it is shown, and criticised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from app.errors import ProviderError, RowShortfall, pointer
from app.generators.llm import critique, marginals, pairs, rules, sizes
from app.generators.llm.dictionary import Known, blocks, in_order_of, subjects
from app.generators.llm.doubt import doubt_of
from app.generators.llm.draft import Addition, Draft
from app.generators.llm.interview import Filled, Sheet, fill
from app.generators.llm.talk import Talk
from app.schema.table import Field

_MOST_WARNINGS = 25
"""Of one kind; the rest is told together."""
_MOST_NAMED = 40
_RULES_AT_ONCE = 40

Warn = Callable[[str, str], None]


class Tell(Protocol):
    """Is told how far the talk is."""

    def __call__(self, fraction: float, detail: str = "", eta_seconds: float | None = None) -> None:
        """Report `fraction` (0 … 1) done."""


class Preview(Protocol):
    """Draws a few rows of a document as it stands."""

    def __call__(self, document: Mapping[str, Any], provenance: Mapping[str, Any]) -> critique.Seen:
        """Return what is to be criticised."""


class Sift(Protocol):
    """Judges expressions by rows that were drawn without them."""

    def rules(self, document: Mapping[str, Any], candidates: Sequence[str]) -> Sequence[str]:
        """Return for each rule, together with those before it, why it is not believed; "" where it is."""

    def conditions(self, document: Mapping[str, Any], candidates: Sequence[str]) -> Sequence[bool]:
        """Return for each condition whether enough rows meet it."""


@dataclass(frozen=True)
class Elicited:
    """What elicitation came to.

    Parameters
    ----------
    document : dict
        A schema: what is declared, and what the model said.
    provenance : dict
        By pointer into `document`: `source`, `answers`, `spread` on `scale`, `sure`, `why`.
    rounds : tuple of dict
        Of critique: the patches that were made, with their reasons, and those that were not.
    """

    document: dict[str, Any]
    provenance: dict[str, dict[str, Any]]
    rounds: tuple[dict[str, Any], ...] = ()


@dataclass
class Elicitation:
    """One job's elicitation.

    Parameters
    ----------
    document : mapping
        The declared schema document.
    times : int
        Elicitations of each figure.
    critiques : int
        Rounds of critique, at most.
    """

    document: Mapping[str, Any]
    talk: Talk
    times: int
    critiques: int
    warn: Warn
    tell: Tell
    preview: Preview | None = None
    sift: Sift | None = None
    _known: dict[str, Known] = field(default_factory=dict)
    _estimates: dict[str, marginals.Estimate] = field(default_factory=dict)
    _warned: int = 0
    _untold: int = 0
    _unsure_of: list[str] = field(default_factory=list)
    _problem: ProviderError | None = None
    _usable: int = 0

    def run(self) -> Elicited:
        """Ask all that is open.

        Raises
        ------
        ProviderError
            Where nothing can be asked, the budget is reached, or no answer at all could be used.
        """
        draft = Draft(self.document, self.warn)
        self.tell(0.0, "asking what no row may break")
        self._rules(draft)
        self.tell(0.1, "asking how the columns are distributed")
        self._marginals(draft)
        self.tell(0.4, "asking which columns go together")
        stated = self._pairs(draft)
        self.tell(0.6, "asking how strongly they go together")
        self._sizes(draft, stated)
        if not self._usable and self._problem is not None:
            raise self._problem  # rows of mere defaults would look as if something had been said
        self.tell(0.85, "looking at a preview")
        rounds = self._critique(draft)
        self._tell_the_rest()
        self.tell(1.0)
        return Elicited(draft.document(), draft.provenance(), rounds)

    # Steps -------------------------------------------------------------------------------------------

    def _rules(self, draft: Draft) -> None:
        groups = blocks(draft.schema.fields, _RULES_AT_ONCE)
        sheets = [
            rules.sheet(draft, group, f"rules, part {part}" if len(groups) > 1 else "rules")
            for part, group in enumerate(groups, start=1)
        ]
        found: dict[str, Addition] = {}
        for filled in self._fill(sheets):
            found |= filled.entries
        for addition in found.values():  # one by one: two may not go together
            if rules.fault_of(draft.schema, addition) is None:
                draft.add(addition)

    def _marginals(self, draft: Draft) -> None:
        schema = draft.schema
        asked = [
            item
            for item in subjects(schema)
            if marginals.form_of(schema, item) != "none" or marginals.asks_missing(item)
        ]
        sheets = []
        for elicitation in range(self.times):
            groups = blocks(in_order_of(asked, elicitation))
            sheets += [
                marginals.sheet(schema, group, elicitation, _purpose("columns", elicitation, part, groups))
                for part, group in enumerate(groups, start=1)
            ]
        entries: dict[str, list[marginals.Entry]] = {item.name: [] for item in asked}
        for filled in self._fill(sheets):
            for name, entry in filled.entries.items():
                entries[name].append(entry)
        for item in subjects(schema):
            found = marginals.estimate(item, entries.get(item.name, []))
            self._estimates[item.name] = found
            self._known[item.name] = found.known
            self._unsure(draft, item.name, "statistics", found.origin)
            asked_for_numbers = item.name in entries and marginals.form_of(schema, item) != "none"
            if asked_for_numbers and not found.numbers:
                self.warn(
                    pointer("fields", schema.index(item.name), "statistics"),
                    f"The language model said nothing usable about `{item.name}`: a default is taken.",
                )
        self._drop_doubtful_formulas(draft)
        draft.add(*(made for item in subjects(draft.schema)
                    for made in marginals.additions(item, self._estimates[item.name])))  # fmt: skip
        self._sift_conditions(draft)
        self._sift_rules(draft)

    def _drop_doubtful_formulas(self, draft: Draft) -> None:
        middle = {name: known.mean for name, known in self._known.items() if known.mean is not None}
        for addition in [item for item in draft.additions if item.place == "formula"]:
            numbers = self._estimates[addition.column].numbers if addition.column in self._estimates else ()
            if len(numbers) == 7 and rules.doubtful_formula(
                draft.schema, addition.column, middle, (numbers[0], numbers[-1])
            ):
                self.warn(
                    pointer("fields", draft.schema.index(addition.column)),
                    f"Left out the formula `{addition.value}` that the language model gave: at typical "
                    "values it does not give what the model says the column holds.",
                )
                draft.remove(lambda item, dropped=addition: item is dropped)  # type: ignore[misc]

    def _sift_rules(self, draft: Draft) -> None:
        said = [item for item in draft.additions if item.place == "rules"]
        if not said or self.sift is None:
            return
        reasons = self.sift.rules(_without(draft.document(), said), [item.value for item in said])
        for item, reason in zip(said, reasons, strict=True):
            if reason:
                self.warn(
                    "/rules", f"Left out the rule `{item.value}` that the language model gave: {reason}."
                )
        dropped = {id(item) for item, reason in zip(said, reasons, strict=True) if reason}
        draft.remove(lambda item: id(item) in dropped)

    def _sift_conditions(self, draft: Draft) -> None:
        said = [item for item in draft.additions if item.place == "relevant"]
        if not said or self.sift is None:
            return
        without = Draft(self.document, lambda *_: None, [
            item for item in draft.additions if item.place not in ("relevant", "rules")])  # fmt: skip
        enough = self.sift.conditions(without.document(), [item.value for item in said])
        for item, met in zip(said, enough, strict=True):
            if not met:
                self.warn(
                    pointer("fields", draft.schema.index(item.column)),
                    f"Left out that `{item.column}` applies only where `{item.value}`, as the language model "
                    "said: with the statistics of its columns hardly any row would have it.",
                )
        dropped = {id(item) for item, met in zip(said, enough, strict=True) if not met}
        draft.remove(lambda item: id(item) in dropped)

    def _fits(self, draft: Draft, rule: str) -> bool:
        """Whether a rule of the critique may be believed beside the elicited ones that stand already."""
        if self.sift is None:
            return True
        said = [item for item in draft.additions if item.place == "rules" and item.value != rule]
        *_, reason = self.sift.rules(_without(draft.document(), said), [*(item.value for item in said), rule])
        return not reason

    def _pairs(self, draft: Draft) -> list[sizes.Asked]:
        schema = draft.schema
        asked = pairs.candidates(schema, subjects(schema))
        told = self._told(asked)
        sheets = [
            sheet
            for elicitation in range(self.times)
            for sheet in pairs.sheets(schema, asked, told, elicitation)
        ]
        votes = [filled.entries for filled in self._fill(sheets)]
        chosen = pairs.chosen(votes, len(asked), pairs.settled(schema), set())
        return [sizes.asked_of(schema, pair, self._known) for pair in chosen]

    def _sizes(self, draft: Draft, stated: Sequence[sizes.Asked]) -> None:
        schema = draft.schema
        told = self._told(schema.fields)
        groups = sizes.groups(stated)
        sheets = [
            sizes.sheet(schema, group, told, elicitation, _purpose("sizes", elicitation, part, groups))
            for elicitation in range(self.times)
            for part, group in enumerate(groups, start=1)
        ]
        answers: dict[pairs.Pair, list[tuple[tuple[float, ...], str]]] = {item.pair: [] for item in stated}
        for filled in self._fill(sheets):
            for pair, answer in filled.entries.items():
                answers[pair].append(answer)
        additions: list[Addition] = []
        for item in stated:
            if answers[item.pair]:
                made = sizes.statements(item, answers[item.pair], self._known)
                additions += made
                if made:
                    self._unsure(draft, item.outcome.name, f"{item.given.name} and it", made[0].origin)
        draft.add(*additions)

    def _critique(self, draft: Draft) -> tuple[dict[str, Any], ...]:
        rounds = []
        for number in range(1, self.critiques + 1):
            if self.preview is None:
                break
            try:
                seen = self.preview(draft.document(), draft.provenance())
            except RowShortfall as shortfall:  # the job may ask for fewer rows; else it names the fault
                self.warn("", f"The language model was shown no preview to criticise: {shortfall.why}")
                break
            sheet = critique.sheet(draft, seen, self._known, f"critique {number}")
            (filled,) = self._fill([sheet])
            before = draft.document()
            made, refused = critique.apply(
                draft,
                list(filled.entries.values()),
                self._known,
                lambda rule: self._fits(draft, rule),
            )
            if filled.entries:
                rounds.append({"patches": made, "not_made": refused})
            if draft.document() == before:  # no patch, none that was made, or only what stood there before
                break
        return tuple(rounds)

    # Means -------------------------------------------------------------------------------------------

    def _fill(self, sheets: Sequence[Sheet]) -> list[Filled]:
        filled = self.talk.side_by_side(lambda sheet: fill(self.talk, sheet), sheets)
        for sheet, one in zip(sheets, filled, strict=True):
            if one.problem is not None:
                self._problem = one.problem
                self.warn("", f"{one.problem.detail} What it was asked for is taken from the other answers.")
            else:
                self._usable += 1
                if one.faults:
                    self._tell_faults(sheet, one)
        return filled

    def _tell_faults(self, sheet: Sheet, filled: Filled) -> None:
        if self._warned >= _MOST_WARNINGS:
            self._untold += 1
            return
        self._warned += 1
        shown = "; ".join(filled.faults[:3])
        self.warn("", f"Answers that could not be used ({sheet.question.purpose}): {shown}.")

    def _unsure(self, draft: Draft, column: str, what: str, origin: Mapping[str, Any]) -> None:
        doubt = doubt_of(origin)
        if doubt is None:
            return
        self._unsure_of.append(column)
        if len(self._unsure_of) <= _MOST_WARNINGS:
            self.warn(
                pointer("fields", draft.schema.index(column)),
                f"The language model is unsure about `{column}` ({what}): {doubt}.",
            )

    def _tell_the_rest(self) -> None:
        rest = dict.fromkeys(self._unsure_of[_MOST_WARNINGS:])
        if rest:
            named = ", ".join(f"`{name}`" for name in list(rest)[:_MOST_NAMED])
            more = f" and {len(rest) - _MOST_NAMED} more" if len(rest) > _MOST_NAMED else ""
            self.warn("", f"The language model is unsure about these columns, too: {named}{more}.")
        if self._untold:
            self.warn(
                "", f"{self._untold} more answers had parts that could not be used; see the transcript."
            )

    def _told(self, fields: Sequence[Field]) -> dict[str, dict[str, Any]]:
        return {item.name: self._known[item.name].told(item) for item in fields if item.name in self._known}


def _purpose(what: str, elicitation: int, part: int, groups: Sequence[Any]) -> str:
    return f"{what} {elicitation + 1}" + (f", part {part}" if len(groups) > 1 else "")


def _without(document: dict[str, Any], said: Sequence[Addition]) -> dict[str, Any]:
    dropped = {item.value for item in said}
    return {**document, "rules": [rule for rule in document.get("rules") or [] if rule not in dropped]}
