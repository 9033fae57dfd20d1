"""What a volume claims to be, before any trust: for a person who wonders what the stick in their hand is.

Nothing here is verified and nothing here is used for a decision; every field is named `untrusted_*`.
"""

from typing import Any

from appliance.verify.bag import UntrustedBag
from appliance.verify.medium import Medium
from appliance.verify.metadata import read_role
from media import bagit, bill, canonical, layout, limits
from media.clock import to_text
from media.dsse import Envelope
from media.errors import SealiftError
from media.release import ReleaseTerms, StaleAfter, targets_from
from media.volume import VolumeIndex


def inspect(medium: Medium) -> dict[str, Any]:
    """Return what a volume says about itself; what cannot be read is said in `problems`.

    Raises:
        MediaError: It is no volume, or cannot be read at all.
    """
    bag = UntrustedBag(medium)
    problems: list[str] = []
    total = sum(bag.sizes.values())
    if total > limits.INTEGER_MAX:  # a made file system says any size of its files
        problems.append(f"its files claim {total} bytes: more than any medium has")
    facts: dict[str, Any] = {
        "volume": medium.label,
        "litter": list(bag.top.litter),
        "untrusted_signers": sorted(bag.signatures.values()),
        "untrusted_files": len(bag.sizes),
        "untrusted_bytes": min(total, limits.INTEGER_MAX),
        "untrusted_has_custody": bag.top.has_custody,
    }
    for part in (_bag_info, _index, _release, _bill):
        try:
            facts |= part(bag)
        except SealiftError as error:
            problems.append(f"{error.what}: {error.why}")
    return {**facts, "problems": list(dict.fromkeys(problems))}


def _bag_info(bag: UntrustedBag) -> dict[str, Any]:
    info = bagit.parse_bag_info(bag.file(layout.BAG_INFO))
    return {
        "untrusted_release": info.release,
        "untrusted_serial": info.serial,
        "untrusted_volume": f"{info.number} of {info.count}",
        "untrusted_volume_id": info.volume_id,
    }


def _index(bag: UntrustedBag) -> dict[str, Any]:
    index = VolumeIndex.from_bytes(bag.file(layout.VOLUMES))
    facts = {"untrusted_payload_digest": index.payload_digest, "untrusted_volumes": len(index.volumes)}
    if index.base is None:
        return facts
    return {**facts, "untrusted_delta_for": index.base.site, "untrusted_delta_base": list(index.base.serials)}


def _release(bag: UntrustedBag) -> dict[str, Any]:
    timestamp = read_role(bag.file(layout.TIMESTAMP), "timestamp")
    serial = int(timestamp.signed["meta"]["snapshot.json"]["version"])
    terms = ReleaseTerms.from_targets(read_role(bag.file(layout.targets_name(serial)), "targets").signed)
    return {
        "untrusted_sites": list(terms.sites),
        "untrusted_created": to_text(terms.created),
        "untrusted_stale_after": to_text(StaleAfter.from_timestamp(timestamp.signed).at),
        "untrusted_machines": [machine.profile for machine in terms.machines],
    }


def _bill(bag: UntrustedBag) -> dict[str, Any]:
    """Say whether the bill of materials names the very files that the release names."""
    name = layout.attestation_name("sbom")
    if name not in bag.sizes:
        return {}
    serial = int(read_role(bag.file(layout.TIMESTAMP), "timestamp").signed["meta"]["snapshot.json"]["version"])
    targets = targets_from(read_role(bag.file(layout.targets_name(serial)), "targets").signed)
    payload = Envelope.from_bytes(bag.file(name)).payload
    statement = canonical.mapping(canonical.loads(payload, max_bytes=limits.PAYLOAD_BYTES, allow_floats=True), "sbom")
    files = {path: target.sha256 for path, target in targets.items() if path.startswith(f"{layout.DATA}/")}
    bill.require_same_files(statement.get("predicate"), files)
    return {"untrusted_bill_of_materials": f"names these {len(files)} files and no other"}
