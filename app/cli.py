"""The command line: `synthward serve | api | worker | migrate | evaluate | describe | keys | config`."""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from pydantic import SecretStr

from app import config

_MASK = "********"
# Up to the last @: a password may hold / and @, and to hide too much is no harm.
_PASSWORD_IN_URL = re.compile(r"(?<=://)([^:/@\s]*):(\S*)@")
_SECRET_IN_QUERY = re.compile(r"(?i)([?&][^=&]*(?:pass|secret|token|key)[^=&]*=)[^&\s]*")
_PLAIN_OPTIONS = frozenset({"endpoint_url", "region_name", "use_ssl", "anon"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    os.umask(0o077)  # database, real tables and artifacts are the service's own, whoever else has an account
    if given[:1] == ["evaluate"]:
        _become(["workers.evaluate_files", *given[1:]])  # reads its own arguments
    if given[:1] == ["describe"]:
        _become(["app.datasets.describe_files", *given[1:]])
    parsed = _parser().parse_args(given)
    status: int = parsed.run(parsed)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="synthward",
        description="Synthetic clinical tables as a service. Settings are variables SYNTHWARD_…; "
        "`synthward config` prints them.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    serve = commands.add_parser(
        "serve", help="run everything here: API, workers, sweeper and an embedded broker"
    )
    _add_address(serve)
    serve.add_argument(
        "--data-dir", type=Path, default=Path("synthward-data"), help="database, artifacts, lock"
    )
    serve.add_argument(
        "--workers", type=_positive, default=2, help="slots for quick jobs, and as many for heavy ones"
    )
    serve.add_argument(
        "--no-auth", action="store_true", help="answer without keys; on a loopback address only"
    )
    serve.set_defaults(run=_serve)

    api = commands.add_parser("api", help="run the HTTP side alone")
    _add_address(api)
    api.set_defaults(run=_api)

    worker = commands.add_parser("worker", help="run workers and sweeper alone")
    worker.add_argument(
        "--workers", type=_positive, default=2, help="slots for quick jobs, and as many for heavy ones"
    )
    worker.add_argument(
        "--alive",
        action="store_true",
        help="run nothing: exit with 0 where a worker has lately said it lives",
    )
    worker.set_defaults(run=_worker)

    migrate = commands.add_parser("migrate", help="bring the database to this version's schema")
    migrate.set_defaults(run=_migrate)

    commands.add_parser("evaluate", help="judge a synthetic table beside a real one, without a service")

    commands.add_parser("describe", help="say what of a real table may be published, as a schema to post")

    keys = commands.add_parser("keys", help="API keys").add_subparsers(required=True, metavar="what")
    place = argparse.ArgumentParser(add_help=False)
    place.add_argument("--data-dir", type=Path, help="of `serve`; default: the database in the settings")
    create = keys.add_parser("create", help="make a key and print it, once", parents=[place])
    create.add_argument("name", nargs="?", default="unnamed", help="whose it is, for your own eyes")
    create.add_argument("--if-none", action="store_true", help="make one only where there is none yet")
    create.add_argument("--owner", help="share the jobs and datasets of this owner; default: a new one")
    create.set_defaults(run=_create_key)
    listing = keys.add_parser("list", help="list the keys (not their secrets)", parents=[place])
    listing.set_defaults(run=_list_keys)
    revoke = keys.add_parser("revoke", help="let a key open nothing any more", parents=[place])
    revoke.add_argument("id")
    revoke.set_defaults(run=_revoke_key)

    commands.add_parser("config", help="print the settings, secrets masked").set_defaults(run=_config)
    return parser


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("give 1 or more")
    return number


def _serve(parsed: argparse.Namespace) -> int:
    if parsed.no_auth and not is_loopback(parsed.host):
        return _refuse("--no-auth answers anybody, so it needs a loopback --host such as 127.0.0.1.")
    command = ["workers.serve", "--host", parsed.host, "--port", str(parsed.port)]
    command += ["--data-dir", str(parsed.data_dir), "--workers", str(parsed.workers)]
    return _become([*command, *(["--no-auth"] if parsed.no_auth else [])])


def _worker(parsed: argparse.Namespace) -> int:
    if parsed.alive:
        from app.queue import CeleryQueue

        alive = CeleryQueue(config.load().broker_url.get_secret_value()).workers_alive()
        return 0 if alive else _refuse("No worker has said lately that it lives.")
    return _become(["workers.supervisor", "--workers", str(parsed.workers)])


def _become(module: Sequence[str]) -> NoReturn:
    """Go on as another module: the HTTP side's code, this one too, never imports the workers'."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", *module])


def _api(parsed: argparse.Namespace) -> int:
    if config.load().no_auth and not is_loopback(parsed.host):
        return _refuse("SYNTHWARD_NO_AUTH answers anybody, so it needs a loopback --host such as 127.0.0.1.")
    import uvicorn

    from app.wire import Wire

    uvicorn.run(
        "app.main:from_environment",
        factory=True,
        http=Wire,
        host=parsed.host,
        port=parsed.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    return 0


def _migrate(_: argparse.Namespace) -> int:
    from app.migrate import upgrade

    upgrade(config.load().database_url.get_secret_value())
    return 0


def _create_key(parsed: argparse.Namespace) -> int:
    from app.keys import service

    engine = _engine(parsed)
    if parsed.if_none and service.list_keys(engine):
        print("There are keys already; none was made.")
        return 0
    key_id, key = service.create_key(engine, parsed.name, parsed.owner)
    print(f"id:  {key_id}\nkey: {key}\nIt is shown only now; keep it safe.")
    return 0


def _list_keys(parsed: argparse.Namespace) -> int:
    from app.keys import service

    for row in service.list_keys(_engine(parsed)):
        used = row.last_used_at.isoformat(timespec="seconds") if row.last_used_at else "never"
        state = "revoked" if row.revoked_at else "active"
        print(f"{row.id}\t{state}\t{row.name}\towner {row.owner}\tlast used {used}")
    return 0


def _revoke_key(parsed: argparse.Namespace) -> int:
    from app.keys import service

    if not service.revoke_key(_engine(parsed), parsed.id):
        return _refuse("There is no such key; `synthward keys list` shows the ids.")
    print("revoked")
    return 0


def _engine(parsed: argparse.Namespace) -> Any:
    from app.db import connect
    from app.migrate import is_current

    url = config.load().database_url.get_secret_value()
    if parsed.data_dir is not None:
        url = f"sqlite:///{parsed.data_dir.resolve() / 'synthward.db'}"
    engine = connect(url, pool_size=1)
    if not is_current(engine):
        raise SystemExit(
            "The database has not this version's tables. Run `synthward migrate` first, or name the folder "
            "that `synthward serve` uses with --data-dir."
        )
    return engine


def _config(_: argparse.Namespace) -> int:
    settings = config.load()
    for name, field in type(settings).model_fields.items():
        print(f"SYNTHWARD_{name.upper()}={_shown(name, getattr(settings, name))}", end="")
        print(f"  # {field.description}" if field.description else "")
    return 0


def _shown(name: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, SecretStr):
        return str(value)
    secret = value.get_secret_value()
    if name.endswith("_url"):
        return mask_url(secret)
    if name.endswith("_options"):
        return _mask_options(secret)
    return _MASK if secret else ""


def mask_url(url: str) -> str:
    """Return a URL with its password, and what looks like a secret in its query, masked."""
    return _SECRET_IN_QUERY.sub(rf"\g<1>{_MASK}", _PASSWORD_IN_URL.sub(rf"\g<1>:{_MASK}@", url))


def _mask_options(text: str) -> str:
    try:
        options = json.loads(text)
    except json.JSONDecodeError:
        return _MASK
    if not isinstance(options, dict):
        return _MASK
    return json.dumps({name: value if name in _PLAIN_OPTIONS else _MASK for name, value in options.items()})


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host of that name."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refuse(reason: str) -> int:
    print(reason, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
