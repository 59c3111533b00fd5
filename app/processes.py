"""What every process that the API starts for a piece of work is given."""

from __future__ import annotations

import os
from pathlib import Path


def without_secrets() -> dict[str, str]:
    """Return what Python needs of our environment, and none of our settings: it has no use for a secret."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SYNTHWARD_")}
    root = str(Path(__file__).parents[1])
    known = kept.get("PYTHONPATH")
    return kept | {"PYTHONPATH": f"{root}{os.pathsep}{known}" if known else root, "OMP_NUM_THREADS": "1"}
