"""Where security keys are used, and the challenges for registering one.

Relying party and origin come from the site file: `webauthn`, else what follows from `service`. A credential keeps those
it was registered with, so that approvals stay verifiable when the site is renamed. Challenges are random, live for ten
minutes of the monotonic clock, in memory, and count once.
"""

import secrets
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.config import Config
from appliance.errors import ApprovalRefusedError
from appliance.promote import assertion, base64text
from appliance.promote.classes import WEBAUTHN
from appliance.promote.credentials import Credential
from media.clock import Clock
from media.errors import BadSignatureError

ADMIN_PORT: Final = 8443
"""Where nginx publishes the admin page on a box."""
_CHALLENGE_BYTES: Final = 32
_LIVES_SECONDS: Final = 600.0
_MOST: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class RelyingParty:
    """The host name that keys are bound to, and the address of the page that may ask them."""

    id: str
    origin: str

    @classmethod
    def of(cls, config: Config) -> "RelyingParty":
        """Return this site's. Without TLS only a browser on this machine may use keys, under the name localhost."""
        service = config.service
        # Browsers say both in small letters, and boxes may bear capitals.
        host = service.hostname.lower() if service.tls else "localhost"
        address = f"https://{host}:{ADMIN_PORT}" if service.tls else f"http://{host}:{service.admin_port}"
        return cls(id=config.webauthn.rp_id.lower() or host, origin=config.webauthn.origin or address)


@dataclass(slots=True, kw_only=True)
class Registrations:
    """The challenges that were given out for registering a security key."""

    party: RelyingParty
    clock: Clock
    _given: dict[str, float] = field(default_factory=dict)

    def begin(self) -> dict[str, Any]:
        """Return what a browser needs to make a credential; the user's handle is random and says nothing."""
        now = self.clock.monotonic()
        self._given = {one: at for one, at in self._given.items() if now - at <= _LIVES_SECONDS}
        while len(self._given) >= _MOST:
            del self._given[next(iter(self._given))]
        challenge = base64text.encode_url(secrets.token_bytes(_CHALLENGE_BYTES))
        self._given[challenge] = now
        return {
            "challenge": challenge,
            "rp_id": self.party.id,
            "user": base64text.encode_url(secrets.token_bytes(16)),
            "algorithms": list(assertion.ALGORITHMS),
        }

    def require(self, untrusted: dict[str, Any]) -> tuple[Credential, int]:
        """Return the credential that answers a challenge of ours, and its counter.

        Raises:
            ApprovalRefusedError: It answers none, or does not verify.
            MalformedError: A field is missing or of another shape.
        """
        given = str(untrusted.get("challenge"))
        at = self._given.pop(given, None)
        if at is None or self.clock.monotonic() - at > _LIVES_SECONDS:
            raise _refused("its challenge is not of this promoter, was used, or is older than ten minutes")
        try:
            made = assertion.require_registration(
                untrusted,
                challenge=base64text.decode_url(given, "registration.challenge"),
                rp_id=self.party.id,
                origin=self.party.origin,
            )
        except BadSignatureError as error:
            raise _refused(error.why) from error
        credential = Credential.of(
            WEBAUTHN, made.key, credential_id=made.credential_id, rp_id=self.party.id, origin=self.party.origin
        )
        return credential, made.counter


def _refused(why: str) -> ApprovalRefusedError:
    return ApprovalRefusedError(
        what="the security key cannot be registered", why=why, fix="reload the page and register it again"
    )
