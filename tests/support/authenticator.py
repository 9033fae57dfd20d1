"""A security key in software, for tests: what an authenticator and a browser answer together, byte by byte.

Nothing of the library that verifies is used, so that a fault of it is not repeated here (WebAuthn Level 2, 6.1, 6.5).
"""

import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from appliance.promote.base64text import encode_url
from appliance.promote.presented import Presented

PRESENT, VERIFIED, WITH_KEY = 0x01, 0x04, 0x40


@dataclass(slots=True)
class Authenticator:
    """One key of one person at one site; `counter` rises with each use unless a test holds it."""

    rp_id: str = "localhost"
    origin: str = "http://localhost:8001"
    counter: int = 0
    secret: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    credential_id: bytes = field(default_factory=lambda: secrets.token_bytes(16))

    def register(self, asked: dict[str, Any], *, flags: int = PRESENT | VERIFIED) -> dict[str, str]:
        """Answer `navigator.credentials.create` as the page sends it on."""
        numbers = self.secret.public_key().public_numbers()
        key = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}
        attested = bytes(16) + len(self.credential_id).to_bytes(2, "big") + self.credential_id + cbor2.dumps(key)
        data = self._data(flags | WITH_KEY) + attested
        attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})
        return {
            "challenge": str(asked["challenge"]),
            "credential_id": encode_url(self.credential_id),
            "attestation": encode_url(attestation),
            "client_data": encode_url(self._client("webauthn.create", str(asked["challenge"]))),
        }

    def assertion(
        self, statement: bytes, *, flags: int = PRESENT | VERIFIED, counts: bool = True, **client: Any
    ) -> dict[str, str]:
        """Answer `navigator.credentials.get` over a statement's digest, field by field as the page sends it on."""
        self.counter += counts
        data = self._data(flags)
        client_data = self._client("webauthn.get", encode_url(hashlib.sha256(statement).digest()), **client)
        signature = self.secret.sign(data + hashlib.sha256(client_data).digest(), ec.ECDSA(SHA256()))
        return {
            "credential_id": encode_url(self.credential_id),
            "authenticator_data": encode_url(data),
            "client_data": encode_url(client_data),
            "signature": encode_url(signature),
        }

    def approve(self, statement: bytes, **how: Any) -> Presented:
        """Return what is handed in for a statement."""
        return Presented.by_security_key(self.assertion(statement, **how))

    def _data(self, flags: int) -> bytes:
        return hashlib.sha256(self.rp_id.encode()).digest() + bytes((flags,)) + self.counter.to_bytes(4, "big")

    def _client(self, kind: str, challenge: str, /, **client: Any) -> bytes:
        fields = {"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": False, **client}
        return json.dumps(fields).encode()
