"""The bill of materials against the files it is about: the same set, both ways, each by its digest.

A bill is evidence and decides nothing. But one that names a file the release lacks, or lacks one it has, is wrong, and
whoever reads it should hear so (BILL-1). The form is CycloneDX's JSON; a property of each component is its file's path.
"""

from collections.abc import Mapping
from typing import Any, Final

from media import canonical
from media.digest import same
from media.errors import DigestMismatchError, ExtraFileError, MalformedError, MissingFileError

PATH_PROPERTY: Final = "sealift:path"
PREDICATE_TYPE: Final = "https://cyclonedx.org/bom"
_SHA256: Final = "SHA-256"
_FIX: Final = "ask who built the release for a correct bill; the bytes are judged by the signed targets alone"


def files_of(untrusted: Any) -> dict[str, str]:
    """Return the SHA-256 of each file that a bill names, by path.

    Raises:
        MalformedError: A component has no path or no digest, or two have one path.
    """
    bill = canonical.mapping(untrusted, "The bill of materials")
    found: dict[str, str] = {}
    for each in canonical.array(bill.get("components", []), "The bill's components"):
        component = canonical.mapping(each, "A component")
        path = _one(component.get("properties", []), PATH_PROPERTY, key="name", value="value")
        digest = _one(component.get("hashes", []), _SHA256, key="alg", value="content")
        if path in found:
            raise _malformed(f"two components are about {path[:100]}")
        found[path] = canonical.sha256_hex(digest, "A component's digest")
    return found


def require_same_files(untrusted: Any, files: Mapping[str, str]) -> None:
    """Pass when a bill names exactly these files with these digests.

    Args:
        untrusted: The bill.
        files: SHA-256 by path, of all targets below `data/`.

    Raises:
        ExtraFileError: A file is there that the bill does not name.
        MissingFileError: The bill names a file that is not there.
        DigestMismatchError: It names one with another digest.
        MalformedError: It is no bill.
    """
    named = files_of(untrusted)
    for path in sorted(files.keys() - named.keys()):
        raise ExtraFileError(what=f"the bill of materials does not name {path}", why="the release has it", fix=_FIX)
    for path in sorted(named.keys() - files.keys()):
        raise MissingFileError(what=f"the bill of materials names {path}", why="the release lacks it", fix=_FIX)
    for path in sorted(files):
        if not same(named[path], files[path]):
            raise DigestMismatchError(
                what=f"the bill of materials is about another {path}",
                why=f"it says {named[path][:12]}, the release {files[path][:12]}",
                fix=_FIX,
            )


def _one(untrusted: Any, wanted: str, *, key: str, value: str) -> str:
    entries = [canonical.mapping(each, "A component") for each in canonical.array(untrusted, "A component")]
    found = [each.get(value) for each in entries if each.get(key) == wanted]
    if len(found) != 1:
        raise _malformed(f"a component has {len(found)} entries {wanted}")
    return canonical.text(found[0], f"A component's {wanted}")


def _malformed(why: str) -> MalformedError:
    return MalformedError(what="The bill of materials is malformed", why=why, fix=_FIX)
