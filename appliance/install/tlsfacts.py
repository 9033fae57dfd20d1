"""What a person compares: the SHA-256 fingerprint of a certificate, as browsers show it."""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes


def fingerprint_of(path: Path) -> str:
    """Return the fingerprint as ``AB:CD:…``; empty when there is no certificate, or none that reads."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return ""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()
