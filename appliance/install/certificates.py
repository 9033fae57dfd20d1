"""The box's own certificate authority and the server certificate that nginx shows; made here, never carried in.

Promises: keys are made once and are root's alone; the server certificate lives 90 days and is renewed in its last 30,
or when the site's name or addresses change; running again when nothing is due changes nothing. Clients trust `ca.crt`.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance import config as configuration
from appliance.config import Config
from media import durable
from media.clock import Clock, SystemClock
from media.errors import SealiftError

AUTHORITY_DAYS: Final = 3650
SERVER_DAYS: Final = 90
RENEW_DAYS: Final = 30
_BACKDATED: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A private key's file and its certificate's."""

    key: Path
    certificate: Path

    def read(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None:
        """Return both when they are there and belong together."""
        try:
            key = serialization.load_pem_private_key(self.key.read_bytes(), password=None)
            certificate = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        except (OSError, ValueError):
            return None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            return None
        return key, certificate

    def write(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        """Replace both, the key first."""
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        durable.replace(self.key, pem, mode=0o400)
        durable.replace(self.certificate, certificate.public_bytes(serialization.Encoding.PEM), mode=0o444)


def ensure(config: Config, *, clock: Clock) -> list[str]:
    """Make what is missing or due; return the names of the certificates that were made."""
    folder = config.at.etc / "tls"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    made = []
    authority = Pair(key=folder / "ca.key", certificate=folder / "ca.crt")
    server = Pair(key=folder / "server.key", certificate=folder / "server.crt")
    if (signer := authority.read()) is None:
        signer = _make_authority(config, clock)
        authority.write(*signer)
        made.append("ca")
    present = server.read()
    if present is None or not _is_good(present[1], signer[1], config, clock):
        server.write(*_make_server(config, signer, clock))
        made.append("server")
    return made


def _names(config: Config) -> list[x509.GeneralName]:
    return [
        x509.DNSName(config.service.hostname),
        *(x509.IPAddress(ip_address(address)) for address in config.network.addresses),
    ]


def _is_good(certificate: x509.Certificate, authority: x509.Certificate, config: Config, clock: Clock) -> bool:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return (
        certificate.issuer == authority.subject
        and list(names) == _names(config)
        and certificate.not_valid_after_utc - clock.now() > timedelta(days=RENEW_DAYS)
    )


def _make_authority(config: Config, clock: Clock) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Sealift"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Sealift CA of {config.site}"),
        ]
    )
    certificate = (
        _builder(name, name, key, days=AUTHORITY_DAYS, clock=clock)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA384())
    )
    return key, certificate


def _make_server(
    config: Config, authority: tuple[ec.EllipticCurvePrivateKey, x509.Certificate], clock: Clock
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    signer, issuer = authority
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, config.service.hostname)])
    certificate = (
        _builder(name, issuer.subject, key, days=SERVER_DAYS, clock=clock)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_names(config)), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA384())
    )
    return key, certificate


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, days: int, clock: Clock
) -> x509.CertificateBuilder:
    now = clock.now()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def main() -> None:
    """Entry point of the role `tls`: print what was made as one JSON object."""
    parser = argparse.ArgumentParser(prog="appliance.install.certificates")
    parser.add_argument("--config", type=Path, default=configuration.DEFAULT_PATH)
    arguments = parser.parse_args()
    try:
        made = ensure(configuration.load(arguments.config), clock=SystemClock())
    except SealiftError as error:
        sys.stderr.write(f"{error.what}: {error.why}\n")
        raise SystemExit(error.exit_code) from error
    sys.stdout.write(json.dumps({"changed": bool(made), "made": made}) + "\n")


if __name__ == "__main__":
    main()
