"""Keys, certificates and a small model folder to sign."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

DAY = datetime(2026, 11, 20, tzinfo=UTC)


def model_folder(folder: Path) -> Path:
    """Write a model of four files, one of them empty and one in a folder below."""
    (folder / "sub").mkdir(parents=True)
    for name, content in (("a.json", b"{}"), ("a-b.txt", b"hello"), ("empty.txt", b""), ("sub/w.bin", b"0123456789")):
        (folder / name).write_bytes(content)
    return folder


def key_pair(folder: Path, *, curve: ec.EllipticCurve | None = None, name: str = "key") -> tuple[Path, Path]:
    """Write a new key and return the files of its private and its public half."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(curve or ec.SECP256R1())
    return _private(folder / f"{name}.pem", key), _public(folder / f"{name}.pub", key)


def certified(
    folder: Path,
    *,
    may_sign: bool = True,
    is_authority: bool = True,
    days: int = 30,
    between: bool = False,
    path_length: int | None = None,
) -> tuple[Path, Path, Path]:
    """Write a key, its certificate followed by those above it, and the authority's alone.

    Args:
        folder: Where.
        may_sign: Whether the signer's certificate is for signing.
        is_authority: Whether the topmost may issue others.
        days: How long the topmost is valid.
        between: Put a certificate between the two, which upstream's chains also have.
        path_length: How many may stand between, if the topmost says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keys = [ec.generate_private_key(curve) for curve in (ec.SECP384R1(), ec.SECP256R1(), ec.SECP256R1())]
    below, middle, above = keys
    root = _certificate(
        "Authority", above, "Authority", above, is_authority=is_authority, days=days, path_length=path_length
    )
    issuer = _certificate("Office", middle, "Authority", above, is_authority=True) if between else None
    by, name = (middle, "Office") if between else (above, "Authority")
    leaf = _certificate("Publisher", below, name, by, is_authority=False, may_sign=may_sign)
    chain, authority = folder / "chain.pem", folder / "authority.pem"
    authority.write_bytes(root.public_bytes(Encoding.PEM))
    chain.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in (leaf, issuer, root) if each))
    return _private(folder / "leaf.pem", below), chain, authority


def _certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    by: ec.EllipticCurvePrivateKey,
    *,
    is_authority: bool,
    may_sign: bool = False,
    days: int = 30,
    path_length: int | None = None,
) -> x509.Certificate:
    usage = x509.KeyUsage(
        digital_signature=may_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=not may_sign and not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(DAY - timedelta(days=0 if subject == "Publisher" else 1))
        .not_valid_after(DAY + timedelta(days=days, hours=-1))
        .add_extension(
            x509.BasicConstraints(ca=is_authority, path_length=path_length if is_authority else None), critical=True
        )
        .add_extension(usage, critical=True)
        .sign(by, hashes.SHA256())
    )


def _private(file: Path, key: ec.EllipticCurvePrivateKey) -> Path:
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    file.chmod(0o600)
    return file


def _public(file: Path, key: ec.EllipticCurvePrivateKey) -> Path:
    file.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return file
