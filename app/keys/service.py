"""API keys: making, revoking, listing, and knowing whose key came with a request. Knows no FastAPI."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import logging
import re
import secrets
import time
from dataclasses import dataclass

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app import ids
from app.db import now, reading, transaction
from app.errors import Fault, InvalidInput, NotAuthenticated
from app.keys import repository
from app.keys.repository import KeyRecord

LOCAL_OWNER = "local"
"""Who owns what is made while the service runs without keys."""

_SECRET = re.compile(r"sw_([0-9a-z]{26,27})_[0-9a-f]{64}")
_NOTE_USE_EVERY = dt.timedelta(minutes=1)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `owner` scopes every query."""

    owner: str


def _hash(secret: str) -> str:
    # A plain hash is enough: the secret holds 256 random bits, so there is nothing to guess.
    return hashlib.sha256(secret.encode()).hexdigest()


def create_key(engine: Engine, name: str, owner: str | None = None) -> tuple[str, str]:
    """Make an API key.

    Parameters
    ----------
    engine : Engine
        The database.
    name : str
        What the key is for, 1 to 200 characters; shown in lists.
    owner : str, optional
        An owner that has keys already, or a name of up to 40 characters; a new owner where None.

    Returns
    -------
    (str, str)
        The key's id, and the secret. The secret is not stored: this is the only time that it can be shown.

    Raises
    ------
    InvalidInput
        Where the name or the owner is empty or too long.
    """
    faults = []
    if not 1 <= len(name) <= 200:
        faults.append(Fault("/name", "A key's name has 1 to 200 characters."))
    if owner is not None and not 1 <= len(owner) <= 40:
        faults.append(Fault("/owner", "An owner's name has 1 to 40 characters."))
    if faults:
        raise InvalidInput(faults)
    key_id = ids.new_id("key")
    secret = f"sw_{key_id.removeprefix('key_')}_{secrets.token_hex(32)}"
    record = KeyRecord(key_id, owner or ids.new_id("own"), name, _hash(secret), now(), None, None)
    with transaction(engine) as connection:
        repository.add(connection, record)
    return key_id, secret


def list_keys(engine: Engine) -> list[KeyRecord]:
    """Return every key, oldest first, revoked ones too."""
    with reading(engine) as connection:
        return repository.all_keys(connection)


def revoke_key(engine: Engine, key_id: str) -> bool:
    """Revoke a key: within `KeyRing.ttl` seconds no process accepts it. False where nothing changed."""
    with transaction(engine) as connection:
        return repository.revoke(connection, key_id, now())


class KeyRing:
    """Knows whose key a secret is, and remembers it for a few seconds. One for each process; thread-safe.

    A remembered key costs a request no query, and `last_used_at` is written at most once a minute, so that
    reading jobs takes no write lock.

    Parameters
    ----------
    engine : Engine
        The database.
    ttl : float
        Seconds for which a key is remembered: a revoked key is refused after that time at the latest.
    """

    def __init__(self, engine: Engine, ttl: float = 5.0) -> None:
        self._engine = engine
        self.ttl = ttl
        self._known: dict[str, tuple[Principal, float]] = {}

    def remembered(self, secret: str) -> Principal | None:
        """Return whose key this is where that is remembered; asks no database."""
        # Only valid secrets get in, looked up by their hash: the time it takes says nothing about any other
        # secret.
        entry = self._known.get(_hash(secret))
        return entry[0] if entry is not None and entry[1] > time.monotonic() else None

    def authenticate(self, secret: str) -> Principal:
        """Return whose key this is, asking the database.

        Raises
        ------
        NotAuthenticated
            Where the key is malformed, not known or revoked; the three are not told apart.
        """
        shape = _SECRET.fullmatch(secret)
        if shape is None:
            raise NotAuthenticated(_REFUSED)
        with reading(self._engine) as connection:
            record = repository.find(connection, f"key_{shape.group(1)}")
        if (
            record is None
            or not hmac.compare_digest(record.hash, _hash(secret))
            or record.revoked_at is not None
        ):
            raise NotAuthenticated(_REFUSED)
        principal = Principal(record.owner)
        self._remember(record.hash, principal)
        self._note_use(record)
        return principal

    def _remember(self, key_hash: str, principal: Principal) -> None:
        moment = time.monotonic()
        if len(self._known) >= 10_000:
            self._known = {known: entry for known, entry in self._known.items() if entry[1] > moment}
        self._known[key_hash] = (principal, moment + self.ttl)

    def _note_use(self, record: KeyRecord) -> None:
        moment = now()
        if record.last_used_at is not None and moment - record.last_used_at < _NOTE_USE_EVERY:
            return
        try:
            with transaction(self._engine) as connection:
                repository.touch(connection, record.id, moment, moment - _NOTE_USE_EVERY)
        except SQLAlchemyError:
            _log.warning("could not note the use of key %s", record.id)  # no reason to refuse a good key


_REFUSED = "The key is not known, or was revoked. Check it, or ask the operator for another one."
