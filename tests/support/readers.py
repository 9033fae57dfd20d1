"""Every reader of bytes that come from a medium, or from a person of the other side, each as one call on bytes.

The frozen corpus and the tests with any bytes share this table; `tests/property/media/test_every_reader.py` keeps it
complete. What a reader needs besides the bytes (a root, a ledger's key) comes from the corpus.
"""

import functools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from appliance.promote.taskset import TaskSet
from appliance.registry.descriptor import ModelDescriptor
from appliance.registry.reference import Reference
from appliance.verify.evidence import rehearsal_level
from appliance.verify.metadata import TrustChain, read_role, root_by_root
from appliance.verify.trust import TrustRecord, require_root
from bundler.chunks import from_lines
from bundler.handin import HandIn
from bundler.inventory import read_inventory
from bundler.joining import Joining
from bundler.ledgerkeys import SiteKeys
from bundler.ledgernote import LedgerKey
from bundler.probe.facts import Probe
from bundler.proposal import Proposal
from bundler.receipt import read_receipt
from bundler.register import Register
from bundler.rootsign import RootSignature
from bundler.scanning.record import ScanRecord
from bundler.siteevidence import read_evidence
from media import bagit, bill, canonical, custody, dsse, emergency, openpgp
from media.people import People, Role
from media.release import ReleaseTerms, StaleAfter, targets_from
from media.volume import VolumeIndex

CORPUS: Final = Path(__file__).resolve().parents[1] / "corpus" / "v1"
CONTEXT = CORPUS / "context"
Reader = Callable[[bytes], Any]


def context(name: str) -> bytes:
    """Return a file that readers need besides the bytes."""
    return (CONTEXT / name).read_bytes()


@functools.cache
def people() -> People:
    """Return the people of the corpus's root."""
    return TrustChain((context("1.root.json").decode(),), "demo").people


@functools.cache
def ledger_key() -> LedgerKey:
    """Return the key of the ledger of the corpus's site."""
    return LedgerKey.from_text(context("ledger.pub").decode())


def _root(untrusted: bytes) -> TrustChain:
    return TrustChain((require_root(untrusted),), "demo")


def _next_root(untrusted: bytes) -> TrustChain:
    first = context("1.root.json").decode()
    chain = TrustChain((first,), "demo")
    chain.extend(untrusted)
    *_, same = root_by_root((first, untrusted.decode()), "demo")
    assert same.version == chain.version
    return chain


def _targets(untrusted: bytes) -> Any:
    signed = read_role(untrusted, "targets").signed
    return ReleaseTerms.from_targets(signed), targets_from(signed)


def _rehearsal(untrusted: bytes) -> Any:
    return rehearsal_level(untrusted, people(), context("payload-digest").decode())


def _register(untrusted: bytes) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        register = Register(folder=Path(folder))
        register.file.write_bytes(untrusted)
        return register.entries()


READERS: Final[Mapping[str, Reader]] = {
    "root": _root,
    "next-root": _next_root,
    "timestamp": lambda data: StaleAfter.from_timestamp(read_role(data, "timestamp").signed),
    "snapshot": lambda data: read_role(data, "snapshot"),
    "targets": _targets,
    "volume-index": VolumeIndex.from_bytes,
    "bagit.txt": bagit.require_bagit_txt,
    "bag-info.txt": bagit.parse_bag_info,
    "manifest": bagit.parse_manifest,
    "signature": lambda data: openpgp.verify_detached(data, context("sealed"), people().certificates(Role.RELEASE)),
    "certificate": openpgp.certificate_fingerprint,
    "statement": lambda data: dsse.verify(data, people(), Role.RELEASE),
    "rehearsal": _rehearsal,
    "custody-entry": lambda data: custody.read_entry(data, people()),
    "hand-over": custody.HandOver.from_payload,
    "scan": lambda data: ScanRecord.from_predicate(canonical.loads(data)),
    "bill": lambda data: bill.files_of(canonical.loads(data, allow_floats=True)),
    "emergency-note": lambda data: emergency.read(data, people(), first_root=context("1.root.json")),
    "model-descriptor": ModelDescriptor.from_bytes,
    "task-set": TaskSet.from_bytes,
    "reference": Reference.from_bytes,
    "joining": Joining.from_bytes,
    "root-proposal": Proposal.from_bytes,
    "root-signature": RootSignature.from_bytes,
    "hand-in": HandIn.from_bytes,
    "code-lines": lambda data: from_lines(data.decode("ascii", errors="replace").splitlines()),
    "inventory": lambda data: read_inventory(data, SiteKeys.of(ledger_key())),
    "receipt": lambda data: read_receipt(data, SiteKeys.of(ledger_key())),
    "evidence": lambda data: read_evidence(data, SiteKeys.of(ledger_key())),
    "probe": Probe.from_bytes,
    "register": _register,
    "trust-record": TrustRecord.from_bytes,
}
