"""Key files: made with a passphrase, opened by their owner alone, and never named in an error with a secret."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from bundler.asked import FromDescriptor, Typed
from bundler.cli.bars import own_keys
from bundler.errors import NotEmptyError, SigningError
from bundler.keyfile import KeyKind, make_key_file, open_key_file
from bundler.pkcs11 import TokenPlace
from bundler.privatekeys import FilePlace, PrivateKeys, place_of
from media import keys
from media.errors import UsageError

WORDS = "correct horse battery"
SCHEMES = {
    KeyKind.ED25519: "ed25519",
    KeyKind.P256: "ecdsa-sha2-nistp256",
    KeyKind.P384: "ecdsa-sha2-nistp384",
    KeyKind.ML_DSA_87: "ml-dsa-87/1",
}


@pytest.mark.parametrize("kind", list(KeyKind))
def test_a_key_that_is_made_opens_again_and_signs_what_a_receiver_verifies(tmp_path: Path, kind: KeyKind) -> None:
    made = make_key_file(tmp_path / "k.pem", kind, WORDS)

    opened = open_key_file(tmp_path / "k.pem", WORDS)

    assert opened.public_key == made.public_key
    assert opened.public_key.scheme == SCHEMES[kind]
    key, _ = keys.load_key(opened.public_key.keyid, opened.public_key.to_dict())
    keys.verify(key, opened.sign(b"data"), b"data", "a test")
    assert (tmp_path / "k.pem").stat().st_mode & 0o777 == 0o600
    assert b"ENCRYPTED" in (tmp_path / "k.pem").read_bytes()


def test_a_short_passphrase_and_a_file_that_exists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too short"):
        make_key_file(tmp_path / "k.pem", KeyKind.ED25519, "elevenchars")
    assert not (tmp_path / "k.pem").exists()
    (tmp_path / "k.pem").write_text("mine")
    with pytest.raises(NotEmptyError):
        make_key_file(tmp_path / "k.pem", KeyKind.ED25519, WORDS)
    assert (tmp_path / "k.pem").read_text() == "mine"


def test_a_wrong_passphrase_says_so_and_not_the_passphrase(tmp_path: Path) -> None:
    make_key_file(tmp_path / "k.pem", KeyKind.ML_DSA_87, WORDS)

    with pytest.raises(SigningError) as refused:
        open_key_file(tmp_path / "k.pem", "wrong horse battery")

    assert "passphrase is another" in refused.value.why
    assert "wrong horse" not in f"{refused.value}{refused.value.to_json()}"


def pem(private: object, passphrase: str = "") -> bytes:
    how = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    data: bytes = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)  # type: ignore[attr-defined]
    return data


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (pem(ed25519.Ed25519PrivateKey.generate()), "no passphrase"),
        (pem(rsa.generate_private_key(65537, 2048), WORDS), "kind is not used"),
        (pem(ec.generate_private_key(ec.SECP256K1()), WORDS), "curve is not used"),
        (b"junk", "no private key"),
        (b"", "no private key"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, why: str) -> None:
    file = tmp_path / "k.pem"
    file.write_bytes(content)
    file.chmod(0o600)

    with pytest.raises(SigningError) as refused:
        open_key_file(file, WORDS)
    assert why in refused.value.why


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_may_open_is_refused(tmp_path: Path, mode: int) -> None:
    make_key_file(tmp_path / "k.pem", KeyKind.ED25519, WORDS)
    (tmp_path / "k.pem").chmod(mode)

    with pytest.raises(SigningError, match="cannot be used") as refused:
        open_key_file(tmp_path / "k.pem", WORDS)
    assert refused.value.fix == "chmod 600 k.pem"


def test_secrets_come_line_by_line_from_a_descriptor(tmp_path: Path) -> None:
    make_key_file(tmp_path / "a.pem", KeyKind.ED25519, WORDS)
    make_key_file(tmp_path / "b.pem", KeyKind.ML_DSA_87, f"{WORDS} two")
    (tmp_path / "secrets").write_text(f"{WORDS}\n{WORDS} two\n")
    places = tuple(FilePlace(file=tmp_path / name) for name in ("a.pem", "b.pem"))

    with (
        (tmp_path / "secrets").open() as stream,
        PrivateKeys(places=places, secrets=FromDescriptor(_own(stream.fileno()))).opened() as opened,
    ):
        assert sorted(signer.public_key.scheme for signer in opened.values()) == ["ed25519", "ml-dsa-87/1"]


def _own(number: int) -> int:
    import os

    return os.dup(number)


def test_too_few_lines_or_no_terminal_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text("one\n")
    with (tmp_path / "secrets").open() as stream:
        secrets = FromDescriptor(_own(stream.fileno()))
    assert secrets.ask("PIN") == "one"
    with pytest.raises(SigningError, match="no line was left for PIN"):
        secrets.ask("PIN")
    with pytest.raises(UsageError):
        FromDescriptor(9999).ask("PIN")
    with pytest.raises(SigningError, match="nobody can type PIN"):
        Typed().ask("PIN")


@pytest.mark.parametrize("number", [0, 1, 2, -1])
def test_the_terminals_own_descriptors_are_no_place_for_secrets(number: int) -> None:
    with pytest.raises(UsageError):
        own_keys(None, None, number)


def test_places_are_read_from_what_is_typed() -> None:
    assert place_of("file:a/b.pem") == FilePlace(file=Path("a/b.pem"))
    assert place_of("pkcs11:token=My%20Token;object=release;id=%01%ff?module-path=/lib/m.so") == TokenPlace(
        module="/lib/m.so", token="My Token", label="release", id=b"\x01\xff"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "file:",
        "k.pem",
        "gpg:ABCD",
        "pkcs11:token=a;object=b?module-path=/m.so&pin-value=123456",
        "pkcs11:token=a;object=b?module-path=/m.so&pin-source=file:/x",
        "pkcs11:token=a;object=b;token=c?module-path=/m.so",
        "pkcs11:token=a?module-path=/m.so",
        "pkcs11:object=a?module-path=/m.so",
        "pkcs11:token=a;object=b",
        "pkcs11:token=a;object=b;slot-id=3?module-path=/m.so",
        "pkcs11:token=a;object=b;?module-path=/m.so#x",
    ],
)
def test_what_names_no_key_or_holds_a_pin_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEALIFT_PKCS11_MODULE", raising=False)
    with pytest.raises(UsageError) as refused:
        place_of(text)
    assert "123456" not in f"{refused.value.to_json()}"
