"""The facility's authority: it is asked by a request whose key stays here, and what it made is judged completely."""

from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.actions.tls_placing import Here, put_in_place
from appliance.errors import CertificateRefusedError, NotInstalledError
from appliance.install import certcheck, certificates
from appliance.install.certificates import Credential, Moment, fingerprint, is_issued_by, leads_to
from appliance.install.tlsfolder import TlsFolder, read_certificate
from media.clock import to_text

IMPORTED: Final = "tls.certificate-imported"
REQUESTED: Final = "tls.requested"


def is_shown(folder: TlsFolder) -> bool:
    """Tell whether what is shown is of the facility's authority; reads what everyone may read.

    That the present own authority did not sign it says nothing: a former or a lost one may have. Dates do not matter
    either: the box never falls back to its own by itself, also when the facility's has ended.
    """
    shown, authority, waiting = folder.shown(), read_certificate(folder.authority_file), folder.request()
    if shown is None or (authority is not None and is_issued_by(shown.certificate, authority)):
        return False
    # An import that was cut off has shown it already, and has not yet said that nothing waits.
    is_just_imported = waiting is not None and waiting.public_key() == shown.certificate.public_key()
    return is_just_imported or folder.gives_facilitys() or is_vouched_for(folder)


def is_vouched_for(folder: TlsFolder) -> bool:
    """Tell whether what is shown leads to the facility's root that was given to this box."""
    shown, root = folder.shown(), folder.root()
    return shown is not None and root is not None and leads_to(shown.certificate, shown.between, root)


def request(here: Here, *, moment: Moment | None = None) -> x509.CertificateSigningRequest:
    """Return the request for the facility's authority; its key is made here, stays here, and is made once.

    Raises:
        LedgerUnavailableError: It could not be recorded; there is no request.
        KeyMissingError: This user is not root.
    """
    folder = here.folder
    waiting, key = folder.request(), folder.pending()
    names = certificates.names_of(here.config)
    if waiting is not None and key is not None and waiting.public_key() == key.public_key():
        if list(waiting.extensions.get_extension_for_class(x509.SubjectAlternativeName).value) == names:
            return waiting
    else:
        key = None
    moment = moment or here.moment()
    folder.make()
    key = key or ec.generate_private_key(ec.SECP256R1())
    made = certificates.make_request(here.config, key)
    here.record(REQUESTED, {"names": [str(one.value) for one in names], "at": to_text(moment.now)})
    folder.put_pending(key, made)
    return made


def import_chain(
    here: Here, untrusted_chain: bytes, *, untrusted_root: bytes | None = None, dry_run: bool = False
) -> certcheck.Judged:
    """Judge what the facility's authority made and put it in place.

    The root is given the first time and kept; another one later has to be given again, and is recorded.

    Raises:
        CertificateRefusedError: A rule does not hold, or the site file says that the box vouches for itself;
            nothing was changed.
        NotInstalledError: No request waits, so there is no key that it could be for.
        ClockUncertainError, LedgerUnavailableError, UnitError, KeyMissingError: As `rotate`.
    """
    _require_facilitys(here)
    folder, moment = here.folder, here.moment()
    key = folder.pending()
    if key is None:
        raise NotInstalledError(
            what="no request waits on this box",
            why="a certificate is for a key that was made here",
            fix="run `sealift tls request`, and have that request signed",
        )
    root = folder.root() if untrusted_root is None else certcheck.read_root(untrusted_root, moment)
    if root is None:
        raise CertificateRefusedError(
            what="the facility's root is not known yet", why="nobody has given it", fix="give it with --root FILE"
        )
    judged = certcheck.judge(
        certcheck.read_chain(untrusted_chain),
        key=key.public_key(),
        hostname=here.config.service.hostname,
        names=certificates.names_of(here.config),
        root=root,
        moment=moment,
    )
    if dry_run:
        return judged
    made = Credential(key=key, certificate=judged.certificate, between=judged.between)
    facts = {"root": fingerprint(root), "issuer": judged.certificate.issuer.rfc4514_string()[:200]}
    put_in_place(here, made, kind=IMPORTED, facts=facts)
    folder.put_root(root)
    folder.tell_whom_to_trust(folder.root_file)
    folder.drop_pending()
    return judged


def _require_facilitys(here: Here) -> None:
    if here.config.tls.authority != "facility":
        raise CertificateRefusedError(
            what="the site file says that this box vouches for itself",
            why='tls.authority is "own", so the next rotation would put its own certificate back',
            fix='set tls.authority = "facility" in the site file, run `sealift install`, and repeat this',
        )
