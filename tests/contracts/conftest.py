"""Puts a package from outside on the path, as `pip install` would: its entry points are real."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

OUTSIDE = str(Path(__file__).parent / "outside_plugin")


def pytest_configure() -> None:
    sys.path.append(OUTSIDE)


@pytest.fixture(scope="session", autouse=True)
def outside_plugin() -> Iterator[None]:
    from app.generators import registry

    if OUTSIDE not in sys.path:
        sys.path.append(OUTSIDE)
    registry.refresh()
    yield
    sys.path.remove(OUTSIDE)
    registry.refresh()
