import hashlib
from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.audit.note import Checkpoint, VerifierKey, sign, verify, verify_checkpoint
from appliance.errors import ProofError

# The example of the reference implementation (golang.org/x/mod/sumdb/note).
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY = VerifierKey(name="sealift/demo/0a1b2c3d", public=PRIVATE.public_key().public_bytes_raw())
ROOT = hashlib.sha256(b"root").digest()


def other_signature(text: str, name: str = "someone") -> str:
    private = Ed25519PrivateKey.from_private_bytes(bytes(32))
    key = VerifierKey(name=name, public=private.public_key().public_bytes_raw())
    return sign(text, key, private.sign).rpartition("\n\n")[2]


def test_a_note_of_the_reference_implementation_verifies() -> None:
    key = VerifierKey.from_text(PETER)

    assert verify(PETER_NOTE, [key]) == PETER_NOTE.partition("\n\n")[0] + "\n"
    assert key.to_text() == PETER


def test_the_verifier_key_of_a_public_log_has_its_published_id() -> None:
    text = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"

    assert VerifierKey.from_text(text).to_text() == text


def test_what_is_signed_verifies_and_every_changed_character_is_noticed() -> None:
    text = Checkpoint(origin=KEY.name, size=20852163, root=ROOT).to_text()
    signed = sign(text, KEY, PRIVATE.sign)

    assert verify_checkpoint(signed, [KEY]) == Checkpoint(origin=KEY.name, size=20852163, root=ROOT)
    for index, character in enumerate(signed):
        altered = signed[:index] + chr(ord(character) ^ 1) + signed[index + 1 :]
        with pytest.raises(ProofError):
            verify(altered, [KEY])


def test_a_checkpoint_has_the_three_lines_of_the_specification() -> None:
    text = Checkpoint(origin="sealift/demo/0a1b2c3d", size=0, root=ROOT).to_text()

    assert text == f"sealift/demo/0a1b2c3d\n0\n{b64encode(ROOT).decode()}\n"


def test_signatures_of_keys_nobody_knows_are_ignored_but_do_not_suffice() -> None:
    text = "text\n"
    signed = sign(text, KEY, PRIVATE.sign) + other_signature(text)

    assert verify(signed, [KEY]) == text
    with pytest.raises(ProofError):
        verify(f"{text}\n{other_signature(text)}", [KEY])


def test_a_known_key_with_a_wrong_signature_is_an_error_even_beside_a_good_one() -> None:
    good = sign("text\n", KEY, PRIVATE.sign)
    wrong = sign("other\n", KEY, PRIVATE.sign).rpartition("\n\n")[2]

    with pytest.raises(ProofError, match="note"):
        verify(good + wrong, [KEY])


def test_a_text_may_hold_empty_lines() -> None:
    assert verify(sign("a\n\nb\n", KEY, PRIVATE.sign), [KEY]) == "a\n\nb\n"


@pytest.mark.parametrize(
    "untrusted",
    [
        "",
        "\n",
        "text\n",
        "text\n\n",
        "text\n\n— name\n",
        "text\n\n— name AAAA\n",
        "text\n\n— name AAAAAAA=",
        "text\n\n- name AAAAAAA=\n",
        "text\n\n— name AAAAAAA=\n\n",
        "text\n\n— name AAAAAAB=\n",
        "text\n\n— na me AAAAAAA=\n",
        "text\x00\n\n— name AAAAAAA=\n",
        "text\r\n\n— name AAAAAAA=\n",
        "te\ud800xt\n\n— name AAAAAAA=\n",
        "x" * 70000,
        "text\n\n" + "— name AAAAAAA=\n" * 33,
    ],
)
def test_what_is_no_note_is_refused(untrusted: str) -> None:
    with pytest.raises(ProofError):
        verify(untrusted, [KEY])


@pytest.mark.parametrize(
    "untrusted",
    [
        "",
        "name",
        "name+00000000",
        "name+00000000+AAAA",
        PETER.replace("c74f20a3", "c74f20a4"),
        PETER.replace("+AR", "+BR"),
        PETER.replace("PeterNeumann", ""),
        PETER.replace("PeterNeumann", "Peter Neumann"),
        PETER[:-1],
        PETER + "=",
    ],
)
def test_what_is_no_verifier_key_is_refused(untrusted: str) -> None:
    with pytest.raises(ProofError):
        VerifierKey.from_text(untrusted)


@pytest.mark.parametrize(
    "untrusted",
    [
        "",
        "origin\n1\n",
        "origin\n01\nAAAA\n",
        "origin\n-1\n" + b64encode(ROOT).decode() + "\n",
        "origin\n1\n" + b64encode(ROOT).decode(),
        "\n1\n" + b64encode(ROOT).decode() + "\n",
        "origin\n1\n" + b64encode(ROOT[:31]).decode() + "\n",
        "origin\n1\n" + b64encode(ROOT).decode() + "\n\n",
        "origin\n99999999999999999999\n" + b64encode(ROOT).decode() + "\n",
        "origin\n\u0661\n" + b64encode(ROOT).decode() + "\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(untrusted: str) -> None:
    with pytest.raises(ProofError):
        Checkpoint.from_text(untrusted)


def test_extension_lines_of_a_checkpoint_are_ignored() -> None:
    text = Checkpoint(origin="o", size=3, root=ROOT).to_text() + "extension\n"

    assert Checkpoint.from_text(text).size == 3
