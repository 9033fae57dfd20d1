"""What lies beside the trust record: first roots as people pinned them, every root and note that it came to believe.

Nothing read here is believed for lying there: a root is verified from the pinned one on, a note by the root of its day.
"""

import re
from pathlib import Path
from typing import Final

from media import canonical, durable
from media.digest import sha256_hex
from media.errors import MediaError, NoTrustError

PINNED_ROOT: Final = "1.root.json"
ROOTS: Final = "roots"
NOTES: Final = "notes"
FORMER: Final = "former"
ROOT_CHARS: Final = 4 * 2**20
NOTE_CHARS: Final = 2**16
_LATER = re.compile(r"first-root-([1-9][0-9]{0,3})\.json")


def pinned_name(epoch: int) -> str:
    """Return the file of a pinned first root; a later epoch began when two people replaced a lost one."""
    return PINNED_ROOT if epoch == 1 else f"first-root-{epoch}.json"


def epoch_of(pinned: Path) -> int:
    """Return the newest epoch that was pinned; 1 where nothing was."""
    names = [match for path in pinned.glob("first-root-*.json") if (match := _LATER.fullmatch(path.name))]
    return max((int(match[1]) for match in names), default=1)


def pinned_root(pinned: Path) -> str:
    """Return the text of the pinned first root, of the newest epoch.

    Raises:
        NoTrustError: None is pinned, or it does not read.
    """
    try:
        return (pinned / pinned_name(epoch_of(pinned))).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NoTrustError(
            what="no root is pinned on this machine",
            why="first trust was not given",
            fix="run the bootstrap from a checked copy, or `sealift trust pin` where two people type the code",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise NoTrustError(
            what="the pinned root cannot be read", why=type(error).__name__, fix="check the file with root's rights"
        ) from error


def keep(trust: Path, chain: tuple[str, ...], notes: tuple[str, ...], former: tuple[tuple[str, ...], ...]) -> None:
    """Lay down what a record is about to believe, each in a file of its own.

    Raises:
        OSError: The file system refuses.
    """
    (trust / ROOTS).mkdir(parents=True, exist_ok=True, mode=0o755)
    for version, root in enumerate(chain[1:], start=2):
        if kept_root(trust, version) != root.encode():
            durable.replace(_root_file(trust, version), root.encode(), mode=0o644)
    for note in notes:
        _keep_new(trust / NOTES / f"{sha256_hex(note.encode())[:16]}.note.json", note.encode())
    for epoch, ended in enumerate(former, start=1):
        _keep_new(trust / FORMER / f"{epoch}.json", canonical.dumps(list(ended)))


def kept_root(trust: Path, version: int) -> bytes | None:
    """Return the root of this version that was once believed here, to be verified again; None when there is none."""
    return _read(_root_file(trust, version), ROOT_CHARS)


def kept_notes(trust: Path) -> tuple[bytes, ...]:
    """Return the emergency notes that were once accepted here, to be verified again."""
    read = (_read(path, NOTE_CHARS) for path in sorted((trust / NOTES).glob("*.note.json")))
    return tuple(note for note in read if note is not None)


def kept_former(trust: Path) -> tuple[tuple[str, ...], ...]:
    """Return the chains that were replaced, the first epoch first, to be verified again; what does not read is lost."""
    found = []
    for epoch in range(1, 10_000):
        untrusted = _read(trust / FORMER / f"{epoch}.json", 16 * ROOT_CHARS)
        if untrusted is None:
            break
        try:
            texts = canonical.array(canonical.loads(untrusted, max_bytes=16 * ROOT_CHARS), "A former chain", most=1024)
            found.append(tuple(canonical.text(each, "A former chain", most=ROOT_CHARS, lines=True) for each in texts))
        except MediaError:
            break
    return tuple(found)


def _keep_new(path: Path, data: bytes) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        durable.replace(path, data, mode=0o644)


def _root_file(trust: Path, version: int) -> Path:
    return trust / ROOTS / f"{version}.root.json"


def _read(path: Path, most: int) -> bytes | None:
    try:
        with path.open("rb") as stream:
            return stream.read(most + 1)
    except OSError:
        return None
