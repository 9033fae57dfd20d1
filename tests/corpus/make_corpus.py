"""Wrote `v1/` but its `valid/*-files`. Run for a new format version only: python -m tests.corpus.make_corpus FOLDER.

Keys are throwaway and gone. What the readers of the day said to each case is written beside the cases; whoever runs
this reads `expected.json` before it is checked in, and from then on it binds.
"""

import base64
import json
import random
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.actions import export_evidence, export_inventory
from appliance.verify import trust
from bundler import emergency
from bundler.chunks import to_lines
from bundler.handin import hand_in
from bundler.proposal import propose
from bundler.register import Register
from bundler.rootsign import sign_root
from bundler.signatory import Ceremony
from media import canonical, layout
from media.clock import FixedClock
from media.digest import sha256_hex
from media.emergency import Reason
from media.people import SignaturePolicy
from tests.corpus import judging
from tests.support import readers
from tests.support.delta import delta_medium, holdings_of
from tests.support.gpg import gnupg_home
from tests.support.hybrid import chosen, hybrid_root, signed_file
from tests.support.ledger import ledger_site
from tests.support.medium import MADE_AT, SimulatedMedium, make_medium, tiny_payload
from tests.support.members import make_member
from tests.support.probes import gpu_probe, probe
from tests.support.receiving import NOW, Site, rotated, terms_for
from tests.support.sender import make_sender
from tests.support.versions import version_files

_CLOCK = FixedClock(at=MADE_AT)
_SCAN = {
    "format": 2,
    "rules": ["pickle"],
    "files": 12,
    "result": "passed",
    "checks": [{"check": "pickle", "version": 1, "files": 12}],
    "findings": [{"path": "data/x.whl!x.pth", "rule": "pth", "detail": "2 lines", "reason": "looked at by Alice"}],
    "templates": [
        {"path": "data/t", "sha256": "ab" * 32, "conversations": 9, "refused": 1, "output_sha256": "cd" * 32}
    ],
    "loads": [
        {
            "model": "tiny",
            "weights_sha256": "ab" * 32,
            "engine": "llama.cpp",
            "engine_wheel_sha256": "cd" * 32,
            "loaded": True,
            "reason": "",
            "sandbox": "isolated",
            "vocabulary": 9,
            "milliseconds": 40,
        }
    ],
    "antivirus": None,
}
_REFERENCE = {
    "format": 1,
    "name": "tiny",
    "eval_sha256": "ab" * 32,
    "parent_sha256": "cd" * 32,
    "parent_types": "F16",
    "engine": "llama.cpp",
    "engine_sha256": "ef" * 32,
    "method": "loglikelihood",
    "temperature": 0,
    "seed": 0,
    "max_tokens": 64,
    "template_sha256": "ab" * 32,
    "system_prompt_sha256": "ab" * 32,
}
_TASKS = (
    {"format": 1, "name": "tiny", "floor": "0.5"},
    {"id": "a", "kind": "multiple-choice", "prompt": "1 + 1", "answer": "2", "choices": ["1", "2"]},
    {"id": "b", "kind": "contains", "prompt": "The capital of France", "answer": "Paris"},
)


def write(folder: Path, scratch: Path) -> None:
    """Write media, files, what was done to them, and what the readers say."""
    full = make_medium(scratch / "full", serial=2, files=tiny_payload(serial=2))
    delta = _delta(scratch)
    for name, medium in (("medium-full", full), ("medium-delta", delta)):
        for volume in medium.volumes:
            shutil.copytree(volume, folder / "valid" / name / f"volume-{medium.volumes.index(volume) + 1}")
    (folder / "context").mkdir(parents=True)
    (folder / "context" / "1.root.json").write_bytes(full.root_json)
    (folder / "context" / "sealed").write_bytes(full.path(layout.TAG_MANIFEST).read_bytes())
    index = json.loads(full.path(layout.VOLUMES).read_bytes())
    (folder / "context" / "payload-digest").write_text(index["payload_digest"])
    with ledger_site(scratch / "box", site="demo-clinic") as box:
        said = _said(box, full, scratch)
        shutil.copy(box.places.etc / "ledger.pub", folder / "context" / "ledger.pub")
    valid = dict(_valid(full, delta, scratch)) | said
    for name, data in valid.items():
        (folder / "valid" / name).write_bytes(data)
    for kind, made in (("malformed", _malformed(valid)), ("tampered", _tampered(valid))):
        (folder / kind).mkdir()
        for name, data in made:
            path = folder / kind / name
            path.write_bytes(data)
            if judging.judge(folder, f"{kind}/{name}") == "done":
                print(f"reads all the same, and is left out: {path.name}")
                path.unlink()
    for name, change in _spoilt_media(full):
        (folder / "tampered" / f"{name}.medium.json").write_bytes(canonical.dumps(change))
    shutil.rmtree(scratch)


def _delta(scratch: Path) -> SimulatedMedium:
    shared = random.Random(11).randbytes(4096) * (layout.BLOCK_BYTES // 4096)
    old, new = (
        make_medium(scratch / f"d{serial}", serial=serial, files=tiny_payload(serial=serial, weights=shared + tail))
        for serial, tail in ((1, b"old" * 9), (3, b"new" * 9))
    )
    made = delta_medium(scratch / "delta", new, holdings_of(old), earlier=[old])
    new.volumes = made.volumes
    return new


def _said(box: Any, medium: SimulatedMedium, scratch: Path) -> dict[str, bytes]:
    """Return what leaves a site that received a medium: its inventory, receipt and evidence."""
    places, out = box.config.at, scratch / "out"
    places.pinned_trust.mkdir(parents=True)
    (places.pinned_trust / trust.PINNED_ROOT).write_bytes(medium.root_json)
    site = Site(config=box.config.model_copy(update={"environment": "demo", "profile": "cpu"}))
    with box.running(site.clock):
        site.receive(medium)
        _, inventory = export_inventory.export(
            site.config, out, clock=site.clock, agrees=lambda *_: True, progress=lambda *_: None
        )
        evidence = export_evidence.export(
            site.config, out, serial=medium.serial, sequence=None, clock=site.clock, agrees=lambda _: True
        )
    assert inventory is not None
    assert evidence is not None
    return {
        "inventory--full": inventory.file.read_bytes(),
        "evidence--received": evidence.file.read_bytes(),
        "receipt--full": next(places.receipts.glob("receipt-*.json")).read_bytes(),
    }


def _valid(full: SimulatedMedium, delta: SimulatedMedium, scratch: Path) -> Iterator[tuple[str, bytes]]:
    later = rotated(full.ceremony, without="carol")
    yield "root--single", full.root_json
    yield "next-root--rotated", later.chain[1]
    with gnupg_home() as home:
        sender = make_sender(home)
        signers = chosen("root", ("alice", "bob"))
        yield "root--hybrid", signed_file(hybrid_root(sender), signers)
        yield from _ceremony_files(home, scratch)
    for medium, name in ((full, "full"), (delta, "delta")):
        yield f"timestamp--{name}", medium.path(layout.TIMESTAMP).read_bytes()
        yield f"snapshot--{name}", medium.path(layout.snapshot_name(medium.serial)).read_bytes()
        yield f"targets--{name}", medium.path(layout.targets_name(medium.serial)).read_bytes()
        yield f"volume-index--{name}", medium.path(layout.VOLUMES).read_bytes()
        yield f"bag-info.txt--{name}", medium.path(layout.BAG_INFO).read_bytes()
        yield f"manifest--payload-{name}", medium.path(layout.MANIFEST).read_bytes()
        yield f"manifest--tags-{name}", medium.path(layout.TAG_MANIFEST).read_bytes()
    yield "bagit.txt--1.0", full.path(layout.BAGIT).read_bytes()
    yield "signature--alice", full.signature("alice").read_bytes()
    yield "certificate--alice", full.path(f"check/signers/{full.fingerprint('alice')}.gpg").read_bytes()
    for statement in ("provenance", "sbom", "scan"):
        data = full.path(layout.attestation_name(statement)).read_bytes()
        yield f"statement--{statement}", data
    bill = json.loads(base64.b64decode(json.loads(full.path(layout.attestation_name("sbom")).read_bytes())["payload"]))
    yield "bill--sbom", canonical.dumps(bill["predicate"])
    yield "scan--format-2", canonical.dumps(_SCAN)
    yield "scan--format-1", canonical.dumps({"format": 1, "rules": [], "files": 3, "result": "passed", "findings": []})
    yield "rehearsal--answered", full.path(layout.attestation_name("rehearsal")).read_bytes()
    sealed = full.path(layout.sealed_custody_name(1)).read_bytes()
    yield "custody-entry--sealed", sealed
    yield "hand-over--sealed", base64.b64decode(json.loads(sealed)["payload"])
    entry = next((full.volumes[0] / layout.CUSTODY).iterdir()).read_bytes()
    yield "custody-entry--handed-over", entry
    yield "custody-entry--delta", (delta.volumes[0] / "release/metadata/custody-sealed-1.dsse.json").read_bytes()
    yield "emergency-note--stolen", _note(full.ceremony)
    yield "model-descriptor--tiny", version_files()["data/models/tiny/descriptor.json"]
    yield "task-set--tiny", b"".join(canonical.dumps(each) + b"\n" for each in _TASKS)
    items = (
        {"id": "a", "kind": "multiple-choice", "prompt_sha256": "ab" * 32, "millinats": [-1200, -300]},
        {
            "id": "b",
            "kind": "contains",
            "prompt_sha256": "cd" * 32,
            "text": "Paris",
            "text_sha256": sha256_hex(b"Paris"),
        },
    )
    yield "reference--tiny", b"".join(canonical.dumps(each) + b"\n" for each in (_REFERENCE, *items))
    yield "probe--cpu", probe().to_bytes()
    yield "probe--gpu", gpu_probe(packages=("adduser 3.134 all", "zlib1g 1:1.2.13 amd64")).to_bytes()
    yield "hand-in--both-rounds", hand_in(full.work, "alice", ceremony=full.ceremony).to_bytes()
    yield "code-lines--note", "\n".join(to_lines(_note(full.ceremony))).encode()
    yield "register--sent", _register(scratch / "register")
    terms = terms_for(full)
    yield "trust-record--first", terms.trust.to_bytes()


def _ceremony_files(home: Any, scratch: Path) -> Iterator[tuple[str, bytes]]:
    people = [make_member(scratch / name, home, name) for name in ("alice", "bob", "carol")]
    yield "joining--hybrid", people[0].joined
    proposal = propose(
        None, add=[each.joining for each in people], environment="production", policy=SignaturePolicy.HYBRID
    )
    yield "root-proposal--first", proposal.to_bytes()
    yield "root-signature--alice", sign_root(proposal, "alice", held=None, home=people[0].keys("root")).to_bytes()


def _note(ceremony: Ceremony) -> bytes:
    since = datetime(2026, 11, 20, 12, tzinfo=UTC)
    note = emergency.draft(
        ceremony, [("carol", ("release",))], number=1, reason=Reason.STOLEN, since=since, clock=FixedClock(at=NOW)
    )
    untrusted = note.to_bytes()
    for person in ("alice", "bob"):
        untrusted = emergency.sign(untrusted, ceremony, ceremony.signatory(person))
    return untrusted


def _register(folder: Path) -> bytes:
    folder.mkdir()
    register = Register(folder=folder)
    register.append("sent", {"medium": "demo-2/1/1", "to": "Clinic", "by": "Alice"}, clock=_CLOCK)
    returned = {"medium": "demo-2/1/1", "by": "Alice", "condition": "seal broken", "destroyed": True}
    register.append("returned", returned, clock=_CLOCK)
    return register.file.read_bytes()


def _malformed(valid: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Shapes that no writer makes, of every file."""
    seen = set()
    for name, data in sorted(valid.items()):
        reader = name.partition("--")[0]
        if reader in seen and reader not in {"root", "volume-index", "custody-entry"}:
            continue
        seen.add(reader)
        yield f"{reader}--empty", b""
        yield f"{name}-half", data[: len(data) // 2]
        yield f"{name}-byte-more", data + b"\0"
        yield f"{name}-byte-before", b"\n" + data
        try:
            value = json.loads(data)
        except ValueError:
            continue
        yield f"{name}-byte-order-mark", b"\xef\xbb\xbf" + data
        yield f"{name}-unknown-field", canonical.dumps({**value, "x-unknown": 1}, allow_floats=True)
        yield f"{name}-key-twice", data[:-1] + b',"format":1,"format":1}'
        yield f"{name}-format-2", canonical.dumps({**value, "format": 2 if reader != "scan" else 3}, allow_floats=True)
        for key in sorted(value) if len(data) < 6000 else ():
            yield (
                f"{name}-without-{key}",
                canonical.dumps({k: v for k, v in value.items() if k != key}, allow_floats=True),
            )
        yield f"{reader}--deep", b"[" * 40 + b"]" * 40
        yield f"{reader}--not-a-number", data[:-1] + b',"z":NaN}'


def _tampered(valid: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """What says something else than what was signed, in a form that reads."""
    for name, data in sorted(valid.items()):
        try:
            value = json.loads(data)
        except ValueError:
            value = None
        if name.startswith(("root--", "next-root--")):
            yield f"{name}-other-threshold", canonical.dumps(_with(value, "signed", "roles", "targets", "threshold", 1))
            yield f"{name}-one-signature", canonical.dumps({**value, "signatures": value["signatures"][:1]})
            twice = [value["signatures"][0], {**value["signatures"][0], "keyid": value["signatures"][1]["keyid"]}]
            yield f"{name}-one-key-under-two-ids", canonical.dumps({**value, "signatures": twice})
        elif isinstance(value, dict) and {"payload", "signatures"} <= value.keys():
            payload = base64.b64decode(value["payload"])
            other = base64.b64encode(payload[:-2] + bytes([payload[-2] ^ 1]) + payload[-1:]).decode()
            yield f"{name}-other-payload", canonical.dumps({**value, "payload": other})
            if not name.startswith(
                ("inventory", "receipt", "evidence")
            ):  # their ledger's proof may stand alone (EXP-3)
                yield f"{name}-unsigned", canonical.dumps({**value, "signatures": []})
            junk = [{**each, "sig": base64.b64encode(b"x" * 64).decode()} for each in value["signatures"]]
            yield f"{name}-junk-signature", canonical.dumps({**value, "signatures": junk})
        elif name.startswith("signature"):
            yield f"{name}-twice", data + data
            yield f"{name}-last-bit", data[:-1] + bytes([data[-1] ^ 1])
        elif name.startswith("register"):
            yield f"{name}-first-line-gone", data.partition(b"\n")[2]
        elif name.startswith("code-lines"):
            yield f"{name}-other-digest", data.replace(b"S1:", b"S1:0", 1)[:-1]


def _with(value: Any, *path: Any) -> Any:
    """Return a copy in which the value at a path is the last argument."""
    *keys, last, new = path
    copied = json.loads(json.dumps(value))
    place = copied
    for key in keys:
        place = place[key]
    place[last] = new
    return copied


def _spoilt_media(full: SimulatedMedium) -> Iterator[tuple[str, dict[str, Any]]]:
    """One change each to the full medium: `flip`, `cut`, `add`, `gone`, or `copy` from another place of it."""

    def of(change: str, path: str, volume: int = 1, **more: Any) -> dict[str, Any]:
        return {"medium": "medium-full", "volume": volume, "change": change, "path": path, **more}

    yield "weights-flipped", of("flip", "data/models/tiny/tiny.gguf", 2, at=77)
    yield "weights-cut", of("cut", "data/models/tiny/tiny.gguf", 2, at=77)
    yield "payload-flipped", of("flip", "data/debs/Packages", at=3)
    yield "payload-gone", of("gone", "data/debs/Packages")
    yield "payload-extra", of("add", "data/debs/more")
    for name in (layout.TIMESTAMP, layout.VOLUMES, layout.targets_name(2), "check/VERIFY.txt", layout.BAG_INFO):
        yield f"{Path(name).name}-flipped", of("flip", name, at=40)
    yield "tag-manifest-flipped", of("flip", layout.TAG_MANIFEST, at=4)
    yield "signature-gone", of("gone", layout.signature_name(full.fingerprint("bob")))
    own, other = (layout.signature_name(full.fingerprint(person)) for person in ("alice", "bob"))
    yield "one-person-twice", of("copy", other, source=own)
    yield "manifest-of-the-other-volume", of("copy", layout.MANIFEST, source=layout.MANIFEST, source_volume=2)
    yield "custody-gone", of("gone", "../custody/" + next((full.volumes[0] / layout.CUSTODY).iterdir()).name)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    readers.CONTEXT = target / "context"  # the corpus that is being made
    write(target, target.with_name(f"{target.name}.scratch"))
    judging.write_expected(target)
