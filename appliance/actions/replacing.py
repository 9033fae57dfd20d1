"""Beginning anew when the sender has lost its root threshold: two people pin another first root, once more by hand.

No signature leads from the old root to the new one, so this is first trust again, with the same rules: two people type
a code from a trust sheet that travelled apart from any medium. Serial and floor stay where they were, so that nothing
older than what this box accepted comes back in; what was received under the old roots stays provable.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from appliance.actions.believing import finish_what_was_begun, has_accepted
from appliance.actions.pinned import is_pinned, write_once
from appliance.actions.recorded import is_recorded
from appliance.actions.trust import DOOR, TrustFacts, codes_of, facts_of, read_root, require_codes
from appliance.audit.client import open_ledger
from appliance.audit.facts import Ledger
from appliance.config import Config, Places
from appliance.errors import ConflictError
from appliance.store.content import ContentStore
from appliance.store.writing import writing
from appliance.verify import kept, trust
from appliance.verify.freshness import different
from appliance.verify.metadata import TrustChain
from appliance.verify.trust import TrustRecord
from media.clock import Clock
from media.digest import sha256_hex
from media.errors import MediaError, NoTrustError, UsageError

REPLACED: Final = "trust.replaced"
_PEOPLE: Final = 2


def replace_root(
    config: Config, root_file: Path, codes: Sequence[str], names: Sequence[str], *, reason: str, clock: Clock
) -> TrustFacts:
    """Believe another first root from now on. Cut off anywhere, it is run again with the same root.

    Args:
        config: The site file; the root must be for its environment.
        root_file: The new ``1.root.json``.
        codes: What two people typed, from the new trust sheet.
        names: Who they are.
        reason: Why, in their words; recorded.
        clock: For the record.

    Raises:
        ConflictError: This root is the one that is believed.
        DigestMismatchError: A code is not the one of this root.
        NoTrustError: The trust record is lost or damaged: recover it first.
        StoreBusyError: A receive is running.
        StoreWriteError: It could not be written.
        UsageError: Fewer than two people, or no reason.
        WrongEnvironmentError, MediaError, TrustError: It is no root that this box could believe.
    """
    if different(names) < _PEOPLE or not reason.strip():
        raise UsageError(
            what="two people replace a root, with a reason",
            why=f"{len(names)} named",
            fix="give --by NAME twice, and --reason TEXT",
        )
    places = config.at
    untrusted = read_root(root_file)
    require_codes(codes, codes_of(root_file, untrusted))
    text = TrustRecord(root_chain=(untrusted.decode("utf-8", errors="strict"),)).root_chain
    chain = TrustChain(text, config.environment)
    ledger = open_ledger(config, DOOR, spool=True, clock=clock)
    try:
        with ContentStore(places.store).locked():
            finish_what_was_begun(places, ledger)  # first: what it accepts is in the record that is replaced
            epoch, record = _before(places, ledger, untrusted)
            after = replace(record, root_chain=text, notes=(), former=(*record.former, record.root_chain))
            after.require_storable()
            digest = sha256_hex(untrusted)
            if not is_recorded(places, ledger, REPLACED, field="root_sha256", value=digest):
                body = {"site": config.site, "root_sha256": digest, "epoch": epoch, "names": list(names)}
                before = {"before_sha256": sha256_hex(record.root_chain[0].encode()), "reason": reason}
                ledger.append(REPLACED, {**body, **before, "serial": record.serial})
            if not is_pinned(places, untrusted, epoch=epoch):
                write_once(places, untrusted, epoch=epoch)
            with writing("the trust record"):
                trust.save(places.trust, after)
    finally:
        ledger.close()
    return facts_of(chain, after)


def _before(places: Places, ledger: Ledger, untrusted: bytes) -> tuple[int, TrustRecord]:
    """Return the epoch to begin and the record to replace; also after a cut between the two writes."""
    newest = kept.epoch_of(places.pinned_trust)
    pinned = kept.pinned_root(places.pinned_trust).encode()
    try:
        record = trust.load(places.trust, places.pinned_trust, may_begin=not has_accepted(places, ledger))
    except NoTrustError:
        with suppress(OSError, MediaError):  # lost or damaged: two people recover it first
            record = TrustRecord.from_bytes((places.trust / trust.RECORD).read_bytes())
            if newest > 1 and pinned == untrusted and record.root_chain[0] == _pinned(places, newest - 1):
                return newest, record
        raise
    if record.root_chain[0].encode() == untrusted:
        raise ConflictError(
            what="this root is believed already", why="nothing is to be replaced", fix="see `sealift trust show`"
        )
    return newest + 1, record


def _pinned(places: Places, epoch: int) -> str:
    try:
        return (places.pinned_trust / kept.pinned_name(epoch)).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
