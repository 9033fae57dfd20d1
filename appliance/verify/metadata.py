"""TUF metadata, read strictly before python-tuf sees it, then judged by python-tuf, then counted again by people.

Rules:
 * A file's shape is fixed: no unknown field, no delegation, no other expiry than never (a box has no trusted time).
 * Every signature in a file must hold and be by a key of that role: an odd one refuses the file.
 * python-tuf decides thresholds and versions in its own order (`appliance.verify.tuforder`), without I/O.
 * Afterwards people are counted: one person with two keys is one person, and under the hybrid policy a person counts
   with a classic and an ML-DSA-87 signature only.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final

from tuf.api.metadata import Metadata, Root  # type: ignore[attr-defined]  # re-exported without __all__

from appliance.verify.trust import require_root
from appliance.verify.tuforder import ReleaseOrder, RoleFile, trusted_roots, typed
from media import canonical, emergency, keys
from media.emergency import SignedNote
from media.errors import (
    BadSignatureError,
    MalformedError,
    ThresholdError,
    WrongEnvironmentError,
)
from media.people import Environment, People, Person, Role

_NEW: Final = "do not use this medium; ask the sender for a new one"
NEVER: Final = "9999-12-31T23:59:59Z"
_COMMON: Final = ("_type", "expires", "spec_version", "version")
_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "root": ("consistent_snapshot", "keys", "roles", "x-sealift-environment", "x-sealift-people"),
    "timestamp": ("meta", "x-sealift-stale-after"),
    "snapshot": ("meta",),
    "targets": ("targets", "x-sealift", "x-sealift-checkpoints"),
}
_OPTIONAL: Final[Mapping[str, tuple[str, ...]]] = {"root": ("x-sealift-policy",)}
_NEXT: Final[Mapping[str, str]] = {"timestamp": "snapshot.json", "snapshot": "targets.json"}

# python-tuf logs what it refuses; the caller says it once, in three parts.
logging.getLogger("tuf").addHandler(logging.NullHandler())


def read_role(untrusted: bytes, role: str) -> RoleFile:
    """Fix the shape of a metadata file.

    Raises:
        LimitExceededError: It is too large.
        MalformedError: Its shape is another.
    """
    what = f"The {role} metadata"
    value = canonical.exact_keys(canonical.loads(untrusted), ("signatures", "signed"), (), what)
    signatures = keys.require_signatures(value["signatures"], what)
    signed = canonical.exact_keys(value["signed"], (*_COMMON, *_FIELDS[role]), _OPTIONAL.get(role, ()), what)
    canonical.one_of(signed["_type"], (role,), what)
    canonical.one_of(signed["expires"], (NEVER,), f"{what}: expires")
    if canonical.text(signed["spec_version"], what).partition(".")[0] != "1":
        raise MalformedError(what=f"{what} is malformed", why="it follows another TUF specification", fix=_NEW)
    canonical.integer(signed["version"], what, minimum=1)
    if role == "root" and signed["consistent_snapshot"] is not True:
        raise MalformedError(what=f"{what} is malformed", why="snapshots must be consistent", fix=_NEW)
    if role in _NEXT:
        named = canonical.exact_keys(signed["meta"], (_NEXT[role],), (), what)
        entry = canonical.exact_keys(named[_NEXT[role]], ("version",), (), what)
        canonical.integer(entry["version"], what, minimum=1)
    return RoleFile(role=role, raw=untrusted, signed=signed, signatures=signatures)


class TrustChain:
    """The roots that a box believes, and what hangs below the last of them. Takes bytes, touches no disk.

    Load order is python-tuf's: roots, timestamp, snapshot, targets.
    """

    def __init__(
        self, untrusted_chain: tuple[str, ...], environment: str, *, untrusted_notes: tuple[str, ...] = ()
    ) -> None:
        """Begin with the chain of the trust record, and the emergency notes that it holds; all are verified again.

        Raises:
            MediaError, TrustError: The record's chain or a note does not hold.
            WrongEnvironmentError: Its roots are for another environment.
        """
        self._environment = environment
        first, *rest = [text.encode() for text in untrusted_chain]
        file = read_role(first, "root")
        self.people = people_of(file, environment)
        self._set = trusted_roots(file)
        self._count_root(file, self._set.root, self.people)
        self.roots = [first]
        self.notes: tuple[SignedNote, ...] = ()
        for raw in rest:
            self.extend(raw)
        for note in untrusted_notes:
            self.heed_again(note.encode())

    @property
    def version(self) -> int:
        """Of the trusted root."""
        return self._set.root.version

    @property
    def texts(self) -> tuple[str, ...]:
        """The chain, as the trust record holds it."""
        return tuple(raw.decode() for raw in self.roots)

    def extend(self, untrusted: bytes) -> None:
        """Accept the next root: signed by the people of this one and by its own.

        Raises:
            BadSignatureError, ThresholdError, SamePersonError: The people who must have signed did not.
            LimitExceededError, MalformedError: It is no root, not the next version, or not in its only form.
            WrongEnvironmentError: It is for another environment than the one before.
        """
        require_root(untrusted)
        file = read_role(untrusted, "root")
        people = people_of(file, self._environment)
        before, people_before = self._set.root, self.people
        people = people.without(people_before.revoked)
        after = typed(lambda: Metadata[Root].from_bytes(untrusted).signed, file)
        _require_signatures_hold(file, (before, after), file.covered())
        typed(lambda: self._set.update_root(untrusted), file)
        self._count_root(file, before, people_before)
        self._count_root(file, self._set.root, people)
        self.people = people
        self.roots.append(untrusted)

    def heed(self, untrusted_note: bytes) -> SignedNote:
        """Accept an emergency note: signatures by the keys that it names count no more, from here on.

        Raises:
            BadSignatureError, ThresholdError: Not enough root people of the trusted root signed it.
            LimitExceededError, MalformedError, WrongEnvironmentError: It is no note, or not for this box.
        """
        return self._take(emergency.read(untrusted_note, self.people, first_root=self.roots[0]))

    def leave_out(self, keys_in_doubt: Iterable[str]) -> None:
        """Judge from here on as if a note had taken these keys away; for questions, nothing is kept."""
        self.people = self.people.without(keys_in_doubt)

    def heed_again(self, untrusted_note: bytes) -> None:
        """Accept a note of the trust record, by the root of its day: a rotation since then does not undo it."""
        for raw in reversed(self.roots):
            people = people_of(read_role(raw, "root"), self._environment).without(self.people.revoked)
            with suppress(BadSignatureError, ThresholdError):
                self._take(emergency.read(untrusted_note, people, first_root=self.roots[0]))
                return
        self.heed(untrusted_note)

    def _take(self, signed: SignedNote) -> SignedNote:
        self.people = self.people.without(signed.note.keys)
        self.notes = (*self.notes, signed)
        return signed

    def load_release(self, timestamp: RoleFile, snapshot: RoleFile, targets: RoleFile) -> dict[str, tuple[Person, ...]]:
        """Verify what release people sign; return who signed each file.

        Raises:
            BadSignatureError, ThresholdError, SamePersonError: The people who must have signed did not.
            WrongVolumeError: The three files are not of one release.
        """
        root, files = self._set.root, (timestamp, snapshot, targets)
        order = ReleaseOrder(self.roots[-1], files)
        for file in files:
            _require_signatures_hold(file, (root,), order.covered[file.role])
        for file in files:
            order.update(file)
        return {file.role: self._count_release(file, root, order.covered[file.role]) for file in files}

    def _count_root(self, file: RoleFile, root: Root, people: People) -> None:
        keyids = _verified(file, root, file.covered())
        people.require_key_signers(keyids, Role.ROOT, people.thresholds["root"])

    def _count_release(self, file: RoleFile, root: Root, covered: bytes) -> tuple[Person, ...]:
        keyids = _verified(file, root, covered)
        return self.people.require_key_signers(keyids, Role.RELEASE, self.people.thresholds["release"])


def root_by_root(untrusted_chain: tuple[str, ...], environment: str) -> Iterator[TrustChain]:
    """Yield one chain at each of its roots in turn; it grows by the next when that is asked for.

    Raises:
        MediaError, TrustError: As `TrustChain`, at the root that does not hold.
    """
    chain = TrustChain(untrusted_chain[:1], environment)
    yield chain
    for root in untrusted_chain[1:]:
        chain.extend(root.encode())
        yield chain


def people_of(file: RoleFile, environment: str) -> People:
    """Return the people of a root that is for this environment.

    Raises:
        MalformedError, LimitExceededError: Its people do not read.
        WrongEnvironmentError: It is for another environment.
    """
    people = People.from_root(file.signed)
    require_environment(people.environment, environment)
    return people


def require_environment(found: Environment, expected: str) -> None:
    """Refuse a root that is for something else than this machine.

    Raises:
        WrongEnvironmentError: It is.
    """
    if found != expected:
        raise WrongEnvironmentError(
            what=f"the root is for {found}, this machine is for {expected}",
            why="demo and rehearsal keys are made to be thrown away; production refuses them for ever",
            fix="use a release that was signed for this environment",
        )


def _verified(file: RoleFile, root: Root, covered: bytes) -> tuple[str, ...]:
    result = root.get_verification_result(file.role, covered, dict(file.signatures))
    return tuple(sorted(result.signed))


def _require_signatures_hold(file: RoleFile, roots: tuple[Root, ...], covered: bytes) -> None:
    for keyid, signature in file.signatures.items():
        owners = [root for root in roots if keyid in root.roles[file.role].keyids]
        if not owners:
            raise BadSignatureError(
                what=f"the {file.role} metadata is signed by a key that the root does not name for it",
                why=f"key {keyid[:12]}; it may have been revoked in a later root",
                fix="do not use this medium; ask the sender who signed it",
            )
        for root in owners:
            keys.verify(root.keys[keyid], signature, covered, f"the {file.role} metadata")
