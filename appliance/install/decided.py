"""Whether what a job would do was decided, and by whom: asked before any job is recorded.

Promises: nobody's word is taken for it. What people decided is read from the promoter's folder, their signatures are
verified again, and what the ledger, the store or a medium is to hold is looked for there.
"""

from collections.abc import Callable
from typing import Final

from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.errors import JobRefusedError
from appliance.install import arrivals, carried, reading
from appliance.install.certificates import fingerprint
from appliance.install.engines import wanted_engines
from appliance.install.jobs import Job, Kind, Lane
from appliance.install.releases import InstalledReleases
from appliance.install.tlsfolder import TlsFolder
from appliance.promote.clockchange import require_clock_approved
from appliance.promote.folder import PromoterFolder
from appliance.promote.standing import current_digest, loadable_digests, require_loadable, require_promoted
from appliance.registry import carriers
from appliance.store.content import ContentStore, StoredRelease

EXPORTED: Final = "export.written"
_ABOUT: Final = {
    Kind.MAKE_EVIDENCE: (("release.", "custody."), "a receive", "see `sealift evidence`"),
    Kind.PROVE: (("request.intent",), "an answer", "see `sealift audit list`"),
}
"""What the record that a job names has to be about."""


class Decided:
    """Tells what was decided on this machine.

    Args:
        config: The site file.
        ledger: Where what was done is recorded.
        read: Reads the site file as it is now, for the engines it names.
    """

    def __init__(self, config: Config, ledger: Ledger, *, read: Callable[[], Config]) -> None:
        self._config = config
        self._ledger = ledger
        self._read = read

    def require(self, job: Job) -> None:
        """Return when this machine holds what the job names, and people decided what it would do.

        Raises:
            UnknownVersionError, UnknownReleaseError: It does not.
            NotPromotedError: Two people's approvals of that version in production do not verify.
            ClockUncertainError: Two people's approvals of that correction of the clock do not verify.
            JobRefusedError: Nobody decided it.
            InstallError: The release does not read what this site has stored.
        """
        config, store = self._config, ContentStore(self._config.at.store)
        if job.kind is Kind.REPORT:
            return  # it reads, and changes nothing that anybody decides about
        if job.serial:
            self._require_release(job, store)
        elif job.lane is Lane.MEDIA or job.medium:
            self._require_medium(job)
        elif job.kind is Kind.SET_CLOCK:
            require_clock_approved(config, job.digest)
        elif job.kind is Kind.ROTATE:
            shown = TlsFolder.of(config).shown()
            if shown is None or fingerprint(shown.certificate) != job.digest:
                raise _undecided("another certificate is shown than the one to replace", "see `sealift tls show`")
        elif job.kind is Kind.STOP_PRODUCTION:
            # Of a version's engines only the first must go on: without the others it still answers.
            if not job.which and any(digest.startswith(job.digest12) for digest in loadable_digests(config.at)):
                raise _undecided("that version is in production", "stop or roll back: `sealift stop`")
        elif job.kind is Kind.HALT:
            if job.digest not in PromoterFolder(config.at.promoter).production().withdrawn:
                raise _undecided("nobody stopped that version", "let a person run `sealift stop`")
        elif job.kind not in {Kind.STOP_TEST, Kind.END_WINDOW}:
            _, descriptor, _ = carriers.carrier(store, job.digest or job.digest12)
            self._require_approved(job, descriptor.model_digest)

    def _require_approved(self, job: Job, model_digest: str) -> None:
        config, kind = self._config, job.kind
        needed, counting = config.policy.approvals, config.policy.classes
        if kind is Kind.START_PRODUCTION:
            wanted = wanted_engines(self._read(), loadable_digests(config.at), current_digest(config.at))
            if job.which and job.unit not in wanted:
                raise _undecided("the site file names no such engine", "see `engines.production` of the site file")
            require_loadable(config.at, model_digest, approvals=needed, counting=counting)
        elif kind in {Kind.SWITCH, Kind.SWITCH_WARM}:
            require_promoted(config.at, model_digest, approvals=needed, counting=counting)

    def _require_release(self, job: Job, store: ContentStore) -> None:
        stored = StoredRelease.load(store, job.serial)
        if job.kind is Kind.PLAN:
            # Here, since the unit that makes plans has a user that may not see what is stored.
            reading.require_reads(self._config.at, carried.complete(stored, InstalledReleases(self._config.at)))

    def _require_medium(self, job: Job) -> None:
        if job.kind in _ABOUT:
            families, what, fix = _ABOUT[job.kind]
            if not self._ledger.leaf(job.record).kind.startswith(families):
                raise _undecided(f"record {job.record} is not about {what}", fix)
            return
        arrival = arrivals.arrived(self._config.at, job.medium)
        if not arrival.is_mounted:
            raise _undecided(f"the medium is not in use: {arrival.why}", "see `sealift media show`")
        if job.kind is Kind.CARRY_EXPORT:
            self._require_export(job)

    def _require_export(self, job: Job) -> None:
        if not arrivals.shown(self._config.at, job.medium).may_take_exports:
            raise _undecided(
                "EXPORTs go to a medium whose label is SEALIFT-OUT and that is no Sealift volume",
                "see docs/operator/arriving.md",
            )
        if not self._ledger.find(kind=EXPORTED, field="sha256", value=job.digest, limit=1):
            raise _undecided("no EXPORT of that digest was made here", "make it with `sealift export`")


def _undecided(why: str, fix: str) -> JobRefusedError:
    return JobRefusedError(what="the job is refused", why=why, fix=fix)
