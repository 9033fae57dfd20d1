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
    folder: Path, *, may_sign: bool = True, is_authority: bool = True, days: int = 30
) -> tuple[Path, Path, Path]:
    """Write a key, its certificate followed by its authority's, and the authority's alone."""
    folder.mkdir(parents=True, exist_ok=True)
    above, below = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
    root = _certificate("Authority", above, "Authority", above, is_authority=is_authority, may_sign=False, days=3650)
    leaf = _certificate("Publisher", below, "Authority", above, is_authority=False, may_sign=may_sign, days=days)
    chain, authority = folder / "chain.pem", folder / "authority.pem"
    authority.write_bytes(root.public_bytes(Encoding.PEM))
    chain.write_bytes(leaf.public_bytes(Encoding.PEM) + root.public_bytes(Encoding.PEM))
    return _private(folder / "leaf.pem", below), chain, authority


def _certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    by: ec.EllipticCurvePrivateKey,
    *,
    is_authority: bool,
    may_sign: bool,
    days: int,
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
        .not_valid_before(DAY)
        .not_valid_after(DAY + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
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
