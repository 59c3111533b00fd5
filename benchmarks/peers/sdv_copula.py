"""SDV's GaussianCopula in an environment of its own: fit a table, draw rows, tell seconds.

Reads `train.parquet` in the folder given and a JSON of `kinds` (by column), `rows` and `distribution` (null
for its default) on standard input; writes `made.parquet`.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any


def main() -> None:
    warnings.filterwarnings("ignore")
    import pandas as pd
    from sdv.metadata import Metadata
    from sdv.single_table import GaussianCopulaSynthesizer

    folder, asked = Path(sys.argv[1]), json.load(sys.stdin)
    train = pd.read_parquet(folder / "train.parquet")
    columns: dict[str, Any] = {
        name: {"sdtype": asked["kinds"].get(name, "numerical")} for name in train.columns
    }
    metadata = Metadata.load_from_dict({"tables": {"table": {"columns": columns}}, "relationships": []})
    began = time.perf_counter()
    synthesizer = GaussianCopulaSynthesizer(metadata, default_distribution=asked["distribution"])
    synthesizer.fit({"table": train})
    fitted = time.perf_counter()
    made = synthesizer.sample(asked["rows"])["table"]
    drawn = time.perf_counter()
    made.to_parquet(folder / "made.parquet")
    print(json.dumps({"fit": fitted - began, "sample": drawn - fitted, "rows": len(made)}))


if __name__ == "__main__":
    main()
