"""The step of a proof about who carried a release's media, judged as its receive judged it.

What people of the site said counts: hand-overs on paper that they entered, and findings that one of them accepted by
name, for the very files that were received.
"""

from collections.abc import Mapping
from typing import Any

from appliance.actions.proof import Found
from appliance.actions.proven_ledger import ProvenLedger
from appliance.audit.leaf import Leaf
from appliance.errors import ProofError
from appliance.registry import origin
from appliance.registry.origin import SignedTerms
from appliance.store.content import StoredRelease
from appliance.verify.metadata import TrustChain
from media import canonical
from media.clock import to_text


def custody_of(
    ledger: ProvenLedger, stored: StoredRelease, chain: TrustChain, signed: SignedTerms, received: Leaf
) -> Found[None]:
    """Return who carried the volumes, every signature of theirs verified again.

    Args:
        ledger: Where paper was entered.
        stored: The release as it is kept.
        chain: Of the trusted root.
        signed: What its metadata says.
        received: The record of its receive.

    Raises:
        ProofError: Something is odd about it that nobody accepted, or of other files than those that were received; or
            a hand-over that is meant is not here.
        MalformedError: The record is of another shape.
    """
    recorded = canonical.mapping(received.body.get("custody"), "release.received.custody")
    only = ledger.hand_overs(received)
    is_other = only is None and not origin.are_kept(recorded, stored, signed.index)
    paper = () if is_other else origin.paper_of(recorded, signed.index, ledger.entered)
    found = origin.hand_overs(stored, chain, signed.index, only=only, paper=paper)
    entries = origin.to_facts(found)
    accepted = recorded.get("accepted_by")
    findings = [f"volume {one.number}: {finding}" for one in found for finding in one.findings]
    if (findings or recorded.get("findings")) and not isinstance(accepted, dict):
        raise ProofError(what="custody has findings that nobody accepted", why="; ".join(findings)[:300], fix="")
    if findings and is_other:
        raise ProofError(what="the hand-overs kept here are not those that were received", why=findings[0], fix="")
    if is_other:
        _require_none_gone(recorded, {entry.sha256 for one in found for entry in one.entries})
    carried = [f"{one['from']} to {one['to']} at {one['at']} ({one['method']})" for one in entries]
    carried += [f"{one.from_} to {one.to} at {to_text(one.at)} (paper of this site)" for one in paper]
    detail = ", ".join(carried) or "no hand-over after sealing"
    if is_other:
        detail += "; of another copy than the one that was recorded"
    if isinstance(accepted, dict):
        detail += f"; accepted by {accepted.get('name')}: {accepted.get('reason')}"
    return Found(value=None, detail=detail, data={"entries": entries, "findings": findings, "accepted_by": accepted})


def _require_none_gone(recorded: Mapping[str, Any], kept: set[str]) -> None:
    """Return where other hand-overs are kept than those recorded: some of these alone are no other copy's."""
    listed = [canonical.mapping(one, "custody.entries") for one in canonical.array(recorded.get("entries"), "custody")]
    received = {str(one.get("sha256")) for one in listed}
    if kept < received:
        raise ProofError(
            what=f"{len(received - kept)} hand-overs that were received are not kept here",
            why=f"sha256 {min(received - kept)[:12]}",
            fix="they are on the medium, and in the store of the box that received it from there",
        )
