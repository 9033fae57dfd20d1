"""What the doctor says of the lease's voters: whether those that this box asks answer, and whom a witness lets in.

Another box that is away changes nothing for callers until the next failure, when it is too late to find out.
"""

from collections.abc import Iterator
from typing import Final

from appliance.actions.findings import Finding
from appliance.config import Config
from appliance.standby import permit, voters, whole

LEASE: Final = "lease"
WITNESS: Final = "witness"
RECORDS: Final = "records of the lease"


def findings(config: Config) -> Iterator[Finding]:
    """Yield what is to be said of a box that serves by a lease, or of a witness; nothing on any other.

    That nothing keeps the lease is said of its unit.
    """
    section = config.standby
    if section.lease:
        if why := whole.kept(config.at.state / "standby", section.peer):
            error = whole.lost(section.peer, why)
            yield Finding(name=RECORDS, is_good=False, text=f"{error.what}: {why}", why=error.why, fix=error.fix)
        if found := voters.read(permit.folder_of(config.at)):
            yield _asked(found)
    elif section.listen and not section.peer:
        yield Finding(
            name=WITNESS,
            is_good=bool(section.boxes),
            text=f"{' and '.join(section.boxes)} may ask" if section.boxes else "no box is let in to ask it",
            why="the packet filter lets nobody in whom the site file does not name",
            fix="name the addresses of both boxes in standby.boxes, then `sealift install`",
        )


def _asked(found: tuple[voters.Voter, ...]) -> Finding:
    now = permit.boottime()
    silent = [one for one in found if not one.answers]
    said = [voters.silence(one.name, now - one.since, is_witness=one.is_witness) for one in silent]
    return Finding(
        name=LEASE,
        is_good=not silent,
        text="; ".join(said) or f"answered by {' and '.join(one.shown for one in found)}",
        why="; ".join(one.consequence for one in silent),
        fix="its cable and its address in the site file; there: `systemctl status sealift-standby`" if silent else "",
    )
