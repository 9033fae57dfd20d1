"""A site's folder of certificates, a facility's authority, and a web server that says what it was told."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.actions.tls_placing import Here
from appliance.audit.memory import MemoryLedger
from appliance.config import Config, NetworkSection, PlacesSection, ServiceSection, TlsSection
from appliance.install.certificates import fingerprint
from appliance.install.tlsfolder import TlsFolder
from media.clock import FixedClock

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
HOST = "llm.hospital.example"


@dataclass
class Server:
    """Shows what the folder shows when it is told to read again; `is_broken` makes it go on with what it had."""

    folder: TlsFolder
    is_broken: bool = False
    told: list[str] = field(default_factory=list)
    _shown: str = ""

    def reload(self) -> bool:
        found = self.folder.shown()
        name = "" if found is None else fingerprint(found.certificate)
        self.told.append(name)
        if not self.is_broken:
            self._shown = name
        return True

    def shown(self) -> str:
        return self._shown


def site(root: Path, *, hostname: str = HOST, addresses: tuple[str, ...] = ("10.0.0.7",), **tls: Any) -> Config:
    return Config(
        site="ward-7",
        places=PlacesSection(root=str(root)),
        service=ServiceSection(hostname=hostname, tls=True),
        network=NetworkSection(addresses=list(addresses)),
        tls=TlsSection(**tls),
    )


def here(config: Config, *, clock: FixedClock | None = None, ledger: MemoryLedger | None = None) -> Here:
    clock = clock or FixedClock(at=NOW)
    return Here(
        config=config,
        ledger=ledger or MemoryLedger(clock),
        clock=clock,
        server=Server(TlsFolder.of(config)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Signs whatever it is asked, also what no authority should."""

    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        return pem(self.certificate)

    def below(self, name: str = "Issuing CA", **changes: Any) -> "Authority":
        """Return an authority that this one vouches for."""
        key = changes.pop("key", None) or ec.generate_private_key(ec.SECP256R1())
        made = self.issue(key.public_key(), subject=name, is_authority=True, names=(), **changes)
        return Authority(key=key, certificate=made)

    def issue(
        self,
        public_key: Any,
        *,
        subject: str = HOST,
        names: tuple[str, ...] = (HOST,),
        begins: datetime = NOW - timedelta(days=1),
        days: int = 90,
        purposes: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.SERVER_AUTH,),
        is_authority: bool = False,
        digest: Any = None,
        digital_signature: bool = True,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name_of(subject))
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(begins + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(usage(signs=is_authority, digital_signature=digital_signature), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if names:
            alternative = x509.SubjectAlternativeName([x509.DNSName(one) for one in names])
            builder = builder.add_extension(alternative, critical=False)
        if purposes and not is_authority:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        return builder.sign(self.key, digest or hashes.SHA256())


def authority(
    name: str = "Facility Root", *, begins: datetime = NOW - timedelta(days=400), days: int = 3650, key: Any = None
) -> Authority:
    """Make a root."""
    key = key or ec.generate_private_key(ec.SECP384R1())
    made = (
        x509.CertificateBuilder()
        .subject_name(name_of(name))
        .issuer_name(name_of(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(key=key, certificate=made)


def name_of(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def usage(*, signs: bool, digital_signature: bool = True) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature and not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=not digital_signature,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def key_pem(key: Any) -> bytes:
    found = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    assert isinstance(found, bytes)
    return found
