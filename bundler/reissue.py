"""Signing a release again: the same serial and the same bytes, a later date after which it is stale.

A new work folder is made beside the old one; what was attested rests as it is, so targets and snapshot come out
byte-identical and only the timestamp, the tag manifests and the trust sheet are new. A box that holds the serial takes
just the timestamp.
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path

from bundler.errors import NotEmptyError, SigningError
from bundler.plan import ReleasePlan
from bundler.volumefiles import volume_index
from bundler.workfolder import WorkFolder


def reissue(work: WorkFolder, destination: WorkFolder, *, stale_after: str) -> ReleasePlan:
    """Lay down the same candidate for another round of signing.

    Args:
        work: A frozen release.
        destination: A folder that does not exist yet.
        stale_after: The new date, later than the one before.

    Raises:
        SigningError: The release is not frozen, or the date is not later.
        NotEmptyError: The destination exists.
        MalformedError: The date is none.
    """
    again = reissued(work, destination, stale_after=stale_after)
    shutil.copytree(work.data, destination.data, copy_function=_link_or_copy)
    shutil.copytree(work.attest, destination.attest)
    shutil.copy2(work.volumes, destination.volumes)
    destination.plan.write_bytes(again.to_bytes())
    return again


def reissued(work: WorkFolder, destination: WorkFolder, *, stale_after: str) -> ReleasePlan:
    """Return the plan that `reissue` would lay down, once everything that it needs holds; change nothing.

    Raises:
        SigningError, NotEmptyError, MalformedError: As there.
    """
    if volume_index(work).base is not None:
        raise SigningError(
            what="this work folder is a delta set's own",
            why="the release is signed again, then delta sets are made from it",
            fix="name the work folder in which the release was signed",
        )
    plan = ReleasePlan.load(work.plan)
    again = replace(plan, stale_after=stale_after, issue=plan.issue + 1)
    if stale_after <= plan.stale_after:
        raise SigningError(
            what="a release is signed again for a later date",
            why=f"{stale_after} is not after {plan.stale_after}",
            fix="give a later one with --stale-after",
        )
    if destination.root.exists():
        raise NotEmptyError(what="the new work folder exists", why="nothing is written over", fix="name another one")
    return again


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return str(Path(target))
