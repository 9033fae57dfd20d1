"""Public keys and signature objects of TUF and DSSE, read strictly before their libraries see them (TRUST-23 to 26).

The libraries index by key id, answer junk with `KeyError`, and cannot see that two ids hold one key. So the shape of
each signature object is fixed here, and every key gets a name that depends on its material alone.
"""

import re
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import Key, Signature  # type: ignore[attr-defined]  # re-exported without __all__

from media import canonical, digest, limits, packets
from media.errors import BadSignatureError, MalformedError

_KEYID = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})", re.ASCII)
_HEX = re.compile(r"(?:[0-9a-f]{2})+", re.ASCII)

_OPENPGP_RSA: Final = ("rsa", "pgp+rsa-pkcsv1.5")
_OPENPGP_ED25519: Final = ("eddsa", "pgp+eddsa-ed25519")
# Every kind that a root of format 1 may name: OpenPGP, raw Ed25519, PKCS#11 tokens (ECDSA, RSA), ML-DSA.
_ALLOWED: Final = {
    _OPENPGP_RSA,
    _OPENPGP_ED25519,
    ("ed25519", "ed25519"),
    ("ecdsa", "ecdsa-sha2-nistp256"),
    ("ecdsa", "ecdsa-sha2-nistp384"),
    ("ecdsa", "ecdsa-sha2-nistp521"),
    ("rsa", "rsassa-pss-sha256"),
    ("rsa", "rsassa-pss-sha384"),
    ("rsa", "rsassa-pss-sha512"),
    ("ml-dsa", "ml-dsa-65/1"),
    ("ml-dsa", "ml-dsa-87/1"),
}
_LEAST_RSA_BITS: Final = 3072
_FINGERPRINT_DIGITS: Final = 40
_DIGEST_DIGITS: Final = 64
_NIST: Final = {"secp256r1": "nistp256", "secp384r1": "nistp384", "secp521r1": "nistp521"}


def load_key(keyid: str, untrusted: Any) -> tuple[Key, str]:
    """Return a public key of the root and the name of its material.

    Args:
        keyid: The id under which the root lists it.
        untrusted: The parsed JSON object.

    Raises:
        MalformedError: Another kind than format 1 names, a weak RSA key, or fields that do not fit the kind.
    """
    if not _KEYID.fullmatch(keyid):
        raise _malformed("A key id", "expected 40 or 64 lower-case hexadecimal digits")
    what = f"The key {keyid[:12]}"
    value = canonical.exact_keys(untrusted, ("keytype", "keyval", "scheme"), (), what)
    kind = (canonical.text(value["keytype"], what), canonical.text(value["scheme"], what))
    if kind not in _ALLOWED:
        raise _malformed(what, "its kind and scheme are not among those of this format version")
    if len(keyid) != (_FINGERPRINT_DIGITS if _is_openpgp(kind[1]) else _DIGEST_DIGITS):
        raise _malformed(what, "an OpenPGP key is named by its fingerprint, any other by a SHA-256")
    keyval = canonical.exact_keys(value["keyval"], ("public",), ("private",), what)
    if keyval.get("private", "") != "":
        raise _malformed(what, "it holds more than a public key")
    material = _openpgp_material(kind, keyval["public"], what) or _plain_material(kind, keyval["public"], what)
    key = Key.from_dict(keyid, {"keytype": kind[0], "scheme": kind[1], "keyval": dict(keyval)})
    return key, material


def require_signature(untrusted: Any, what: str) -> Signature:
    """Return a signature object of TUF metadata, if it has exactly the fields that its kind of key needs.

    Args:
        untrusted: One entry of `signatures`, with the signature in hexadecimal.
        what: Names the file to the reader.

    Raises:
        MalformedError: Another shape, or a covered part that is none.
    """
    value = canonical.exact_keys(untrusted, ("keyid", "sig"), ("other_headers",), f"A signature of {what}")
    keyid, signature = value["keyid"], value["sig"]
    if not isinstance(keyid, str) or not _KEYID.fullmatch(keyid):
        raise _malformed(f"A signature of {what}", "its key id is not 40 or 64 lower-case hexadecimal digits")
    if not isinstance(signature, str) or len(signature) > limits.SIGNATURE_HEX_CHARS or not _HEX.fullmatch(signature):
        raise _malformed(f"A signature of {what}", "it is not lower-case hexadecimal of an allowed length")
    if "other_headers" not in value:
        return Signature(keyid, signature)
    headers = value["other_headers"]
    if not isinstance(headers, str) or len(headers) > limits.SIGNATURE_HEX_CHARS or not _HEX.fullmatch(headers):
        raise _malformed(f"A signature of {what}", "its covered part is not lower-case hexadecimal")
    covered = packets.require_covered_part(bytes.fromhex(headers))
    if covered.kind != 0 or covered.hash_algorithm != 8 or covered.fingerprint.lower() != keyid:
        raise _malformed(f"A signature of {what}", "its covered part names another class, hash or key")
    return Signature(keyid, signature, {"other_headers": headers})


def require_signatures(untrusted: Any, what: str) -> dict[str, Signature]:
    """Return the signature objects of a metadata file by key id; one for each key at most.

    Raises:
        MalformedError: No list, an empty one, too many, one of another shape, or two under one id.
    """
    found: dict[str, Signature] = {}
    for each in canonical.array(untrusted, f"The signatures of {what}", most=limits.SIGNATURES):
        signature = require_signature(each, what)
        if signature.keyid in found:
            raise _malformed(f"The signatures of {what}", "two are under one key id")
        found[signature.keyid] = signature
    if not found:
        raise _malformed(f"The signatures of {what}", "there is none")
    return found


def verify(key: Key, signature: Signature, data: bytes, what: str) -> None:
    """Pass if the key made the signature over the data.

    Raises:
        BadSignatureError: It did not, or its kind of signature has another shape.
    """
    has_covered_part = "other_headers" in signature.unrecognized_fields
    if signature.keyid != key.keyid or has_covered_part != _is_openpgp(key.scheme):
        raise _bad(key.keyid, what, "its shape is that of another kind of key")
    try:
        key.verify_signature(signature, data)
    except (UnverifiedSignatureError, VerificationError) as error:
        raise _bad(key.keyid, what, "it does not fit") from error
    except (ValueError, TypeError, KeyError, IndexError) as error:  # what the library answers to odd numbers
        raise _bad(key.keyid, what, "it cannot be read") from error


def _is_openpgp(scheme: str) -> bool:
    return scheme.startswith("pgp+")


def _openpgp_material(kind: tuple[str, str], untrusted: Any, what: str) -> str:
    if kind == _OPENPGP_ED25519:
        value = canonical.exact_keys(untrusted, ("q",), (), what)
        return packets.curve_material("ed25519", canonical.sha256_hex(value["q"], what))  # also 64 digits
    if kind == _OPENPGP_RSA:
        value = canonical.exact_keys(untrusted, ("e", "n"), (), what)
        if not all(isinstance(each, str) and len(each) <= 4096 and _HEX.fullmatch(each) for each in value.values()):
            raise _malformed(what, "its numbers are not lower-case hexadecimal")
        return _rsa(int(value["n"], 16), int(value["e"], 16), what)
    return ""


def _plain_material(kind: tuple[str, str], untrusted: Any, what: str) -> str:
    if kind[0] == "ed25519":
        return packets.curve_material("ed25519", canonical.sha256_hex(untrusted, what))
    pem = canonical.text(untrusted, what, most=8192, lines=True)
    try:
        loaded = serialization.load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _malformed(what, "it is not a public key in PEM") from error
    if isinstance(loaded, rsa.RSAPublicKey) and kind[0] == "rsa":
        numbers = loaded.public_numbers()
        return _rsa(numbers.n, numbers.e, what)
    if isinstance(loaded, ec.EllipticCurvePublicKey) and kind[1].endswith(_NIST.get(loaded.curve.name, "?")):
        form = (serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        return packets.curve_material(_NIST[loaded.curve.name], loaded.public_bytes(*form).hex().removeprefix("04"))
    if kind[0] == "ml-dsa" and type(loaded).__name__.upper().startswith(kind[1].upper().replace("-", "")[:7]):
        form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return f"ml-dsa:{digest.sha256_hex(loaded.public_bytes(*form))}"
    raise _malformed(what, "its PEM holds another kind of key")


def _rsa(modulus: int, exponent: int, what: str) -> str:
    if modulus.bit_length() < _LEAST_RSA_BITS:
        raise _malformed(what, f"RSA keys have at least {_LEAST_RSA_BITS} bits")
    return packets.rsa_material(modulus, exponent)


def _bad(keyid: str, what: str, why: str) -> BadSignatureError:
    return BadSignatureError(
        what=f"A signature of {what} by {keyid[:12]} is refused", why=why, fix="Ask the sender who signed it."
    )


def _malformed(what: str, why: str) -> MalformedError:
    return MalformedError(
        what=f"{what} is malformed", why=why, fix="Do not use this medium; ask the sender for a new one."
    )
