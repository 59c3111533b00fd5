"""`synthward evaluate`, as a shell calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REAL = ROOT / "examples" / "brain_cancer.csv"


def evaluate(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app.cli", "evaluate", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_a_copy_is_reported_and_the_exit_status_says_nothing_of_it(tmp_path: Path) -> None:
    synthetic = tmp_path / "copy.csv"
    synthetic.write_bytes(REAL.read_bytes())
    output = tmp_path / "report"
    ended = evaluate(synthetic, "--reference", REAL, "--seed", 3, "--output", output)
    assert ended.returncode == 0, ended.stderr
    report = json.loads((output / "report.json").read_text())
    found = {metric["name"]: metric for metric in report["metrics"]}
    assert found["identical_match_share"]["value"] > 0.6  # the train part is 70 % of what was copied
    assert report["verdicts"]["privacy"]["level"] == "not_met"
    assert (report["job"]["kind"], report["job"]["id"], report["job"]["seed"]) == (
        "evaluation",
        "copy.csv",
        3,
    )
    assert report["reference"]["attempts"] is None and report["reference"]["trained_on"] is None
    assert (output / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert "Reading copy.csv" in ended.stderr and "100 %" not in ended.stdout
    assert report["summary"][0] in ended.stdout and "report.html" in ended.stdout


def test_what_cannot_be_judged_is_told_by_the_option_at_fault(tmp_path: Path) -> None:
    ended = evaluate(
        REAL, "--reference", REAL, "--target", "statuss", "--sensitive", "ki,kii", "--output", tmp_path
    )
    assert ended.returncode == 2
    assert "--target: The schema has no field of this name. Did you mean 'status'?" in ended.stderr
    assert "--sensitive: " in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "there is no such file"),
        (b"a,b\n1,2\nzebra\n", "Line 3"),
        (b"sex\nFemale\n", "has no column"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused_without_its_cells(
    tmp_path: Path, content: bytes | None, told: str
) -> None:
    synthetic = tmp_path / "made.csv"
    if content is not None:
        synthetic.write_bytes(content)
    ended = evaluate(synthetic, "--reference", REAL, "--output", tmp_path / "report")
    assert ended.returncode == 2 and told in ended.stderr and "zebra" not in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "report").exists()
