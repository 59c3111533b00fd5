from pathlib import Path

import pytest

from app.cli import is_loopback, main, mask_url
from app.migrate import upgrade


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://sw:hush@db:5432/sw", "postgresql+psycopg://sw:********@db:5432/sw"),
        ("redis://:hush@broker/0", "redis://:********@broker/0"),
        ("redis://:hu@sh@broker/0", "redis://:********@broker/0"),
        ("postgresql+psycopg://sw:hu/sh@db/sw", "postgresql+psycopg://sw:********@db/sw"),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
        (
            "postgresql://db/x?user=a&password=hush&sslmode=require",
            "postgresql://db/x?user=a&password=********&sslmode=require",
        ),
        ("sqlite:///synthward-data/synthward.db", "sqlite:///synthward-data/synthward.db"),
    ],
)
def test_secrets_within_urls_are_masked(url: str, shown: str) -> None:
    assert mask_url(url) == shown


def test_config_prints_every_setting_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SYNTHWARD_DATABASE_URL", "postgresql+psycopg://sw:hush@db/sw")
    monkeypatch.setenv("SYNTHWARD_ARTIFACTS_OPTIONS", '{"endpoint_url": "http://minio", "secret": "hush"}')
    assert main(["config"]) == 0
    said = capsys.readouterr().out
    assert "hush" not in said
    assert "http://minio" in said
    assert "SYNTHWARD_MAX_ROWS=10000000" in said


def test_keys_are_made_listed_and_revoked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("SYNTHWARD_DATABASE_URL", f"sqlite:///{tmp_path / 'x.db'}")
    assert main(["migrate"]) == 0
    assert main(["keys", "create", "portal"]) == 0
    lines = dict(
        line.split(":", 1)
        for line in capsys.readouterr().out.splitlines()
        if line.startswith(("id:", "key:"))
    )
    key_id, key = lines["id"].strip(), lines["key"].strip()
    assert main(["keys", "list"]) == 0
    listed = capsys.readouterr().out
    assert key_id in listed and "portal" in listed and key not in listed
    assert main(["keys", "revoke", key_id]) == 0
    assert main(["keys", "revoke", "key_none"]) == 2
    main(["keys", "list"])
    assert "revoked" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("db", False)],
)
def test_loopback_hosts_are_told_from_others(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_no_auth_is_refused_on_a_host_that_others_reach(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--no-auth", "--host", "0.0.0.0"]) == 2
    assert "loopback" in capsys.readouterr().err


def test_one_key_is_made_where_there_is_none_and_no_second(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    upgrade(f"sqlite:///{tmp_path / 'synthward.db'}")
    place = ["--data-dir", str(tmp_path)]
    main(["keys", "create", "bootstrap", "--if-none", *place])
    assert "sw_" in capsys.readouterr().out
    assert main(["keys", "create", "bootstrap", "--if-none", *place]) == 0
    assert "sw_" not in capsys.readouterr().out
    main(["keys", "list", *place])
    assert capsys.readouterr().out.count("bootstrap") == 1


def test_keys_of_a_database_without_tables_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="synthward migrate"):
        main(["keys", "list", "--data-dir", str(tmp_path)])


def test_no_worker_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHWARD_BROKER_URL", "redis://127.0.0.1:1/0")
    assert main(["worker", "--alive"]) == 2
