"""Prove where an answer came from: the exact weights, the medium that carried them, the people who approved them.

Works offline and with nothing running. Promises: every line is checked afresh, now, on this machine: records against a
signed checkpoint, files by hashing them again, signatures by gpgv and the TUF library; what was checked at another time
is not believed. A line that cannot be checked is a line that does not hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from appliance.actions import proven_doubt, tried
from appliance.actions.proof import REQUEST, Found, ProofReport, Prover, Tell
from appliance.actions.proven_custody import custody_of
from appliance.actions.proven_doubt import keys_by_person
from appliance.actions.proven_engine import engine_of
from appliance.actions.proven_ledger import ProvenLedger
from appliance.actions.proven_promotion import answering
from appliance.audit.facts import Ledger
from appliance.audit.leaf import Leaf
from appliance.config import Config
from appliance.errors import ProofError, UnknownVersionError
from appliance.promote.classes import NAMES
from appliance.promote.people import SitePeople
from appliance.promote.record import Promotion
from appliance.promote.standing import require_made
from appliance.promote.statement import Statement
from appliance.registry import carriers, catalog, evidence, origin
from appliance.registry.descriptor import ModelDescriptor
from appliance.registry.origin import SignedTerms
from appliance.stages import is_tried
from appliance.store.content import ContentStore, StoredRelease
from appliance.verify.metadata import TrustChain
from media import canonical
from media.clock import Clock, to_text
from media.errors import SealiftError

MIRROR: Final = "mirror"
"""The step before all others where the records are another box's: what of its ledger is here."""
_NO_MIRROR: Final = "the mirror does not hold"
_ANSWER_PREFIXES: Final = ("chatcmpl-", "cmpl-")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Version:
    descriptor: ModelDescriptor
    stored: StoredRelease


def prove(
    config: Config,
    ledger: Ledger,
    request_id: str,
    *,
    tell: Tell = lambda *_: None,
    proven: ProvenLedger | None = None,
    clock: Clock | None = None,
) -> ProofReport:
    """Return the proof of one answer; whether it holds is in the report.

    Args:
        config: The site file.
        ledger: Through its door or from its file.
        request_id: The x-request-id of the answer, or the id in its body.
        tell: Told of each step as it begins, and how many bytes of the weights were hashed.
        proven: Keeps the records that were proven, for whoever needs their bytes; of a mirror, reads that instead.
        clock: For the time at which each step was looked at; without one no step has a time.
    """
    return _Proof(config, proven or ProvenLedger(ledger, config.at), Prover(tell, clock=clock)).run(
        request_of(request_id)
    )


def request_of(untrusted_request_id: str) -> str:
    """Return the x-request-id where the id in an answer's body was given."""
    for prefix in _ANSWER_PREFIXES:
        if untrusted_request_id.startswith(prefix):
            return f"req_{untrusted_request_id.removeprefix(prefix)}"
    return untrusted_request_id


class _Proof:
    def __init__(self, config: Config, ledger: ProvenLedger, prover: Prover) -> None:
        self._config = config
        self._ledger = ledger
        self._prover = prover

    def run(self, request_id: str) -> ProofReport:
        check, leave_out = self._prover.check, self._prover.leave_out
        if self._ledger.mirror is not None and check(MIRROR, self._mirror) is None:
            leave_out(REQUEST, "answer", "version", "weights", "approvals", "promotion", "ledger", why=_NO_MIRROR)
            return ProofReport(subject=request_id, steps=tuple(self._prover.steps))
        intent = check(REQUEST, lambda: self._request(request_id))
        if intent is None:
            leave_out("answer", "version", "weights", "approvals", "promotion", why="the request is not proven")
        else:
            check("answer", lambda: self._answer(intent))
            version = check("version", lambda: self._version(intent))
            if version is None:
                leave_out("weights", "release", why="the version is not proven")
            else:
                check("weights", lambda: self._weights(version))
                if version.descriptor.runtime.attached is not None:
                    check("engine", lambda: engine_of(self._config.at, version.stored, version.descriptor))
                self._origin(version.stored)
            if is_tried(intent.body):
                self._lent(intent)
            else:
                self._promoted(intent)
        check("ledger", self._whole_ledger)
        return ProofReport(subject=request_id, steps=tuple(self._prover.steps))

    def _mirror(self) -> Found[Mapping[str, Any]]:
        mirror = self._ledger.mirror or {}
        return Found(value=mirror, detail=self._ledger.look(partial(self._prover.tell, MIRROR)), data=dict(mirror))

    def _promoted(self, intent: Leaf) -> None:
        check, leave_out = self._prover.check, self._prover.leave_out
        made = check("promotion", lambda: self._promotion(intent))
        if made is None:
            leave_out("approvals", "gates", why="the promotion is not proven")
            return
        statement = check("approvals", lambda: self._approvals(made))
        if statement is None:
            leave_out("gates", why="the approvals are not proven")
        else:
            check("gates", lambda: self._gates(statement, before=made.sequence))

    def _lent(self, intent: Leaf) -> None:
        check = self._prover.check
        made = check("test stage", lambda: tried.loaded_for(self._ledger, intent))
        if made is None:
            self._prover.leave_out("gates", why="it is not proven that the version was loaded there")
        else:
            check("gates", lambda: tried.gates_of(self._config.at, self._ledger, made))

    def _request(self, request_id: str) -> Found[Leaf]:
        leaf = self._ledger.one("request.intent", "request_id", request_id)
        if leaf is None:
            refused = self._ledger.one("request.refused", "request_id", request_id)
            nowhere = f"no such request is recorded{self._ledger.reach()}"
            raise ProofError(
                what=f"there is no answer to {request_id[:40]}",
                why=nowhere if refused is None else f"it was refused at {refused.sequence}",
                fix="give the x-request-id header of an answer",
            )
        body = leaf.body
        detail = (
            f"sequence {leaf.sequence}, {leaf.time}, key {body.get('key_id')} of {body.get('department')}, "
            f"version {str(body.get('model_digest'))[:12]}"
        )
        shown = (
            "request_id",
            "endpoint",
            "key_id",
            "department",
            "model",
            "model_digest",
            "classification",
            "phi",
            "request_hmac",
        )
        return Found(value=leaf, detail=detail, data=_data(leaf, *shown))

    def _answer(self, intent: Leaf) -> Found[Leaf]:
        leaf = self._ledger.one("request.outcome", "request_id", str(intent.body.get("request_id")))
        if leaf is None or leaf.body.get("intent_sequence") != intent.sequence:
            raise ProofError(
                what="no outcome is recorded",
                why=f"the answer was cut off, or is still being made{self._ledger.reach()}",
                fix="prove it later",
            )
        body = leaf.body
        detail = (
            f"sequence {leaf.sequence}, {leaf.time}, {body.get('outcome')}, {body.get('completion_tokens')} tokens, "
            f"content bound by HMAC {str(body.get('response_hmac'))[:12]}"
        )
        return Found(value=leaf, detail=detail, data=_data(leaf, "outcome", "status", "finish_reason", "response_hmac"))

    def _version(self, intent: Leaf) -> Found[_Version]:
        digest = str(intent.body.get("model_digest"))
        leaf = self._ledger.last_before(intent.sequence, catalog.REGISTERED, "model_digest", digest)
        if leaf is None:
            raise ProofError(
                what=f"version {digest[:12]} was never registered", why="", fix="run `sealift audit verify`"
            )
        store = ContentStore(self._config.at.store)
        serial = canonical.integer(leaf.body.get("serial"), "model.registered.serial")
        try:
            stored, descriptor, _ = carriers.carrier(store, digest, serial=serial)
        except UnknownVersionError as error:
            raise ProofError(
                what=error.what, why=f"release {serial} is not in this box's store", fix=error.fix
            ) from error
        except SealiftError as error:
            raise ProofError(what=error.what, why=f"release {serial}: {error.why}", fix=error.fix) from error
        if leaf.body.get("weights_digest") != descriptor.weights_digest:
            raise ProofError(
                what="the descriptor names other weights than the record", why=descriptor.weights_digest[:12], fix=""
            )
        said, doubt = proven_doubt.of_version(self._ledger, digest)
        named = f"{descriptor.name} {descriptor.version}, {digest}"
        detail = f"{named}, descriptor hashed again, registered at {leaf.sequence}{said}"
        data = {**_data(leaf), "model_digest": digest, "name": descriptor.name, "version": descriptor.version, **doubt}
        return Found(value=_Version(descriptor=descriptor, stored=stored), detail=detail, data=data)

    def _weights(self, version: _Version) -> Found[None]:
        descriptor, stored = version.descriptor, version.stored
        self._require_kept(descriptor.model_digest)
        total, done = sum(file.length for file in descriptor.files), 0
        for file in descriptor.files:
            if stored.files[file.path].sha256 != file.sha256:
                raise ProofError(what=f"{file.path} is not the descriptor's file", why=file.sha256[:12], fix="")
            stored.verify(file.path, tell=partial(self._hashed, done, total))
            done += file.length
        stored.verify(descriptor.template_path)
        detail = f"{descriptor.weights_digest}, {total} bytes hashed again"
        return Found(value=None, detail=detail, data={"weights_digest": descriptor.weights_digest, "bytes": total})

    def _hashed(self, before: int, total: int, read: int) -> None:
        self._prover.tell("weights", before + read, total)

    def _require_kept(self, digest: str) -> None:
        gone = self._ledger.deletion(digest)
        if gone is not None:
            raise ProofError(
                what="the weights were deleted from this box, so they cannot be hashed again",
                why=f"by {gone.body.get('person')}, {gone.time}, record {gone.sequence}: {gone.body.get('reason')}",
                fix="receive a release that brings the version again; the other steps hold without it",
            )

    def _origin(self, stored: StoredRelease) -> None:
        check = self._prover.check
        received = check("release", lambda: self._received(stored))
        chain = check("trust", lambda: self._chain(stored))
        if chain is None or received is None:
            self._prover.leave_out("metadata", "media", "custody", "rehearsal", why="release or trust are not proven")
            return
        signed = check("metadata", lambda: self._metadata(stored, chain, received))
        if signed is None:
            self._prover.leave_out("media", "custody", "rehearsal", why="the metadata is not proven")
            return
        check("media", lambda: self._media(stored, chain, signed, received))
        check("custody", lambda: custody_of(self._ledger, stored, chain, signed, received))
        check("rehearsal", lambda: self._rehearsal(stored, chain, signed, received))

    def _received(self, stored: StoredRelease) -> Found[Leaf]:
        leaf = self._ledger.one("release.received", "code", stored.code)
        if leaf is None:
            raise ProofError(
                what=f"release {stored.release} was never recorded as received",
                why=f"no record has the code {stored.code[:12]}, by which this box's store has it",
                fix="run `sealift audit verify`",
            )
        detail = (
            f"{stored.release}, serial {stored.serial}, code {stored.code}, received {leaf.time}, at {leaf.sequence}"
        )
        return Found(value=leaf, detail=detail, data=_data(leaf, "release", "serial", "code", "payload_digest"))

    def _chain(self, stored: StoredRelease) -> Found[TrustChain]:
        chain = origin.chain_for(self._config, stored)
        detail = f"root {chain.version} for {chain.people.environment}, from the pinned root on"
        return Found(value=chain, detail=detail, data={"root_version": chain.version})

    def _metadata(self, stored: StoredRelease, chain: TrustChain, received: Leaf) -> Found[SignedTerms]:
        signed = origin.signed_terms(stored, chain)
        if received.body.get("payload_digest") != signed.terms.payload_digest:
            raise ProofError(what="the record is about another payload", why=signed.terms.payload_digest[:12], fix="")
        names, sites = [person.name for person in signed.signers], list(signed.terms.sites)
        said, doubt = proven_doubt.of_signers(self._ledger, keys_by_person(signed.signers))
        detail = f"{len(signed.targets)} targets signed by {_list(names)}, for {_list(sites)}{said}"
        return Found(value=signed, detail=detail, data={"signers": names, "sites": sites, **doubt})

    def _media(self, stored: StoredRelease, chain: TrustChain, signed: SignedTerms, received: Leaf) -> Found[None]:
        volumes = origin.signed_volumes(stored, chain, signed.index)
        recorded = [
            (one.get("number"), one.get("id"), one.get("tagmanifest_sha256"))
            for one in canonical.array(received.body.get("volumes"), "release.received.volumes")
        ]
        if recorded != [(volume.number, volume.id, volume.code) for volume in volumes]:
            raise ProofError(what="the record names other volumes", why=f"{len(recorded)} recorded", fix="")
        if volumes[0].code != stored.code:
            raise ProofError(what="the release code is not that of volume 1", why=volumes[0].code[:12], fix="")
        names = sorted({person.name for volume in volumes for person in volume.signers})
        said, doubt = proven_doubt.of_signers(
            self._ledger, keys_by_person(one for each in volumes for one in each.signers)
        )
        listed = _list([f"volume {one.number} ({one.id})" for one in volumes])
        detail = f"{listed}, seals of OpenPGP by {_list(names)}{said}"
        data = {
            "volumes": [{"number": one.number, "id": one.id, "code": one.code} for one in volumes],
            "signers": names,
            **doubt,
        }
        return Found(value=None, detail=detail, data=data)

    def _rehearsal(self, stored: StoredRelease, chain: TrustChain, signed: SignedTerms, received: Leaf) -> Found[None]:
        level = origin.rehearsed(stored, chain, signed.terms) or "none"
        if received.body.get("rehearsal_level") != level:
            raise ProofError(what="the record states another rehearsal level", why=f"signed is {level}", fix="")
        return Found(value=None, detail=level, data={"level": level})

    def _promotion(self, intent: Leaf) -> Found[Promotion]:
        digest, found = str(intent.body.get("model_digest")), answering(self._ledger, intent, is_whole=True)
        made, served = found.made, found.line.current
        changing = ", while production was changing" if found.is_changing else ""
        if not found.is_changing and served != digest:
            changing = f", beside {'nothing' if served is None else served[:12]} in production"
        detail = f"number {made.number} at sequence {made.sequence}, {to_text(made.at)}{changing}{found.shown}"
        data = {"number": made.number, "sequence": made.sequence, "served": served, **found.line.mark}
        return Found(value=made, detail=detail, data=data)

    def _approvals(self, made: Promotion) -> Found[Statement]:
        people: SitePeople = self._ledger.people(before=made.sequence)
        statement = require_made(made, people)
        names = [
            f"{approval.shown} ({NAMES[approval.approves_by]} {approval.fingerprint[-16:]})"
            for approval in made.approvals
        ]
        detail = f"{_list(names)}, signatures verified again over statement {statement.sha256[:12]}"
        data = {
            "people": [approval.person for approval in made.approvals],
            "classes": [approval.approves_by for approval in made.approvals],
            "lower_class": {one.person: list(one.lower) for one in made.approvals if one.lower},
            "statement": made.statement,
        }
        return Found(value=statement, detail=detail, data=data)

    def _gates(self, statement: Statement, *, before: int) -> Found[None]:
        document = self._evidence(statement.evidence_digest)
        policy = canonical.mapping(document.get("policy"), "evidence.policy")
        if (document.get("model_digest"), policy.get("digest")) != (statement.model_digest, statement.policy_digest):
            raise ProofError(what="the evidence is about another version or policy", why="", fix="")
        recorded = {
            str(leaf.body.get("gate")): leaf.body.get("passed")
            for leaf in self._ledger.all("gate.result", "evidence_digest", statement.evidence_digest, before=before)
            if leaf.body.get("model_digest") == statement.model_digest
        }
        gates = canonical.array(document.get("gates"), "evidence.gates")
        names = [str(gate["gate"]) for gate in gates]
        if not names or any(
            gate["passed"] is not True or recorded.get(str(gate["gate"])) is not True for gate in gates
        ):
            raise ProofError(what="a gate did not pass, or was not recorded", why=_list(names), fix="")
        detail = f"{_list(names)} passed; evidence {statement.evidence_digest[:12]} hashed again"
        return Found(value=None, detail=detail, data={"evidence_digest": statement.evidence_digest, "gates": names})

    def _evidence(self, digest: str) -> dict[str, Any]:
        """Return a document of gates; of several nodes only the one that ran them has it, until it is copied."""
        try:
            return evidence.read(self._config.at, digest)
        except ProofError as error:
            nodes = {leaf.via.node for leaf in self._ledger.all("gate.result", "evidence_digest", digest)}
            others = sorted(nodes - {"", self._config.database.node})
            if not self._config.database.node or not others:
                raise
            raise ProofError(
                what=f"the evidence {digest[:12]} is not on this node",
                why=f"node {others[0]} ran the gates: prove there, or copy"
                f" /var/lib/sealift/registry/evidence/{digest}.json from it",
                fix="",
            ) from error

    def _whole_ledger(self) -> Found[None]:
        anchor = self._ledger.anchor()
        known, since = self._ledger.since()
        detail = (
            f"{len(self._ledger.proven)} records proven in the signed tree of {anchor.size} ({anchor.origin}); {since}"
        )
        data: dict[str, Any] = {"size": anchor.size, "root": anchor.root.hex(), "origin": anchor.origin, "known": known}
        return Found(value=None, detail=detail, data=data)


def _data(leaf: Leaf, *fields: str) -> dict[str, Any]:
    shown = {field: leaf.body.get(field) for field in fields}
    return {"sequence": leaf.sequence, "at": leaf.time, "leaf_hash": leaf.hash, **shown}


def _list(names: list[str]) -> str:
    return ", ".join(names)
