"""The places everything lies in, derived from the site file's root."""

from dataclasses import dataclass
from pathlib import Path

from appliance.sections import DatabaseSection
from appliance.stages import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Every path of the appliance; nothing else spells them. `server` holds ledger and state instead of files.

    `stage` is the one that the process serves, where it serves one: each gateway counts in a folder of its own.
    """

    root: Path
    run: Path
    server: DatabaseSection | None = None
    stage: Stage = Stage.PRODUCTION

    @property
    def etc(self) -> Path:
        """Configuration, the pinned root and key files."""
        return self.root / "etc/sealift"

    @property
    def config_file(self) -> Path:
        """The site file itself."""
        return self.etc / "sealift.toml"

    @property
    def pinned_trust(self) -> Path:
        """The first root, written once at first trust and never again."""
        return self.etc / "trust"

    @property
    def key_files(self) -> Path:
        """Key files that units receive as credentials; 0700."""
        return self.etc / "keys"

    @property
    def backup_recipient(self) -> Path:
        """The certificate that backups are encrypted to; its private key is never here."""
        return self.etc / "backup-recipient.gpg"

    @property
    def database_secrets(self) -> Path:
        """Passwords by role and the certificate authority of a PostgreSQL server, as the site's people put them."""
        return self.etc / "database"

    @property
    def collector_authority(self) -> Path:
        """The certificate authority of the site's collector, PEM, as the site's people put it."""
        return self.etc / "collector-ca.pem"

    @property
    def mail_authority(self) -> Path:
        """The certificate authority of the site's mail relay, PEM, as the site's people put it."""
        return self.etc / "mail-ca.pem"

    @property
    def syslog_authority(self) -> Path:
        """The certificate authority of the site's syslog collector for alerts, PEM, as the site's people put it."""
        return self.etc / "syslog-ca.pem"

    @property
    def siem_now(self) -> Path:
        """How the forwarder to the collector stands in this boot; anybody may read."""
        return self.run / "siem"

    @property
    def boxes(self) -> Path:
        """This box's card and its pairings with others; public, written by root's commands."""
        return self.etc / "boxes"

    @property
    def mirrors(self) -> Path:
        """Copies of other boxes' ledgers, one folder each; evidence, never merged with the own ledger."""
        return self.state / "mirrors"

    @property
    def releases(self) -> Path:
        """Installed releases by serial; `current` is an atomic link among them."""
        return self.root / "opt/sealift/releases"

    @property
    def trial(self) -> Path:
        """Which release is on trial, while one is; see `appliance.install.trial`."""
        return self.releases / "trial.json"

    @property
    def current(self) -> Path:
        """The link to the installed release in use."""
        return self.root / "opt/sealift/current"

    @property
    def state(self) -> Path:
        """All that changes."""
        return self.root / "var/lib/sealift"

    @property
    def trust(self) -> Path:
        """The trust record; written by receiving only."""
        return self.state / "trust"

    @property
    def store(self) -> Path:
        """The content-addressed store."""
        return self.state / "store"

    @property
    def spool(self) -> Path:
        """Facts from before a ledger answered; the ledger appends them first."""
        return self.state / "spool"

    @property
    def ledger(self) -> Path:
        """Folder of ledger.db; opened by one process."""
        return self.state / "ledger"

    @property
    def registry(self) -> Path:
        """Folder of state.db."""
        return self.state / "registry"

    @property
    def promoter(self) -> Path:
        """People and promotions; written by the promoter only."""
        return self.state / "promoter"

    @property
    def scrub(self) -> Path:
        """Where the scrub of the store stands, and what the last one found."""
        return self.state / "scrub"

    @property
    def clock(self) -> Path:
        """What is known of this machine's clock, across power cuts; written by its watch."""
        return self.state / "clock"

    @property
    def clock_now(self) -> Path:
        """The same of this boot; empty after each start."""
        return self.run / "clock"

    @property
    def network_now(self) -> Path:
        """What the network's self-test found in this boot."""
        return self.run / "network"

    @property
    def alerts(self) -> Path:
        """The alerts that fire now; written by what takes them of Alertmanager."""
        return self.state / "alerts"

    @property
    def media(self) -> Path:
        """Where media are mounted, read-only, by the kernel's names."""
        return self.run / "media"

    @property
    def export_medium(self) -> Path:
        """Where the one medium is mounted that an EXPORT is being written to."""
        return self.run / "export"

    @property
    def arrived(self) -> Path:
        """What is plugged in, one file for each medium; see `appliance.install.arrivals`."""
        return self.run / "arrived"

    @property
    def inspected(self) -> Path:
        """What media claim to be; nobody believes it."""
        return self.run / "inspected"

    @property
    def review(self) -> Path:
        """Samples of prompts and answers, encrypted, where the site's policy keeps any."""
        return self.state / "review"

    @property
    def census(self) -> Path:
        """Folder of the site's own list of names, encrypted; the test stage has none."""
        return self.state / "census"

    @property
    def gateway(self) -> Path:
        """What the gateways of this stage keep on disk: counters, and batches, which are encrypted."""
        return self.state / ("gateway" if self.stage is Stage.PRODUCTION else f"gateway-{self.stage}")

    @property
    def counters(self) -> Path:
        """What the gateways of this box count together; see `appliance.gateway.quotas`."""
        return self.gateway / "limits.db"

    @property
    def queue(self) -> Path:
        """The queue that several gateways of this box share; see `appliance.gateway.shared_queue`."""
        return self.gateway / "queue.db"

    @property
    def reports(self) -> Path:
        """Reports of quarters, as page, print and figures; see `appliance.actions.reports.shelf`."""
        return self.state / "reports"

    @property
    def proofs(self) -> Path:
        """Proofs of answers that people asked for on the page; see `appliance.actions.tracing.proofs`."""
        return self.state / "proofs"

    @property
    def batches(self) -> Path:
        """Files and batches of callers, encrypted; see `appliance.gateway.batches.store`."""
        return self.gateway / "batches.db"

    @property
    def receipts(self) -> Path:
        """Signed receipts, one for each release received."""
        return self.state / "receipts"

    def socket(self, name: str) -> Path:
        """Return the path of one of our Unix sockets."""
        return self.run / f"{name}.sock"

    def engine_socket(self, stage: str, model_digest: str) -> Path:
        """Return where the first engine of a version listens; further ones: `appliance.gateway.enginesockets`."""
        return self.socket(f"engine-{stage}-{model_digest[:12]}")

    def engine_link(self, digest12: str, which: str = "") -> Path:
        """Return the link to the environment that an engine of a version runs from."""
        return self._engines / f"{digest12}{which and f'-{which}'}"

    def kept_steps(self, digest12: str) -> Path:
        """Return where engines of production find the step times that their version's validation kept."""
        return self._engines / f"{digest12}.steps.json"

    @property
    def _engines(self) -> Path:
        return self.current.parent / "engines"
