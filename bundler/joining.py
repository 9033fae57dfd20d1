"""A joining file: what one person brings to a ceremony, made on their own machine with keys that never leave it.

It is a DSSE envelope, of 25 kB with ML-DSA keys, that names the person, their roles and their public keys, signed by
every one of these keys, so nobody can bring a key that is another's. It proves possession and nothing about the name:
at the ceremony each person reads the digest of their own file aloud.
"""

import base64
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from securesystemslib.signer import Key, Signer  # type: ignore[attr-defined]  # no __all__

from bundler.errors import CeremonyError
from bundler.gpghome import short_home
from bundler.invitation import ROLES, USES, refused, require_person
from bundler.keycheck import certificate_facts, key_facts, require_strong
from bundler.privatekeys import PrivateKeys, place_of
from media import canonical, dsse, keys, limits
from media.digest import sha256_hex
from media.errors import MalformedError, SealiftError
from media.packets import Certificate
from media.people import Role
from media.signers import detached_sign, export_minimal, tuf_signer

PAYLOAD_TYPE: Final = "application/vnd.sealift.joining+json"
_MAX_BYTES: Final = 512 * 2**10
_OPENPGP: Final = "gpg:"
_FIELDS: Final = ("format", "id", "keys", "name", "openpgp", "roles")


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """The keys that a person names on their own machine.

    Args:
        home: Their GnuPG home, if one of the keys is an OpenPGP key.
        root: `gpg:FINGERPRINT`, `file:PATH` or `pkcs11:…`, for roots.
        release: The same, for releases, statements and custody.
        seal: Fingerprint of the OpenPGP key that signs tag manifests; the one of `release` if empty.
        keys: Where secrets come from; its places are not used.
    """

    home: Path | None
    root: tuple[str, ...] = ()
    release: tuple[str, ...] = ()
    seal: str = ""
    keys: PrivateKeys


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """A joining file whose every key signed it.

    Args:
        id: The person's id in the root.
        name: As printed.
        roles: In the order of `ROLES`.
        keys: Public keys by use, `root` and `release`.
        fingerprint: Of the OpenPGP key for tag manifests; empty for none.
        certificate: Its minimal certificate.
        sha256: Of the file: what the person reads aloud.
    """

    id: str
    name: str
    roles: tuple[str, ...]
    keys: Mapping[str, tuple[Key, ...]]
    fingerprint: str
    certificate: bytes
    sha256: str

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Read a joining file and check that every key that it names signed it.

        Raises:
            MalformedError: It is none.
            CeremonyError: A key did not sign, is weak, or is of a kind that the format does not know.
        """
        if len(untrusted) > _MAX_BYTES:
            raise MalformedError(what="This is no joining file", why=f"it has {len(untrusted)} bytes")
        envelope = dsse.Envelope.from_bytes(untrusted)
        if envelope.payload_type != PAYLOAD_TYPE:
            raise MalformedError(what="This is no joining file", why=f"its type is {envelope.payload_type}")
        what = "A joining file"
        value = canonical.exact_keys(canonical.loads_canonical(envelope.payload), _FIELDS, (), what)
        canonical.integer(value["format"], f"{what}: format", minimum=1, maximum=1)
        given = canonical.exact_keys(value["keys"], USES, (), what)
        found = {use: _keys(given[use], what) for use in USES}
        fingerprint, certificate, seal_key = _openpgp(value["openpgp"], what)
        all_keys = {key.keyid: key for own in found.values() for key in own}
        if len(all_keys) != sum(len(own) for own in found.values()):
            raise refused(f"{what} that names a key twice", "a key has one owner and one use")
        if seal_key is not None:
            all_keys.setdefault(seal_key.keyid, seal_key)
        _require_proofs(envelope, all_keys)
        joining = cls(
            id=canonical.text(value["id"], what),
            name=canonical.text(value["name"], what, most=80),
            roles=tuple(canonical.one_of(each, ROLES, what) for each in canonical.array(value["roles"], what, most=8)),
            keys=found,
            fingerprint=fingerprint,
            certificate=certificate,
            sha256=sha256_hex(untrusted),
        )
        joining.require_strong()
        return joining

    def require_strong(self) -> None:
        """Check what only gpg can say about the certificates, and that the keys fit the roles.

        Raises:
            CeremonyError: They do not.
        """
        require_person(self.id, self.name, self.roles)
        needs = {"root": Role.ROOT in self.roles, "release": bool(set(self.roles) - {Role.ROOT})}
        for use in USES:
            if needs[use] != bool(self.keys[use]):
                raise refused(f"the {use} keys of {self.id}", "the roles need some that are not there, or the reverse")
        if Role.RELEASE in self.roles and not self.certificate:
            raise refused(f"{self.id} without an OpenPGP key", "whoever signs releases seals tag manifests with one")
        if self.certificate:
            require_strong(certificate_facts(self.certificate), owner=self.name, is_here=False)

    def described(self) -> dict[str, Any]:
        """Return the entry of the root that names this person (TRUST-30)."""
        openpgp = {
            "fingerprint": self.fingerprint,
            "certificate": base64.b64encode(self.certificate).decode("ascii"),
        }
        return {
            "id": self.id,
            "name": self.name,
            "roles": [role for role in ROLES if role in self.roles],
            "keys": {use: [key.keyid for key in own] for use, own in self.keys.items() if own},
            "openpgp": openpgp if self.certificate else None,
        }


def join(person_id: str, name: str, roles: Sequence[str], brought: Brought) -> bytes:
    """Return the joining file of a person, signed by every key that they bring.

    Raises:
        CeremonyError: A key is weak, ends, or is named twice, or the keys do not fit the roles.
        SigningError: A key did not sign.
        UsageError: A key's place is none.
    """
    with ExitStack() as stack:
        home = None if brought.home is None else stack.enter_context(short_home(brought.home))
        texts = {"root": brought.root, "release": brought.release}
        named = [text.removeprefix(_OPENPGP) for text in brought.release if text.startswith(_OPENPGP)]
        seal = (brought.seal or next(iter(named), "")).replace(" ", "").upper()
        signers = {use: [_signer(text, home, brought, name, stack) for text in own] for use, own in texts.items()}
        every = [signer for own in signers.values() for signer in own]
        openpgp: dict[str, Any] | None = None
        if seal:
            sealing = _signer(f"{_OPENPGP}{seal}", home, brought, name, stack)
            openpgp = {
                "fingerprint": seal,
                "certificate": base64.b64encode(export_minimal(_home(home), seal)).decode("ascii"),
                "key": sealing.public_key.to_dict(),
            }
            if sealing.public_key.keyid in {signer.public_key.keyid for signer in signers["root"]}:
                raise refused(f"one key of {name} for roots and for tag manifests", "a key has one use")
            every += [] if sealing.public_key.keyid in {each.public_key.keyid for each in every} else [sealing]
        payload = {
            "format": 1,
            "id": person_id,
            "name": name,
            "roles": [role for role in ROLES if role in roles],
            "keys": {use: [_listed(signer.public_key) for signer in own] for use, own in signers.items()},
            "openpgp": openpgp,
        }
        made = dsse.sign(PAYLOAD_TYPE, canonical.dumps(payload), *every)
    Joining.from_bytes(made)
    return made


def _signer(text: str, home: Path | None, brought: Brought, owner: str, stack: ExitStack) -> Signer:
    if not text.startswith(_OPENPGP):
        one = PrivateKeys(places=(place_of(text),), secrets=brought.keys.secrets)
        (signer,) = stack.enter_context(one.opened()).values()
        return signer
    fingerprint = text.removeprefix(_OPENPGP).replace(" ", "").upper()
    require_strong(key_facts(_home(home), fingerprint), owner=owner)
    detached_sign(_home(home), fingerprint, b"unlock")  # as long as a person types; securesystemslib waits ten seconds
    return tuf_signer(_home(home), fingerprint)


def _home(home: Path | None) -> Path:
    if home is None:
        raise refused("an OpenPGP key without its GnuPG home", "name it with --home")
    return home


def _listed(key: Key) -> dict[str, Any]:
    return {"keyid": key.keyid, **key.to_dict()}


def _keys(untrusted: Any, what: str) -> tuple[Key, ...]:
    found = []
    for each in canonical.array(untrusted, what, most=limits.KEYS_PER_PERSON):
        value = dict(canonical.exact_keys(each, ("keyid", "keytype", "keyval", "scheme"), (), what))
        keyid = canonical.text(value.pop("keyid"), what)
        found.append(keys.load_key(keyid, value)[0])
    return tuple(found)


def _openpgp(untrusted: Any, what: str) -> tuple[str, bytes, Key | None]:
    if untrusted is None:
        return "", b"", None
    value = canonical.exact_keys(untrusted, ("certificate", "fingerprint", "key"), (), what)
    try:
        encoded = canonical.text(value["certificate"], what, most=2 * limits.CERTIFICATE_BYTES)
        parsed = Certificate.from_bytes(base64.b64decode(encoded, validate=True))
    except ValueError as error:
        raise MalformedError(what=f"{what} is malformed", why="its certificate is not base64") from error
    key, material = keys.load_key(parsed.fingerprint.lower(), value["key"])
    if value["fingerprint"] != parsed.fingerprint or material != parsed.keys[0].material:
        raise MalformedError(what=f"{what} is malformed", why="its OpenPGP key is not that of its certificate")
    return parsed.fingerprint, parsed.raw, key


def _require_proofs(envelope: dsse.Envelope, named: Mapping[str, Key]) -> None:
    signed = {signature.keyid: signature for signature in envelope.signatures}
    if set(signed) != set(named):
        raise refused("a joining file that a key of it did not sign", "each key that is brought signs, and no other")
    for keyid, signature in signed.items():
        try:
            keys.verify(named[keyid], signature, envelope.signed_bytes(), "a joining file")
        except SealiftError as error:
            raise CeremonyError(what=error.what, why=error.why, fix="ask its owner for the file again") from error
