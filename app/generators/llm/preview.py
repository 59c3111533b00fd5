"""A look at rows that a draft would give, for the critique."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.errors import RowShortfall
from app.generators.base import Sampler
from app.generators.llm.critique import MOST_COLUMNS, Seen
from app.generators.llm.dictionary import level_text, subjects
from app.schema.parse import parse_schema
from app.schema.table import Field

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.random import SeedSequence
    from numpy.typing import NDArray

ROWS = 2000
STRANGE, ORDINARY = 7, 3
ASSOCIATIONS = 15


def look(document: Mapping[str, Any], sampler: Sampler, seed: SeedSequence) -> Seen:
    """Draw rows and sum them up; fewer than ROWS where the schema has no room for so many.

    Raises
    ------
    RowShortfall
        Where not one can be drawn.
    """
    schema, _ = parse_schema(document, max_fields=len(document["fields"]))
    frame = _drawn(sampler, seed)
    fields = subjects(schema)[:MOST_COLUMNS]
    ranks = _ranks(fields, frame)
    return Seen(
        {field.name: _summary(field, frame[field.name]) for field in fields},
        _associations(ranks),
        [_row(fields, frame, place) for place in _strangest(ranks, len(frame))],
    )


def _drawn(sampler: Sampler, seed: SeedSequence) -> pd.DataFrame:
    try:
        return sampler.sample_shard(0, ROWS, seed=seed)
    except RowShortfall as shortfall:
        if not shortfall.made:
            raise
        return sampler.sample_shard(0, shortfall.made, seed=seed)


def _summary(field: Field, column: pd.Series[Any]) -> str:
    present = column.dropna()
    missing = f"; missing {100 * column.isna().mean():.1f} %" if column.isna().any() else ""
    if not len(present):
        return "always missing"
    if field.levels is not None:
        counts = present.value_counts(normalize=True)
        shares = [(level_text(field, level), 100 * float(share)) for level, share in counts.head(25).items()]
        return ", ".join(f"{name} {share:.1f} %" for name, share in shares) + missing
    numbers = _numbers(field, present)
    quantiles = [numbers.quantile(p) for p in (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)]
    told = ", ".join(_written(field, value) for value in quantiles)
    return f"min, 5, 25, 50, 75, 95 %, max: {told}; mean {_written(field, numbers.mean())}" + missing


def _numbers(field: Field, column: pd.Series[Any]) -> pd.Series[Any]:
    import pandas as pd

    if field.type in ("date", "datetime"):
        moments: Any = pd.to_datetime(column)
        return pd.Series(moments.dt.year + (moments.dt.dayofyear - 1) / 365.25)
    if field.type == "time":
        return pd.Series(column.dt.total_seconds() / 3600)
    return column.astype("float64")


def _written(field: Field, value: float) -> str:
    if field.type in ("date", "datetime"):
        return f"{value:.1f}"
    return f"{value:.4g}"


def _ranks(fields: Sequence[Field], frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns whose order means something, as ranks between −1 and 1, gaps in the middle."""
    import pandas as pd

    ranked = {}
    for field in fields:
        column = frame[field.name]
        if field.levels is not None and not (field.ordered or len(field.levels) == 2):
            continue
        if field.levels is not None:
            numbers = column.map({level: place for place, level in enumerate(field.levels)}).astype("float64")
        else:
            numbers = _numbers(field, column)
        if numbers.nunique() > 1:
            ranked[field.name] = 2 * numbers.rank(pct=True) - 1
    return pd.DataFrame(ranked, index=frame.index).fillna(0.0)


def _associations(ranks: pd.DataFrame) -> list[str]:
    if ranks.shape[1] < 2:
        return []
    matrix = ranks.corr().to_numpy()
    names = list(ranks.columns)
    pairs = [(matrix[i, j], names[i], names[j]) for i in range(len(names)) for j in range(i)]
    pairs.sort(key=lambda item: -abs(item[0]))
    return [f"`{other}` and `{one}`: rank correlation {value:.2f}"
            for value, one, other in pairs[:ASSOCIATIONS] if abs(value) >= 0.05]  # fmt: skip


def _strangest(ranks: pd.DataFrame, count: int) -> list[int]:
    """Return the rows that lie furthest from the rest in rank space (Mahalanobis), and some others."""
    import numpy as np

    ordinary = list(range(min(ORDINARY, count)))
    if ranks.shape[1] < 2:
        return ordinary
    values: NDArray[np.float64] = ranks.to_numpy()
    spread = np.cov(values, rowvar=False) + 0.05 * np.eye(values.shape[1])
    distance = np.einsum("ij,jk,ik->i", values, np.linalg.inv(spread), values)
    furthest = [int(place) for place in np.argsort(-distance, kind="stable")[:STRANGE]]
    return furthest + [place for place in ordinary if place not in furthest]


def _row(fields: Sequence[Field], frame: pd.DataFrame, place: int) -> dict[str, Any]:
    import pandas as pd

    row: dict[str, Any] = {}
    for field in fields:
        value = frame[field.name].iloc[place]
        if pd.isna(value):
            row[field.name] = None
        elif field.levels is not None:
            row[field.name] = level_text(field, value.item() if hasattr(value, "item") else value)
        elif field.kind == "temporal":
            row[field.name] = str(value)[:19].removesuffix(" 00:00:00")
        else:
            row[field.name] = float(f"{float(value):.5g}")
    return row
