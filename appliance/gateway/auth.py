"""Who may ask: one API key per application, known only as a keyed hash, compared in constant time.

A missing, malformed, unknown, wrong, revoked and ended key all get the same answer in about the same time. A key of the
other stage is told so by its form alone, before anything is looked up: each stage has a pepper of its own, and neither
could judge the other's keys. A revocation is in force within two seconds.
"""

import hmac
import re
import threading
from dataclasses import dataclass
from typing import Any, Final, Protocol

from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError

from appliance.config import Places
from appliance.errors import NotInstalledError, StoreDamagedError
from appliance.gateway import problems
from appliance.gateway.onelook import LastFailure
from appliance.keys.provider import KeyProvider
from appliance.phi.policy import PhiMode
from appliance.stages import Stage
from appliance.state.database import open_state
from appliance.state.tables import ApiKey as ApiKeyRow
from media.clock import Clock, from_text

PEPPER: Final = "api-key-pepper"
_FORMS: Final = {
    Stage.PRODUCTION: re.compile(r"sl-([A-Za-z2-7]{10})-[A-Za-z0-9_-]{43}"),
    Stage.TEST: re.compile(r"sl-test-([A-Za-z2-7]{10})-[A-Za-z0-9_-]{43}"),
}
_FRESH_SECONDS: Final = 1.0
_REMEMBERED_KEYS: Final = 10_000
_NOBODY: Final = "0" * 64
_LONGEST: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What a key stands for. `secret_hmac` is HMAC-SHA256 of the whole key text under version `key_version`."""

    key_id: str
    secret_hmac: str
    key_version: int
    department: str
    phi_mode: PhiMode
    tier: str


class ApiKeys(Protocol):
    """Where keys are looked up."""

    def lookup(self, key_id: str) -> ApiKey | None:
        """Return the key with this id unless it is revoked or unknown.

        Raises:
            StoreDamagedError: It cannot be told.
        """
        ...

    def is_ended(self, key_id: str) -> bool:
        """Tell whether a key that was made is revoked, or past its time; one that is not there yet is neither.

        Raises:
            StoreDamagedError: It cannot be told.
        """
        ...


def authenticate(untrusted: str, *, api_keys: ApiKeys, keys: KeyProvider, stage: Stage = Stage.PRODUCTION) -> ApiKey:
    """Return what a key stands for.

    Args:
        untrusted: As it came.
        api_keys: Where keys of this stage are looked up.
        keys: Holds the stage's pepper.
        stage: The one that is asked.

    Raises:
        Problem: It is not valid, or by its form for the other stage.
        KeyMissingError: The pepper is missing, so nobody can be known.
    """
    if any(other is not stage and form.fullmatch(untrusted) for other, form in _FORMS.items()):
        raise problems.wrong_stage(stage)
    form = _FORMS[stage].fullmatch(untrusted)
    known = api_keys.lookup(form[1]) if form else None
    version = known.key_version if known else None
    computed = keys.hmac(PEPPER, untrusted.encode(errors="surrogatepass"), version=version).hex()
    is_right = hmac.compare_digest(computed, known.secret_hmac if known else _NOBODY)
    if known is None or not is_right:
        raise problems.unauthorized()
    return known


def carried(authorization: str, x_api_key: str) -> str:
    """Return the key that a request's `Authorization: Bearer` or `X-Api-Key` carries; nothing where neither does."""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip()[:_LONGEST]
    return x_api_key.strip()[:_LONGEST]


class StateApiKeys:
    """Reads the keys of one stage from `state.db`; one that was found is remembered for a second.

    Args:
        places: Where the state is, and which stage is served.
        clock: Tells when a key ends.
    """

    def __init__(self, places: Places, clock: Clock) -> None:
        self._places = places
        self._clock = clock
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._known: dict[str, tuple[float, ApiKey]] = {}
        self._failure = LastFailure()

    def lookup(self, key_id: str) -> ApiKey | None:
        """Return the key; see `ApiKeys`."""
        came = self._clock.monotonic()
        if (known := self._remembered(key_id, came)) is not None:
            return known
        with self._lock:
            if (known := self._remembered(key_id, came)) is not None:  # read for another request meanwhile
                return known
            self._failure.require_none_since(came)
            began = self._clock.monotonic()
            with self._failure.noting(self._clock.monotonic):
                found = self._read(key_id)
            self._known.pop(key_id, None)
            if found is not None:
                if len(self._known) >= _REMEMBERED_KEYS:
                    self._known.clear()
                self._known[key_id] = (began, found)
        return found

    def _remembered(self, key_id: str, came: float) -> ApiKey | None:
        read_at, known = self._known.get(key_id, (float("-inf"), None))
        return known if came - read_at <= _FRESH_SECONDS else None

    def is_ended(self, key_id: str) -> bool:
        """Tell whether a key was ended; see `ApiKeys`. While the state is built anew there are no keys in it."""
        with self._lock:
            row = self._row(key_id)
        return row is not None and self._has_ended(row)

    def _has_ended(self, row: Any) -> bool:
        is_over = row.expires_at is not None and from_text(row.expires_at) <= self._clock.now()
        return row.revoked_at is not None or is_over

    def _row(self, key_id: str) -> Any:
        try:
            if self._engine is None:
                self._engine = open_state(self._places, read_only=True)
            columns = ApiKeyRow.__table__.columns
            with self._engine.connect() as connection:
                return connection.execute(select(*columns).where(ApiKeyRow.key_id == key_id)).first()
        except NotInstalledError:
            return None
        except SQLAlchemyError as error:
            raise StoreDamagedError(
                what="the keys cannot be read", why=type(error).__name__, fix="see `sealift status`"
            ) from error

    def _read(self, key_id: str) -> ApiKey | None:
        row = self._row(key_id)
        if row is None or self._has_ended(row) or (row.stage or Stage.PRODUCTION) != self._places.stage:
            return None
        return ApiKey(
            key_id=row.key_id,
            secret_hmac=row.secret_hmac,
            key_version=row.key_version,
            department=row.department,
            # A mode that this release does not know is treated as the strictest.
            phi_mode=PhiMode(row.phi_mode) if row.phi_mode in set(PhiMode) else PhiMode.BLOCK,
            tier=row.tier,
        )
