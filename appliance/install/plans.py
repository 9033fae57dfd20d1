"""A plan (HOST-1): what an install would change on the host, one document under its digest, for two people to approve.

It holds what changes in playbooks and units, the account of the check-mode run with its differences, without what
Ansible warns of, and every Debian package that would be put in with the text of its maintainer scripts, because these
run as root. Promises: equal changes give equal bytes (words stand in the place of times and temporary names), so a plan
that was approved is void as soon as the host or the release differs; a stored plan is hashed again whenever it is read;
characters that hide or turn text are shown as what they are; a plan shows all of the account, or there is none.
"""

import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self

from appliance.config import Places
from appliance.errors import HostChangeError
from appliance.install.maintainer import Package, readable
from media import canonical, durable

FORMAT: Final = 1
TYPE: Final = "sealift/host-plan"
MAX_BYTES: Final = 12 * 2**20
MAX_TEXT: Final = 8 * 2**20
BEFORE: Final = "what stands before the first task"
COUNT: Final = "the count of tasks at the end"
_FIELDS: Final = (
    "site",
    "serial",
    "release",
    "previous",
    "host_files",
    "settings",
    "changed",
    "packages",
    "difference",
)
_TEMPORARY = re.compile(
    r"/[t]mp/(?:sealift-[a-z]*-?[A-Za-z0-9_]+|tmp[A-Za-z0-9_]+)(?:/local)?(?:/ansible-[A-Za-z0-9_.-]+)*"
)
_SCRATCH = re.compile(r"(?:ansible-(?:local-|tmp-)?[A-Za-z0-9_.-]+|tmp[a-z0-9_]{6,12})/")
_TASK = re.compile(r"^(?:TASK|RUNNING HANDLER) \[([^\]]{1,200})\].*$", re.MULTILINE)
_RECAP = re.compile(r"^PLAY RECAP \*+$", re.MULTILINE)
_STAMP = re.compile(r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]{8,15}\b|\b[0-9]:[0-9]{2}:[0-9]{2}\.[0-9]+\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would change.

    Attributes:
        previous: The release that runs now, 0 when none does; its Ansible made the plan.
        host_files: Digest of the release's playbooks, units and packages.
        settings: Digest of the site file that fills the playbooks' variables.
        changed: How many tasks would change something.
        packages: Debian packages that would be put in.
        difference: What changes in playbooks and units, and the account of the check-mode run.
    """

    site: str
    serial: int
    release: str
    previous: int
    host_files: str
    settings: str
    changed: int
    packages: tuple[Package, ...]
    difference: str

    @property
    def digest(self) -> str:
        """The plan's SHA-256, which people approve."""
        return sha256(self.to_bytes()).hexdigest()

    @property
    def changes_host(self) -> bool:
        """Whether there is anything to approve."""
        return self.changed > 0 or bool(self.packages)

    def to_bytes(self) -> bytes:
        """Return the document."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in _FIELDS}
        return canonical.dumps(
            {"format": FORMAT, "type": TYPE, **fields, "packages": [one.to_json() for one in self.packages]}
        )

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Parse a document.

        Raises:
            MalformedError: It is not in its one form.
        """
        value = canonical.loads_canonical(untrusted, max_bytes=MAX_BYTES)
        fields = canonical.exact_keys(value, ("format", "type", *_FIELDS), what="plan")
        canonical.integer(fields["format"], "plan.format", minimum=FORMAT, maximum=FORMAT)
        canonical.one_of(fields["type"], (TYPE,), "plan.type")
        return cls(
            site=canonical.text(fields["site"], "plan.site"),
            serial=canonical.integer(fields["serial"], "plan.serial", minimum=1),
            release=canonical.text(fields["release"], "plan.release"),
            previous=canonical.integer(fields["previous"], "plan.previous"),
            host_files=canonical.sha256_hex(fields["host_files"], "plan.host_files"),
            settings=canonical.sha256_hex(fields["settings"], "plan.settings"),
            changed=canonical.integer(fields["changed"], "plan.changed"),
            packages=tuple(
                Package.from_json(one) for one in canonical.array(fields["packages"], "plan.packages", most=2000)
            ),
            difference=canonical.text(
                fields["difference"], "plan.difference", most=MAX_TEXT, may_be_empty=True, lines=True
            ),
        )

    def to_text(self) -> str:
        """Return what people read before they approve."""
        lines = [
            f"Site         {self.site}",
            f"Release      {self.release} (serial {self.serial}), after serial {self.previous or 'none'}",
            f"Playbooks    {self.host_files}",
            f"Site file    {self.settings}",
            f"Changes      {self.changed} tasks, {len(self.packages)} packages",
        ]
        for package in self.packages:
            lines.append(f"Package      {package.name} {package.before or '(absent)'} -> {package.after}")
            for name, text in package.scripts:
                lines += [f"  {name} runs as root:", *(f"    {line}" for line in text.splitlines())]
        return "\n".join([*lines, "", self.difference, f"plan {self.digest}"]) + "\n"


def plain(text: str, *folders: Path) -> str:
    """Return an account without what differs from run to run, its hidden characters written as what they are.

    A word stands where something was taken out, so that no path is read as a shorter one.

    Raises:
        HostChangeError: It is longer than people are shown, and so more than they would approve.
    """
    for folder in folders:
        text = text.replace(str(folder), "RELEASE")
    return shown_whole(readable(_STAMP.sub("TIME", _SCRATCH.sub("SCRATCH/", _TEMPORARY.sub("TEMPORARY", text)))))


def shown_whole(text: str) -> str:
    """Return a text that a plan can hold.

    Raises:
        HostChangeError: It is longer than people are shown, and so more than they would approve.
    """
    if len(text) > MAX_TEXT:
        raise HostChangeError(
            what="what the install would change cannot be shown whole",
            why=f"the account has {len(text)} characters, and a plan holds {MAX_TEXT}",
            fix="ask the sender for a release that changes less at once",
        )
    return text


def identity(plan: Plan) -> tuple[str | int, ...]:
    """Return what a plan is about, whatever it would change: all that somebody else can see for themselves."""
    return (plan.site, plan.serial, plan.release, plan.previous, plan.host_files, plan.settings)


def differing(plan: Plan, other: Plan) -> tuple[str, ...]:
    """Return the names of the tasks and packages of which two plans say something else, each once, in their order.

    What an account says before its first task and after its last has names of its own, which stand last.
    """
    mine, theirs = (_by_name(one) for one in (plan, other))
    names = sorted({**mine, **theirs}, key=(BEFORE, COUNT).__contains__)
    return tuple(name for name in names if mine.get(name) != theirs.get(name))


def _by_name(plan: Plan) -> dict[str, list[object]]:
    """Return what a plan says about each task and package; several tasks may have one name."""
    tasks, *recap = _RECAP.split(plan.difference, maxsplit=1)
    # Splitting by a pattern with one group gives what stands before, then name and account in turns.
    before, *parts = _TASK.split(tasks)
    said: dict[str, list[object]] = {BEFORE: [before], COUNT: [*recap]}
    for name, account in zip(parts[::2], parts[1::2], strict=True):
        said.setdefault(name, []).append(account)
    for package in plan.packages:
        said.setdefault(package.name, []).append(package)
    return said


def keep(places: Places, plan: Plan) -> str:
    """Store a plan and return its digest."""
    place, content = folder(places) / f"{plan.digest}.json", plan.to_bytes()
    with suppress(OSError):
        if read_strange(place, MAX_BYTES + 1) == content:
            return plan.digest
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    durable.replace(place, content, mode=0o644)
    return plan.digest


def read(places: Places, digest: str) -> Plan:
    """Return a stored plan.

    Raises:
        HostChangeError: There is none of that digest, or its bytes are not what their name says.
    """
    name = canonical.sha256_hex(digest, "plan digest")
    try:
        content = read_strange(folder(places) / f"{name}.json", MAX_BYTES + 1)
    except OSError as error:
        raise _lost(digest, error.strerror or "it cannot be read") from error
    if sha256(content).hexdigest() != digest:
        raise _lost(digest, "its bytes have another digest")
    return Plan.from_bytes(content)


def read_strange(path: Path, most: int) -> bytes:
    """Return the beginning of a file that a stranger may have put there: through no link, and without waiting.

    Raises:
        OSError: It cannot be read, or is a link.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        return file.read(most) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""


def folder(places: Places) -> Path:
    """Return where plans lie."""
    return places.state / "plans"


def _lost(digest: str, why: str) -> HostChangeError:
    return HostChangeError(
        what=f"the plan {digest[:12]} cannot be read", why=why, fix="make it again: `sealift install SERIAL --plan`"
    )
