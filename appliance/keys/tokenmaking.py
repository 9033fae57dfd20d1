"""Making keys on a PKCS#11 token, and what it must be able to do before the first one is made.

A token that lacks one mechanism would be found out in the middle, with some keys made: a TPM behind tpm2-pkcs11 signs
with ECDSA, not with Ed25519, and makes no symmetric key. So it is asked what it lists first.
"""

from collections.abc import Collection
from contextlib import suppress
from typing import Any, Final

from appliance.errors import KeyMissingError
from appliance.keys.provider import SECRET_BYTES

NEEDED: Final = {
    "CKM_EC_EDWARDS_KEY_PAIR_GEN": "makes the key that signs",
    "CKM_EDDSA": "signs the ledger and receipts",
    "CKM_GENERIC_SECRET_KEY_GEN": "makes keys of hashes",
    "CKM_SHA256_HMAC": "hashes API keys, people and texts",
    "CKM_AES_KEY_GEN": "makes keys that encrypt",
    "CKM_AES_GCM": "wraps what texts are sealed with",
}
"""Every mechanism that a token is used by, and what for; docs/operator/keys.md has the same table."""

ED25519: Final = (  # as a printable name, and as its object identifier (PKCS#11 v3.1, 6.3.5)
    bytes.fromhex("130c656477617264733235353139"),
    bytes.fromhex("06032b6570"),
)


def require_mechanisms(label: str, offered: Collection[str]) -> None:
    """Refuse a token that does not list every mechanism of `NEEDED`.

    Args:
        label: The token's.
        offered: What it lists, by the standard's names.

    Raises:
        KeyMissingError: It lacks some; the error names each, and what it is for.
    """
    lacking = [f"{name} ({use})" for name, use in NEEDED.items() if name not in offered]
    if lacking:
        raise KeyMissingError(
            what=f"the token {label} cannot keep this box's keys, so none was made on it",
            why=f"it lacks {', '.join(lacking)}",
            fix="take a token that lists them, or keep keys as files on a disk that a TPM unlocks: "
            "docs/operator/keys.md, What a token must offer",
        )


def make_pair(session: Any, label: str) -> tuple[Any, ...]:
    """Make an Ed25519 pair on the token that signs and never leaves it; return its handles."""
    import PyKCS11

    kept = [(PyKCS11.CKA_TOKEN, True), (PyKCS11.CKA_LABEL, label)]
    public, private = session.generateKeyPair(
        [*kept, (PyKCS11.CKA_EC_PARAMS, ED25519[0]), (PyKCS11.CKA_VERIFY, True)],
        [
            *kept,
            (PyKCS11.CKA_PRIVATE, True),
            (PyKCS11.CKA_SENSITIVE, True),
            (PyKCS11.CKA_EXTRACTABLE, False),
            (PyKCS11.CKA_SIGN, True),
        ],
        mecha=PyKCS11.Mechanism(PyKCS11.CKM_EC_EDWARDS_KEY_PAIR_GEN, None),
    )
    return public, private


def make_secret(session: Any, label: str, *, wraps: bool) -> tuple[Any, ...]:
    """Make a secret of 32 bytes that never leaves the token, AES where it wraps, else for HMAC; return its handle."""
    import PyKCS11

    uses = (PyKCS11.CKA_ENCRYPT, PyKCS11.CKA_DECRYPT) if wraps else (PyKCS11.CKA_SIGN, PyKCS11.CKA_VERIFY)
    made_by = PyKCS11.CKM_AES_KEY_GEN if wraps else PyKCS11.CKM_GENERIC_SECRET_KEY_GEN
    secret = session.generateKey(
        [
            (PyKCS11.CKA_CLASS, PyKCS11.CKO_SECRET_KEY),
            (PyKCS11.CKA_KEY_TYPE, PyKCS11.CKK_AES if wraps else PyKCS11.CKK_GENERIC_SECRET),
            (PyKCS11.CKA_TOKEN, True),
            (PyKCS11.CKA_PRIVATE, True),
            (PyKCS11.CKA_SENSITIVE, True),
            (PyKCS11.CKA_EXTRACTABLE, False),
            (PyKCS11.CKA_LABEL, label),
            (PyKCS11.CKA_VALUE_LEN, SECRET_BYTES),
            *((use, True) for use in uses),
        ],
        mecha=PyKCS11.Mechanism(made_by, None),
    )
    return (secret,)


def unmake(session: Any, handles: Collection[Any]) -> None:
    """Take what was just made off the token again, as far as it lets us."""
    import PyKCS11

    for handle in handles:
        with suppress(PyKCS11.PyKCS11Error):
            session.destroyObject(handle)
