"""Run Anonymeter's three attacks on tables in a folder; write their rates, risks and seconds as JSON.

    python anonymeter_attacks.py folder attacks < asked.json

It runs in an environment of its own (`benchmarks/peers/anonymeter.txt`) and imports nothing of Synthward.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anonymeter.evaluators import InferenceEvaluator, LinkabilityEvaluator, SinglingOutEvaluator


def main(folder: Path, attacks: int) -> None:
    warnings.filterwarnings("ignore")
    asked = json.load(sys.stdin)
    np.random.seed(asked["seed"])  # pandas draws its targets from NumPy's global stream
    parts = ("train", "holdout", "made")
    real, control, made = (pd.read_parquet(folder / f"{name}.parquet") for name in parts)
    n = min(attacks, len(real), len(control))
    common: dict[str, Any] = {"ori": real, "syn": made, "control": control, "n_attacks": n}
    evaluators = {
        "singling_out": lambda: SinglingOutEvaluator(n_cols=3, seed=asked["seed"], **common).evaluate(
            "multivariate"
        ),
        "linkability": lambda: LinkabilityEvaluator(aux_cols=tuple(asked["halves"]), **common).evaluate(
            n_jobs=1
        ),
        "inference": lambda: InferenceEvaluator(
            aux_cols=asked["known"], secret=asked["secret"], regression=False, **common
        ).evaluate(n_jobs=1),
    }
    # Its loops are compiled on their first call; that is not counted.
    LinkabilityEvaluator(real.head(5), made.head(9), aux_cols=tuple(asked["halves"]), n_attacks=2).evaluate(1)
    found: dict[str, Any] = {"attacks": n}
    for name, run in evaluators.items():
        began = time.perf_counter()
        evaluated = run()
        results = evaluated.results(confidence_level=0.95)
        seconds = time.perf_counter() - began
        risk = results.risk()
        train, held = results.attack_rate, results.control_rate
        # The risk is cut at 0 and 1; what it is cut from, and its error at 95 %, are not.
        slope = (train.value - 1) / (1 - held.value) ** 2
        found[name] = {
            "train_rate": results.n_success / n,
            "holdout_rate": float(results.n_control) / n,
            "advantage": (train.value - held.value) / (1 - held.value),
            "error": float(np.hypot(train.error / (1 - held.value), held.error * slope)),
            "risk": risk.value,
            "interval": list(risk.ci),
            "seconds": seconds,
        }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
