"""Errors of the isolated side. Fields, ranges and rules: `media.errors`."""

from media.errors import SealiftError


class ApplianceError(SealiftError):
    """Root of the isolated side's own errors."""


class NoSpaceError(ApplianceError):
    """A file system lacks room; `why` gives both numbers."""

    exit_code = 30
    code = "no-space"


class StoreDamagedError(ApplianceError):
    """An object in the store does not hash to its name."""

    exit_code = 31
    code = "store-damaged"


class UnknownReleaseError(ApplianceError):
    """The store holds no such release."""

    exit_code = 32
    code = "unknown-release"


class StoreBusyError(ApplianceError):
    """Another receive holds the store's lock."""

    exit_code = 33
    code = "store-busy"


class StoreWriteError(ApplianceError):
    """The store could not be written."""

    exit_code = 34
    code = "store-write"


class CopierError(ApplianceError):
    """The copying process ended without an answer; what it had stored is kept for the next try."""

    exit_code = 35
    code = "copier"


class ExportRefusedError(ApplianceError):
    """What was to leave the facility is too large, or holds what looks like an identifier or a secret."""

    exit_code = 37
    code = "export-refused"


class BackupDamagedError(ApplianceError):
    """A backup is cut, altered, of another site or not what the ledger recorded; nothing was restored from it."""

    exit_code = 38
    code = "backup-damaged"


class DatabaseError(ApplianceError):
    """The PostgreSQL server is away, refuses, or is not set up as it has to be; nothing was changed."""

    exit_code = 39
    code = "database"


class UnknownVersionError(ApplianceError):
    """The registry knows no such model version."""

    exit_code = 40
    code = "unknown-version"


class GateFailedError(ApplianceError):
    """A gate did not pass."""

    exit_code = 41
    code = "gate-failed"


class ApprovalRefusedError(ApplianceError):
    """An approval is not valid: signature, digest, nonce, expiry or person."""

    exit_code = 42
    code = "approval-refused"


class NotEnoughApprovalsError(ApplianceError):
    """Fewer than two different people approved."""

    exit_code = 43
    code = "not-enough-approvals"


class NotPromotedError(ApplianceError):
    """The version is not approved for the stage it was asked to serve in."""

    exit_code = 44
    code = "not-promoted"


class UnknownPersonError(ApplianceError):
    """No such person is enrolled at this site, or the password is wrong."""

    exit_code = 45
    code = "unknown-person"


class CodeRefusedError(ApplianceError):
    """An enrolment code is wrong or already used."""

    exit_code = 46
    code = "code-refused"


class ConflictError(ApplianceError):
    """It exists already, or someone else was first."""

    exit_code = 47
    code = "conflict"


class ClockUncertainError(ApplianceError):
    """The step needs the right time, and the machine's clock is not to be believed."""

    exit_code = 48
    code = "clock-uncertain"


class PairingRefusedError(ApplianceError):
    """Another box is not paired with this one, or what it brought is not signed, not for this box or not its next."""

    exit_code = 49
    code = "pairing-refused"


class NetworkOpenError(ApplianceError):
    """The self-test found the network open where it should be shut, or shut where it should be open."""

    exit_code = 79
    code = "network-open"


class ConfigError(ApplianceError):
    """The configuration file is missing or wrong; `what` names the dotted key."""

    exit_code = 50
    code = "config"


class InstallError(ApplianceError):
    """The installation could not be completed; what ran before keeps running."""

    exit_code = 51
    code = "install"


class PreflightError(ApplianceError):
    """The host does not meet a condition that was checked before the first write."""

    exit_code = 52
    code = "preflight"


class UnitError(ApplianceError):
    """A unit did not start or stop."""

    exit_code = 53
    code = "unit"


class NotInstalledError(ApplianceError):
    """The command needs an installed release and there is none."""

    exit_code = 54
    code = "not-installed"


class PrivilegeError(ApplianceError):
    """The command needs root or another user's rights."""

    exit_code = 55
    code = "privilege"


class KeyMissingError(ApplianceError):
    """A key the provider should hold is not there, cannot be used, or is another one than recorded."""

    exit_code = 56
    code = "key-missing"


class CiphertextError(ApplianceError):
    """A ciphertext is cut, altered, or made for another key or other data."""

    exit_code = 57
    code = "ciphertext"


class JobRefusedError(ApplianceError):
    """A typed job names what this machine does not hold, or what nobody decided."""

    exit_code = 58
    code = "job-refused"


class HostChangeError(ApplianceError):
    """A change of the host is not approved by two people as it would be made now."""

    exit_code = 59
    code = "host-change"


class EngineUnavailableError(ApplianceError):
    """No engine answers on its socket."""

    exit_code = 80
    code = "engine-unavailable"


class EngineLoadError(ApplianceError):
    """The engine refused to load: digest, memory, format or approval."""

    exit_code = 81
    code = "engine-load"


class EngineProtocolError(ApplianceError):
    """The engine said something its contract does not allow."""

    exit_code = 82
    code = "engine-protocol"


class EngineRefusedError(ApplianceError):
    """The engine answered with an error of its own: `http_status`; `engine_code`, `engine_param` where it named any."""

    exit_code = 83
    code = "engine-refused"

    def __init__(
        self,
        *,
        what: str,
        why: str = "",
        fix: str = "",
        http_status: int = 500,
        engine_code: str = "",
        engine_param: str = "",
    ) -> None:
        super().__init__(what=what, why=why, fix=fix)
        self.http_status = http_status
        self.engine_code = engine_code
        self.engine_param = engine_param


class NotActiveError(ApplianceError):
    """This box does not hold the lease of the service, or may not take it now."""

    exit_code = 89
    code = "not-active"


class ServiceError(ApplianceError):
    """A box that was asked as a client refused, failed or did not answer.

    Args:
        request_id: What its record is found by; empty where none came.
        http_status: 0 where there was no answer.
        service_code: The code of docs/api.md.
        may_be_asked_again: Whether the same question may be answered later.
    """

    exit_code = 84
    code = "service"

    def __init__(
        self,
        *,
        what: str,
        why: str = "",
        fix: str = "",
        request_id: str = "",
        http_status: int = 0,
        service_code: str = "",
        may_be_asked_again: bool = False,
    ) -> None:
        super().__init__(what=what, why=why, fix=fix)
        self.request_id = request_id
        self.http_status = http_status
        self.service_code = service_code
        self.may_be_asked_again = may_be_asked_again


class PhiUnavailableError(ApplianceError):
    """The search for patient identifiers failed, so the request must not reach an engine."""

    exit_code = 86
    code = "phi-unavailable"


class PhiBlockedError(ApplianceError):
    """The request holds patient identifiers and its key's policy refuses them."""

    exit_code = 87
    code = "phi-blocked"


class LedgerUnavailableError(ApplianceError):
    """The ledger does not answer, so nothing that must be recorded may happen."""

    exit_code = 90
    code = "ledger-unavailable"


class LedgerFullError(LedgerUnavailableError):
    """The ledger's disk is full: what was begun is still recorded, and nothing new begins."""

    exit_code = 97
    code = "ledger-full"


class LedgerDamagedError(ApplianceError):
    """The ledger's leaves, tree or checkpoints contradict each other."""

    exit_code = 91
    code = "ledger-damaged"


class ProofError(ApplianceError):
    """A proof does not verify."""

    exit_code = 92
    code = "proof"


class LedgerRefusedError(ApplianceError):
    """This socket or user may not do that."""

    exit_code = 93
    code = "ledger-refused"


class WireError(ApplianceError):
    """A process on a socket sent what the protocol does not allow, or nothing in time."""

    exit_code = 94
    code = "wire"


class CollectorError(ApplianceError):
    """The site's collector did not take records; they wait in the ledger and are sent again."""

    exit_code = 95
    code = "collector"


class LegalHoldError(ApplianceError):
    """A legal hold keeps what was to be erased or to expire."""

    exit_code = 96
    code = "legal-hold"


class CertificateRefusedError(ApplianceError):
    """A certificate, request or revocation list is not one that this box may use; `why` names the rule."""

    exit_code = 103
    code = "certificate-refused"


class AutomationKeyError(ApplianceError):
    """An automation key is unknown, wrong, ended or past its date; nothing was done."""

    exit_code = 104
    code = "automation-key"


class AutomationRefusedError(ApplianceError):
    """An automation key may not do that: its scopes do not name it, or no key ever may; `why` names the rule."""

    exit_code = 105
    code = "automation-refused"


class TooOftenError(ApplianceError):
    """An automation key asks more often than it may; a little later it may again."""

    exit_code = 106
    code = "too-often"
