"""A language model that knows one cohort: it reads the prompts as they are and answers from its knowledge."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.fake_provider import Reaction, says


def columns_of(prompt: str) -> dict[str, dict[str, Any]]:
    """The lines of the data block that describe a column, by name."""
    inside = prompt.split("<table>", 1)[1].split("</table>", 1)[0]
    lines = [json.loads(line) for line in inside.strip().splitlines()]
    return {line["name"]: line for line in lines if "name" in line}


@dataclass
class Oracle:
    """Answers by what it knows.

    Parameters
    ----------
    columns : by column, the numbers of its form, and the missing percentage.
    pairs : by pair, the numbers in the form that is asked for, whatever it is.
    """

    columns: Mapping[str, tuple[list[float], float | None]] = field(default_factory=dict)
    pairs: Mapping[tuple[str, str], list[float]] = field(default_factory=dict)
    rules: Mapping[str, list[dict[str, str]]] = field(default_factory=dict)
    patches: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    shaken: float = 0.0
    """How much each further elicitation of a column's numbers is off, relatively."""

    def __call__(self, request: dict[str, Any]) -> Reaction:
        name = request["response_format"]["json_schema"]["name"]
        prompt = request["messages"][1]["content"]
        answer: dict[str, Any] = getattr(self, f"_{name}")(prompt)
        reaction = says(answer)
        written = "\n".join(message["content"] for message in request["messages"])
        tokens = {"prompt_tokens": (len(written) + len(json.dumps(request["response_format"]))) // 4,
                  "completion_tokens": len(json.dumps(answer)) // 4}  # fmt: skip
        reaction.body["usage"] = tokens | {"total_tokens": sum(tokens.values())}
        return reaction

    def _columns(self, prompt: str) -> dict[str, Any]:
        factor = 1 + self.shaken * (("200 rows" in prompt) - ("expert elicitation" in prompt))
        said = []
        for name, line in columns_of(prompt).items():
            numbers, missing = self.columns.get(name, ([], None))
            give = line.get("give")
            if give == "none" or give is None:
                numbers = []
            elif give == "Q":
                numbers = [number * factor for number in numbers]
            said.append({"column": name, "numbers": numbers, "missing_percent": missing, "sure": "medium"})
        return {"columns": said}

    def _pairs(self, prompt: str) -> dict[str, Any]:
        known = columns_of(prompt)
        return {"pairs": [{"first": one, "second": other, "strength": "strong"}
                          for one, other in self.pairs if one in known or other in known]}  # fmt: skip

    def _sizes(self, prompt: str) -> dict[str, Any]:
        said = []
        for number, line in re.findall(r"^(\d+)\. (.*)$", prompt, re.MULTILINE):
            named = re.findall(r"`([^`]*)`", line)
            found = next(
                (numbers for pair, numbers in self.pairs.items() if set(pair) <= set(named)), list[float]()
            )
            said.append({"pair": int(number), "numbers": found, "sure": "high"})
        return {"pairs": said}

    def _rules(self, _prompt: str) -> dict[str, Any]:
        return {"rules": [], "derived": [], "applies": []} | dict(self.rules)

    def _patches(self, _prompt: str) -> dict[str, Any]:
        patches, self.patches = self.patches, []
        return {"patches": patches}

    def _rows(self, _prompt: str) -> dict[str, Any]:
        return {"rows": self.rows}
