"""What sources hand to the scan and the assembly: files with their digests, and what they were made from."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from bundler.digests import file_sha256
from bundler.needs import NOTHING, Needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """What an SBOM says of one file beyond its path and digest."""

    name: str
    version: str = ""
    purl: str = ""
    license: str = ""
    origin: str = ""
    parent_sha256: str = ""
    parent_purl: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One file of the payload: where it goes, its bytes (a host file or the content itself), and what it is.

    `kind` is one of the target kinds of the medium: weights, model, wheel, deb, server, host, eval, release.
    """

    target: str
    kind: str
    length: int
    sha256: str
    component: Component
    file: Path | None = None
    content: bytes = b""

    @classmethod
    def of_file(cls, file: Path, *, target: str, kind: str, component: Component) -> "Artifact":
        """Describe a host file, hashing it now."""
        return cls(
            target=target,
            kind=kind,
            length=file.stat().st_size,
            sha256=file_sha256(file),
            component=component,
            file=file,
        )

    @classmethod
    def of_bytes(cls, content: bytes, *, target: str, kind: str, component: Component | None = None) -> "Artifact":
        """Describe content made here."""
        return cls(
            target=target,
            kind=kind,
            length=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            component=component or Component(name=target.removeprefix("data/")),
            content=content,
        )

    def read(self) -> bytes:
        """Return the bytes. For files of modest size."""
        return self.content if self.file is None else self.file.read_bytes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """One input of the build: a download, a built wheel's source, the checkout."""

    uri: str
    sha256: str = ""
    git_commit: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What one source brought."""

    artifacts: tuple[Artifact, ...]
    materials: tuple[Material, ...] = ()
    needs: Needs = NOTHING
