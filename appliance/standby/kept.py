"""What the lease must not forget over a restart, in the box's state folder: term, holder, whether alone, the witness.

`lease.json` is read by releases from before LEASE-8, too, so the witness has a file of its own. It counts beside the
term and holder that it names alone: one that was left behind, by a power cut or another release, says nothing.
"""

from dataclasses import replace
from pathlib import Path
from typing import Final

from appliance.standby.lease import Kept
from media import canonical, durable
from media.errors import MalformedError, MediaError

STATE: Final = "lease.json"
WITNESS: Final = "witness.json"
_FORMAT: Final = 1
_FIX: Final = (
    "see that the other box serves, or is switched off; then as root: mv /var/lib/sealift/standby/lease.json"
    " /var/lib/sealift/standby/lease.json.damaged; systemctl restart sealift-standby; where nobody serves after that,"
    " two people take over: `sealift standby take-over`"
)


def load(folder: Path) -> Kept:
    """Return what was kept; nothing at the first start.

    Raises:
        MalformedError: The file is damaged; nothing is granted or served before people put it aside.
    """
    try:
        untrusted = (folder / STATE).read_bytes()
    except FileNotFoundError:
        return Kept()
    try:
        kept = _read(untrusted)
    except MediaError as error:
        raise MalformedError(
            what="what this box kept of the lease does not read",
            why=f"{STATE}: {error.why or error.what}",
            fix=_FIX,
        ) from error
    return replace(kept, witness=_witness(folder, kept))


def _read(untrusted: bytes) -> Kept:
    fields = canonical.exact_keys(
        canonical.loads_canonical(untrusted), ("format", "term", "holder", "alone"), what="lease.json"
    )
    canonical.integer(fields["format"], "lease.json.format", minimum=_FORMAT, maximum=_FORMAT)
    return Kept(
        term=canonical.integer(fields["term"], "lease.json.term"),
        holder=canonical.text(fields["holder"], "lease.json.holder", may_be_empty=True),
        alone=canonical.boolean(fields["alone"], "lease.json.alone"),
    )


def store(folder: Path, kept: Kept) -> None:
    """Keep it; it lies on the disk when this returns.

    Raises:
        OSError: It could not be written.
    """
    values = {"format": _FORMAT, "term": kept.term, "holder": kept.holder}
    for name, more in ((WITNESS, {"witness": kept.witness}), (STATE, {"alone": kept.alone})):
        durable.replace(folder / name, canonical.dumps({**values, **more}), mode=0o600)


def _witness(folder: Path, kept: Kept) -> str:
    # What cannot be read is not known, and then the witness does not count before the other box was heard.
    try:
        untrusted = canonical.loads_canonical((folder / WITNESS).read_bytes())
        fields = canonical.exact_keys(untrusted, ("format", "term", "holder", "witness"), what=WITNESS)
        canonical.integer(fields["format"], f"{WITNESS}.format", minimum=_FORMAT, maximum=_FORMAT)
        witness = canonical.text(fields["witness"], f"{WITNESS}.witness", may_be_empty=True)
    except (OSError, MediaError):
        return ""
    return witness if (fields["term"], fields["holder"]) == (kept.term, kept.holder) else ""
