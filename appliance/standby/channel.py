"""The certificate of the channel between boxes: of its own, long-lived, named in the card that people paired by.

Nobody vouches for it but the pairing: the other side compares the whole certificate, so no authority is asked, no name
is looked up, and no clock says whether it counts. It ends with the pairing.
"""

import ssl
from datetime import timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from appliance.errors import KeyMissingError, PairingRefusedError
from media import durable
from media.clock import Clock

KEY_FILE: Final = "box-channel.pem"
_DAYS: Final = 3650
_NO_CHECK_TIME: Final = ssl.VerifyFlags(0x200000)  # X509_V_FLAG_NO_CHECK_TIME; Python has no name for it


def create(folder: Path, name: str, clock: Clock) -> str:
    """Make key and certificate where there are none, 0400 in one file; return the certificate as PEM.

    Raises:
        KeyMissingError: They could not be written or read.
    """
    file = folder / KEY_FILE
    try:
        if not file.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            durable.place_new(file, _made(name, clock), mode=0o400)
            durable.sync_folder(folder)
        text = file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise _missing(type(error).__name__) from error
    begin = text.find("-----BEGIN CERTIFICATE-----")
    if begin < 0:
        raise _missing("it holds no certificate")
    return text[begin:]


def context(own: Path, peers: list[str], *, server: bool) -> ssl.SSLContext:
    """Return a TLS 1.3 context that shows this box's certificate and takes exactly these of others, both ways.

    Args:
        own: The file with key and certificate.
        peers: Certificates as PEM.
        server: Whether to accept or to connect.

    Raises:
        KeyMissingError: This process may not read the key.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    # Which certificates count the pairing says, until it ends. A clock that is wrong, as after a battery died, would
    # only take the other box's grants from the one that serves.
    made.verify_flags |= _NO_CHECK_TIME
    try:
        made.load_cert_chain(own)
    except (OSError, ssl.SSLError) as error:
        raise _missing(type(error).__name__) from error
    made.load_verify_locations(cadata="\n".join(peers))
    return made


def require_peer(connection: ssl.SSLSocket, known: dict[bytes, str]) -> str:
    """Return which box is at the other end: the one whose card holds this very certificate.

    Raises:
        PairingRefusedError: None of them.
    """
    shown = connection.getpeercert(binary_form=True) or b""
    name = known.get(shown)
    if name is None:
        raise PairingRefusedError(
            what="a box that is not paired tried to speak",
            why="its certificate is in no pairing",
            fix="see docs/operator/standby.md",
        )
    return name


def _made(name: str, clock: Clock) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"sealift box {name}")])
    now = clock.now()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # For a release of before on the other box, which goes by its clock.
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


def _missing(why: str) -> KeyMissingError:
    return KeyMissingError(
        what="the key of this box's channel cannot be used", why=why, fix="run `sealift standby card` as root"
    )
