"""Where an answer came from as the records say it, for a page: no file is read, so nobody needs the right to.

Each record is shown to lie in the tree that the pinned key signed, now; signatures of approvers are verified again over
what they signed. What takes bytes (weights hashed again, seals of media, signed metadata) is `sealift prove`, or the
job of the page that does the same (`appliance.actions.tracing.proofs`): this view never stands for it.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from appliance.actions import proven_doubt, tried
from appliance.actions.proof import Found, ProofReport, Prover
from appliance.actions.prove import request_of
from appliance.actions.proven_ledger import ProvenLedger
from appliance.actions.proven_promotion import answering
from appliance.actions.tracing.selection import INTENT, RECEIVED
from appliance.audit.facts import Ledger
from appliance.audit.leaf import Leaf
from appliance.config import Places
from appliance.errors import ProofError
from appliance.promote import peoplebook
from appliance.promote.classes import NAMES
from appliance.promote.people import SitePeople
from appliance.promote.record import Promotion
from appliance.promote.standing import require_made
from appliance.registry import catalog
from appliance.stages import is_tried
from media.clock import Clock

_GATE: Final = "gate.result"
_PAGE: Final = 200


def origin(ledger: Ledger, places: Places, untrusted_request_id: str, *, clock: Clock | None = None) -> ProofReport:
    """Return the line from an answer to its origin; whether every step holds is in the report.

    Args:
        ledger: Through any door that reads.
        places: Where the pinned key is.
        untrusted_request_id: The x-request-id of the answer, or the id in its body.
        clock: For the time of each step.
    """
    return _Line(ledger, places, clock).run(request_of(untrusted_request_id))


class _Line:
    def __init__(self, ledger: Ledger, places: Places, clock: Clock | None) -> None:
        self._raw = ledger
        self._ledger = ProvenLedger(ledger, places)
        self._prover = Prover(clock=clock)

    def run(self, request_id: str) -> ProofReport:
        check, leave_out = self._prover.check, self._prover.leave_out
        asked = check("request", lambda: self._request(request_id))
        if asked is None:
            leave_out("answer", "version", "release", "promotion", why="the request is not proven")
        else:
            check("answer", lambda: self._answer(asked))
            registered = check("version", lambda: self._version(asked))
            if registered is None:
                leave_out("release", "signers", "media", "custody", why="the version is not proven")
            else:
                self._release(registered, asked)
            if is_tried(asked.body):
                self._lent(asked)
            else:
                self._promoted(asked)
        check("ledger", self._whole)
        return ProofReport(subject=request_id, steps=tuple(self._prover.steps))

    def _promoted(self, asked: Leaf) -> None:
        made = self._prover.check("promotion", lambda: self._promotion(asked))
        if made is None:
            self._prover.leave_out("approvals", "gates", why="the promotion is not proven")
        else:
            self._prover.check("approvals", lambda: self._approvals(made))
            self._prover.check("gates", lambda: self._gates(made))

    def _lent(self, asked: Leaf) -> None:
        """Follow an answer of the test stage to who had lent the version: nobody promoted it for that answer."""
        made = self._prover.check("test stage", lambda: tried.loaded_for(self._ledger, asked))
        if made is None:
            self._prover.leave_out("gates", why="it is not proven that the version was loaded there")
        else:
            digest, evidence = (str(made.body.get(name)) for name in ("model_digest", "evidence_digest"))
            self._prover.check("gates", lambda: self._passed(digest, before=made.sequence, evidence=evidence))

    def _request(self, request_id: str) -> Found[Leaf]:
        leaf = self._ledger.one(INTENT, "request_id", request_id)
        if leaf is None:
            raise ProofError(what="there is no answer to it", why="no such request is recorded", fix="give another id")
        body = leaf.body
        detail = f"{leaf.time}, key {body.get('key_id')} of {body.get('department')}, arm {body.get('arm')}"
        return _found(leaf, detail)

    def _answer(self, asked: Leaf) -> Found[Leaf]:
        leaf = self._ledger.one("request.outcome", "request_id", str(asked.body.get("request_id")))
        if leaf is None or leaf.body.get("intent_sequence") != asked.sequence:
            raise ProofError(what="no outcome is recorded", why="it was cut off, or is still being made", fix="")
        return _found(leaf, f"{leaf.time}, {leaf.body.get('outcome')}, {leaf.body.get('completion_tokens')} tokens")

    def _version(self, asked: Leaf) -> Found[Leaf]:
        digest = str(asked.body.get("model_digest"))
        leaf = self._ledger.last_before(asked.sequence, catalog.REGISTERED, "model_digest", digest)
        if leaf is None:
            raise ProofError(what=f"version {digest[:12]} was never registered", why="", fix="")
        body = leaf.body
        said, _ = proven_doubt.of_version(self._ledger, digest)
        return _found(
            leaf, f"{body.get('name')} {body.get('version')}, {digest}, weights {body.get('weights_digest')}{said}"
        )

    def _release(self, registered: Leaf, asked: Leaf) -> None:
        check = self._prover.check
        received = check("release", lambda: self._received(registered, asked))
        if received is None:
            self._prover.leave_out("signers", "media", "custody", why="the release is not proven")
            return
        check("signers", lambda: self._signers(received))
        check("media", lambda: _media(received))
        check("custody", lambda: _custody(received))

    def _received(self, registered: Leaf, asked: Leaf) -> Found[Leaf]:
        serial, begun = registered.body.get("serial"), asked.sequence
        leaf = self._ledger.last_before(begun, RECEIVED, "serial", serial) if type(serial) is int else None
        if leaf is None:
            raise ProofError(what=f"no release of serial {serial} was recorded as received", why="", fix="")
        body = leaf.body
        return _found(leaf, f"{body.get('release')}, serial {serial}, code {body.get('code')}, received {leaf.time}")

    def _signers(self, received: Leaf) -> Found[None]:
        signers = _listed(received, "signers")
        if not signers:
            raise ProofError(what="the record names no signer", why="it is of an older version", fix="")
        named = [f"{one.get('name')} ({str(one.get('fingerprint'))[-16:]})" for one in signers]
        keys = {str(one.get("person")): {str(one.get("fingerprint")).lower()} for one in signers}
        said, _ = proven_doubt.of_signers(self._ledger, keys)
        return _found_none(received, f"{', '.join(named)}; as they were verified when it was received{said}")

    def _promotion(self, asked: Leaf) -> Found[Promotion]:
        found = answering(self._ledger, asked)
        data = {"sequence": found.made.sequence, **found.line.mark}
        return Found(value=found.made, detail=f"number {found.made.number}, {found.made.kind}{found.shown}", data=data)

    def _approvals(self, made: Promotion) -> Found[None]:
        people = SitePeople()
        for leaf in self._walk(peoplebook.KINDS, before=made.sequence):
            people = peoplebook.after(people, leaf.kind, leaf.body, leaf.sequence)
        require_made(made, people)
        names = [f"{one.shown} ({NAMES[one.approves_by]} {one.fingerprint[-16:]})" for one in made.approvals]
        return Found(value=None, detail=f"{', '.join(names)}; signatures verified again")

    def _gates(self, made: Promotion) -> Found[None]:
        about = made.terms.version if made.terms is not None else made.model_digest
        return self._passed(str(about), before=made.sequence)

    def _passed(self, digest: str, *, before: int, evidence: str = "") -> Found[None]:
        results: dict[str, Leaf] = {}
        for leaf in self._ledger.all(_GATE, "model_digest", digest, before=before):
            if evidence in {"", leaf.body.get("evidence_digest")}:
                results[str(leaf.body.get("gate"))] = leaf
        failed = sorted(gate for gate, leaf in results.items() if leaf.body.get("passed") is not True)
        if not results or failed:
            raise ProofError(what="gates before that did not all pass", why=", ".join(failed) or "none", fix="")
        newest = max(leaf.sequence for leaf in results.values())
        return Found(value=None, detail=f"{', '.join(sorted(results))} passed", data={"sequence": newest})

    def _whole(self) -> Found[None]:
        anchor = self._ledger.anchor()
        detail = f"{len(self._ledger.proven)} records lie in the tree of {anchor.size} that {anchor.origin} signed"
        return Found(value=None, detail=detail, data={"root": anchor.root.hex()})

    def _walk(self, kinds: tuple[str, ...], *, before: int) -> Iterator[Leaf]:
        start = 0
        while page := self._raw.leaves(start, _PAGE, kinds=kinds):
            for leaf in page:
                if leaf.sequence >= before:
                    return
                yield self._ledger.require(leaf)
            start = page[-1].sequence + 1


def _media(received: Leaf) -> Found[None]:
    named = [f"volume {one.get('number')} ({one.get('id')})" for one in _listed(received, "volumes")]
    if not named:
        raise ProofError(what="the record names no volume", why="it is of an older version", fix="")
    return _found_none(received, ", ".join(named))


def _custody(received: Leaf) -> Found[None]:
    custody = received.body.get("custody")
    found: Mapping[str, Any] = custody if isinstance(custody, Mapping) else {}
    accepted = found.get("accepted_by")
    findings = [str(one) for one in found.get("findings", ())]
    if findings and not isinstance(accepted, Mapping):
        raise ProofError(what="custody has findings that nobody accepted", why="; ".join(findings)[:300], fix="")
    carried = [f"{one.get('from')} to {one.get('to')} at {one.get('at')}" for one in found.get("entries", ())]
    detail = ", ".join(carried) or "no hand-over after sealing"
    if isinstance(accepted, Mapping):
        detail += f"; accepted by {accepted.get('name')}: {accepted.get('reason')}"
    return _found_none(received, detail)


def _listed(leaf: Leaf, name: str) -> list[Mapping[str, Any]]:
    value = leaf.body.get(name)
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list | tuple) else []


def _found(leaf: Leaf, detail: str) -> Found[Leaf]:
    return Found(value=leaf, detail=detail, data={"sequence": leaf.sequence})


def _found_none(leaf: Leaf, detail: str) -> Found[None]:
    return Found(value=None, detail=detail, data={"sequence": leaf.sequence})
