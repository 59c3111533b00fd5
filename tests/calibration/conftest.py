"""Tells the calibration's figures at the end of a run."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    from tests.calibration.test_second_sample import CALIBRATED, REPEATS

    found = config.stash.get(CALIBRATED, None)
    if not found:
        return
    terminalreporter.section(f"calibration, {REPEATS} draws of the same population")
    terminalreporter.write_line(
        f"{'figure':26} {'truth':>8} {'mean':>8} {'yardstick':>9} {'covered':>8} {'width/range':>11}"
    )
    for name, item in found.items():
        interval = item.width == item.width  # NaN where none is stated
        covered = f"{item.covered / REPEATS:.1%}" if interval else "–"
        ratio = f"{item.width / item.spread:.2f}" if interval and item.spread > 0 else "–"
        yardstick = f"{item.baselines.mean():.3f}" if item.baselines[0] == item.baselines[0] else "–"
        terminalreporter.write_line(
            f"{name:26} {item.known:8.3f} {item.values.mean():8.3f} {yardstick:>9} {covered:>8} {ratio:>11}"
        )
