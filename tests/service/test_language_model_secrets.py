"""A real table's planted persons are in no byte that a language model's provider is sent, and in no store.

Looked at, for both strategies, with `disclose: "statistics"` and without: what the provider received, all
that the service answers about the jobs, the log of all its processes, and every file that it keeps but the
dataset's own.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.fake_provider import FakeProvider, Reaction, knowing_nothing, says, serving
from tests.service.conftest import Service, post_job, upload
from tests.service.test_canaries import as_csv, canaries_in, told_of

SHAPES = ("Zanzibar", "98713", "CANARY", "Quokka", "1871-03-09", "04:44:41", "7139", "-4417.137")
"""One of each column but `dead`, which has two values that many share."""
OWN: dict[str, Any] = {
    "description": "Patients of one ward.",
    "primaryKey": "id",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "age", "type": "integer"},
        {"name": "dose", "type": "number", "decimals": 3},
        {"name": "seen", "type": "date"},
        {"name": "at", "type": "time"},
        {"name": "note", "type": "string"},
        {"name": "dead", "type": "boolean"},
    ],
}
"""A caller's own words. Levels are not among them: what a caller declares is told, whoever has it."""


def clerk(request: dict[str, Any]) -> Reaction:
    """Knows nothing of distributions, and writes rows as they are asked for."""
    asked = request["response_format"]["json_schema"]
    if asked["name"] != "rows":
        return knowing_nothing(request)
    columns = asked["schema"]["properties"]["rows"]["items"]["properties"]
    prompt = request["messages"][1]["content"]
    first, last = map(int, re.findall(r"write rows (\d+) to (\d+)", prompt)[0])
    told = {json.loads(line).get("name"): json.loads(line) for line in re.findall(r"^\{.*\}$", prompt, re.M)}
    by_type: dict[str, Any] = {
        "integer": lambda row: 30 + row % 50,
        "number": lambda row: 50 + row / 8,
        "date": lambda row: f"2021-0{1 + row % 9}-{1 + row % 28:02}",
        "time": lambda row: f"{9 + row % 6:02}:{row % 60:02}:00",
        "boolean": lambda row: row % 3 == 0,
        "string": lambda row: f"text {row}",
    }
    # Columns are asked for as c1, c2 … or by name; either way in the order of the described ones.
    lines = [told[name] for name in told if name and name in columns] or [told[n] for n in told if n]
    rows = []
    for row in range(first, last + 1):
        values: dict[str, Any] = {}
        for key, line in zip(columns, lines, strict=False):
            levels = line.get("levels")
            values[key] = levels[row % len(levels)] if levels else by_type[line["type"]](row)
        rows.append(values)
    return says({"rows": rows})


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, FakeProvider]]:
    with serving(clerk) as fake:
        environment = {
            "SYNTHWARD_LLM__FAKE__BASE_URL": fake.base_url,
            "SYNTHWARD_LLM__FAKE__MODEL": "fake-1",
            "SYNTHWARD_LLM__FAKE__API_KEY": "sk-secret-of-ours",
        }
        service = Service(tmp_path_factory.mktemp("asking") / "data", environment=environment).start()
        try:
            yield service, fake
        finally:
            service.stop()


def kept_by(data_dir: Path, log: Path) -> dict[str, str]:
    """Every file of a service as text, Parquet and ZIP files opened."""
    found = {"log": log.read_text(encoding="utf-8")}
    for path in sorted(data_dir.rglob("*")):
        if not path.is_file():
            continue
        data = path.read_bytes()
        name = str(path.relative_to(data_dir))
        found[name] = data.decode("utf-8", errors="replace")
        if data[:4] == b"PAR1":
            found[f"{name} (rows)"] = json.dumps(pq.read_table(io.BytesIO(data)).to_pylist(), default=str)
        elif data[:2] == b"PK":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                found |= {f"{name}/{item}": archive.read(item).decode() for item in archive.namelist()}
    return found


def test_planted_persons_are_told_to_no_provider_and_kept_in_no_other_store(
    asking: tuple[Service, FakeProvider],
) -> None:
    service, fake = asking
    assert canaries_in(as_csv(1).decode()) >= set(SHAPES)
    told: dict[str, str] = {}
    with service.client() as http:
        dataset = upload(http, as_csv(1)).json()["id"]
        for strategy in ("blueprint", "rows"):
            for disclose, schema in (("nothing", OWN), ("statistics", OWN), ("statistics", None)):
                fake.requests.clear()
                what = f"{strategy}, {disclose}, {'a schema of its own' if schema else 'inferred'}"
                options = {"strategy": strategy, "disclose": disclose}
                body = {
                    "generator": {"name": "llm", "options": options}, "rows": 60, "seed": 3,
                    "reference_id": dataset, "evaluation": {"target": "dead"},
                }  # fmt: skip
                job = post_job(http, body | ({"schema": schema} if schema else {}))
                assert job["status"] == "succeeded", (what, job["error"])
                sent = "\n".join(fake.prompts)
                assert fake.requests
                told_its_spread = re.search(r'"sd": (8\.[5-9]|9|10)', sent) is not None
                assert told_its_spread == (disclose != "nothing"), what
                told[f"{what}: sent"] = json.dumps(fake.requests, ensure_ascii=False)
                told |= {f"{what}: {name}": text for name, text in told_of(http, job).items()}
                told[f"{what}: rows"] = http.get(job["links"]["data"]).text
                told[f"{what}: transcript"] = http.get(job["links"]["transcript"]).text
    kept = kept_by(service.data_dir, service.log)
    own = {name for name, text in kept.items() if dataset in name}
    assert any(canaries_in(kept[name]) >= {"Zanzibar", "Quokka"} for name in own), "the search can find them"
    told |= {f"kept: {name}": text for name, text in kept.items() if name not in own}
    found = {place: canaries for place, text in told.items() if (canaries := canaries_in(text))}
    assert not found
    assert any("transcript/" in name for name in kept)


def test_the_key_of_a_provider_is_in_no_answer_and_no_store(asking: tuple[Service, FakeProvider]) -> None:
    service, fake = asking
    with service.client() as http:
        job = post_job(http, {"schema": OWN, "generator": "llm", "rows": 20})
        told = told_of(http, job) | {"transcript": http.get(job["links"]["transcript"]).text}
        told["catalog"] = http.get("/v1/generators").text
    assert any("sk-secret-of-ours" in header.get("authorization", "") for header in fake.headers)
    told |= kept_by(service.data_dir, service.log)
    assert [place for place, text in told.items() if "sk-secret" in text] == []
