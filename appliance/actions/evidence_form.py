"""What the evidence form says, section by section, from the body of a record of any version of this program."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from appliance.actions.checks import HELD, NOT_MADE, NOT_REACHED, REFUSED
from appliance.actions.recorded import PARTLY_RECEIVED
from appliance.paper.form import Form, Section, Table
from appliance.verify.steps import Check

_OUTCOMES: Final = {
    "release.received": "RECEIVED: every check held; the release is in the store and in force.",
    "release.partly-received": "IN PART: the volumes that were read held and are kept; others are still missing.",
    "release.reverified": "PROVEN AGAIN: every check held; the release was in the store already.",
    "release.checked": "CHECKED ONLY: every check held; nothing was stored and nothing recorded.",
}
_RESULTS: Final = {HELD: "passed", REFUSED: "REFUSED", NOT_MADE: "not made", NOT_REACHED: "not reached"}
_TITLES: Final = {
    Check.OPENED: "Volumes opened read-only; names, types and sizes of all files within bounds",
    Check.ROOT: "Root of trust: each later root signed by the people of the one before and its own",
    Check.SIGNATURES: "OpenPGP signatures over each volume's tag manifest by enough different people",
    Check.FILES: "Metadata, statements and check files are what was signed; no file too many, none missing",
    Check.METADATA: "TUF metadata: thresholds, versions, people counted again",
    Check.INDEX: "Signed index: targets, parts and volumes say the same",
    Check.SITE: "The release is meant for this site",
    Check.MACHINE: "The release fits this machine",
    Check.REHEARSAL: "It was rehearsed as this site demands",
    Check.VOLUMES: "The volumes belong together, each is there once",
    Check.SERIAL: "Serial not below one accepted, and no jump beyond the cap",
    Check.DATE: "Not stale, or accepted by two people",
    Check.CUSTODY: "Chain of custody, seals, heads and paper, or accepted by a person",
    Check.LEDGER: "This box's ledger is at least as long as the sender's receipts know it",
    Check.ROOM: "Room in the store",
    Check.BYTES: "Every byte of every volume read and its SHA-256 compared with what was signed",
    Check.RECORD: "Recorded in the ledger, put in force",
}
_UNKNOWN: Final = "not recorded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the record is: its sequence (-1 waits for the ledger, None never), the receipt, other records."""

    sequence: int | None
    receipt: str
    others: tuple[tuple[int, str, str, str], ...]


def form_of(kind: str, body: Mapping[str, Any], *, at: str, place: Place) -> Form:
    """Return the form.

    Args:
        kind: Of the record.
        body: Of the record; fields that an older version did not write are shown as not recorded.
        at: Time of the record.
        place: Where the record is.
    """
    named = f"{body['release']}, serial {body['serial']}" if "release" in body else "a medium that is not known"
    result = _OUTCOMES.get(kind) or f"REFUSED: {body.get('error', '')} (exit code {body.get('exit_code', '')})."
    sections = [
        _release(body),
        _checks(kind, body, place, at),
        _volumes(body),
        _custody(body),
        _decisions(body),
        _program(body, place, at),
        _signatures(),
    ]
    return Form(title=f"Evidence of receiving {named}", result=result, at=at, sections=tuple(filter(None, sections)))


def _release(body: Mapping[str, Any]) -> Section:
    facts = [
        ("Site", _said(body, "site")),
        *([("What was refused", str(body["what"]))] if body.get("what") else []),
        ("Release and serial", f"{body['release']}, {body['serial']}" if "release" in body else "not known by then"),
        ("Release code", body.get("code") or body.get("release_code") or "not known by then"),
        ("Payload digest", _said(body, "payload_digest", missing="not known by then")),
    ]
    if "signers" in body:
        people = [f"{each['name']} ({each['fingerprint']})" for each in body["signers"]]
        facts += [
            *((("Signed by" if place == 0 else ""), each) for place, each in enumerate(people)),
            ("Signature policy", _said(body, "signature_policy")),
            ("Root, timestamp", f"root {body.get('root_version')}, timestamp {body.get('timestamp_version')}"),
            ("Stale after", _said(body, "stale_after")),
            ("Rehearsed", _said(body, "rehearsal_level")),
            ("For the machine", _said(body, "machine")),
            ("Payload", f"{body.get('files')} files, {body.get('bytes')} bytes"),
        ]
    if delta := body.get("delta"):
        facts.append(("Delta set", f"{delta['set'][:16]}…, {delta['carried_bytes']} bytes carried"))
    moved = body.get("moved") or {name: body[name] for name in ("read_bytes", "written_bytes") if name in body}
    if moved:
        facts.append(("Read, written", f"{moved.get('read_bytes')}, {moved.get('written_bytes')} bytes"))
    return Section(title="The release", facts=tuple((name, str(text)) for name, text in facts))


def _checks(kind: str, body: Mapping[str, Any], place: Place, at: str) -> Section:
    said = {**_RESULTS, REFUSED: "in part"} if kind == PARTLY_RECEIVED else _RESULTS
    rows = []
    for number, each in enumerate(body.get("checks", ()), start=1):
        title = _TITLES.get(Check(each["check"]), "") if each["check"] in list(Check) else each["check"]
        rows.append((str(number), title, said.get(each["result"], each["result"]), each["at"], each.get("end", "")))
    if rows and "error" not in body and place.sequence is not None:
        rows.append((str(len(rows) + 1), _TITLES[Check.RECORD], "passed", at, at))
    heads = ("", "check, in this order", "result", "began", "ended")
    table = Table(heads=heads, rows=tuple(rows), widths=(4, 41, 11, 22, 22))
    notes = () if rows else ("Times of single checks were not recorded by the version that made this record.",)
    return Section(title="Checks", table=table if rows else None, notes=notes)


def _volumes(body: Mapping[str, Any]) -> Section | None:
    if "volumes" not in body:
        return None
    rows = tuple((str(each["number"]), each["id"], each["tagmanifest_sha256"]) for each in body["volumes"])
    table = Table(heads=("volume", "id", "SHA-256 of its tag manifest"), rows=rows, widths=(10, 22, 68))
    return Section(title="Volumes", table=table)


def _custody(body: Mapping[str, Any]) -> Section:
    custody = body.get("custody", {})
    facts: list[tuple[str, str]] = []
    for each in custody.get("looked_at", ()):
        number, recorded = each["volume"], _listed(each["seals_recorded"])
        found = "nobody looked" if each["seals_found"] is None else _listed(each["seals_found"])
        facts.append((f"Seals of volume {number}", f"found: {found}; recorded: {recorded}"))
        told = each["head_given"] or "nobody named it"
        facts.append((f"Head of volume {number}", f"{each['head']}; as its last holder named it: {told}"))
    given = body.get("looked_at", {})
    facts += [(f"Seals seen on volume {number}", _listed(seals)) for number, seals in given.get("seals", {}).items()]
    facts += [(f"Head named for volume {number}", head) for number, head in given.get("heads", {}).items()]
    rows = [
        (
            f"{each['volume']}.{each['entry']}" if "entry" in each else f"{each['volume']}, paper",
            each["at"],
            f"{each['from']} -> {each['to']}" + (f", {each['place']}" if each.get("place") else ""),
            _listed(each["seals"]),
            str(each.get("method") or f"paper, entered by {each.get('entered_by', '')}"),
        )
        for each in (*custody.get("entries", ()), *custody.get("paper", ()))
    ]
    notes = [f"To be judged: {finding}" for finding in custody.get("findings", ())]
    if custody and not notes:
        notes = ["Nothing is odd about it."]
    heads = ("entry", "time", "from -> to, place", "seals", "how")
    table = Table(heads=heads, rows=tuple(rows), widths=(10, 22, 38, 16, 14)) if rows else None
    return Section(
        title="Custody", facts=tuple(facts), table=table, notes=tuple(notes) or ("It was not judged in this receive.",)
    )


def _decisions(body: Mapping[str, Any]) -> Section:
    facts = []
    if stale := body.get("accepted_stale_by"):
        facts.append(("Stale, accepted by", f"{', '.join(stale['names'])}: {stale['reason']}"))
    if accepted := body.get("custody", {}).get("accepted_by"):
        facts.append(("Custody, accepted by", f"{accepted['name']}: {accepted['reason']}"))
    return Section(title="Decisions by name", facts=tuple(facts), notes=() if facts else ("None was needed or made.",))


def _program(body: Mapping[str, Any], place: Place, at: str) -> Section:
    made_by = body.get("verifier", {})
    where = {None: "none: this was a dry run", -1: "waits for the ledger to start"}.get(
        place.sequence, f"record {place.sequence} of {at}"
    )
    facts = (
        ("Verifier", f"sealift {made_by['version']}" if made_by else _UNKNOWN),
        ("SHA-256 of its code", str(made_by.get("sha256", _UNKNOWN))),
        ("Ledger", where),
        ("Receipt", place.receipt or "none"),
    )
    table = None
    if place.others:
        rows = tuple((str(sequence), time, kind, error) for sequence, time, kind, error in place.others)
        heads = ("record", "time", "kind", "error")
        table = Table(heads=heads, rows=rows, widths=(12, 30, 34, 24))
    return Section(title="Program and record", facts=facts, table=table)


def _signatures() -> Section:
    return Section(
        title="Signatures",
        notes=("The seals and the results above were looked at by:",),
        lines=(
            ("received by (print)", "signature", "date and time"),
            ("witness (print)", "signature", "date and time"),
            ("security officer (print)", "signature", "date and time"),
        ),
    )


def _said(body: Mapping[str, Any], name: str, *, missing: str = _UNKNOWN) -> str:
    return str(body.get(name) or missing)


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(texts) or "none"
