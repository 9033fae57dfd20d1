"""What doctor asks of the token that holds the box's keys: does it answer, does it hold every key, and what helps.

What helps depends on what is gone. A name that came with a release is made. The key that signs for the ledger is not
made anew where records lie: the first of them names the old one, and only the token that has it, or a restore, goes on.
"""

import os
from pathlib import Path
from typing import Final

from appliance.actions.findings import Finding
from appliance.audit.rotating import KEY_NAME
from appliance.config import Config
from appliance.errors import KeyMissingError
from appliance.keys.opening import PIN, KeyStore, memory_of, shared_of
from appliance.keys.provider import PURPOSES
from appliance.keys.tokenfolder import closed_to, opening

_FIRST: Final = "as root: `sealift install`, which makes the keys on it (docs/operator/keys.md, PKCS#11)"
_MAKE: Final = (
    "as root: `sealift box-keys complete` makes them; then `systemctl restart sealift.target`"
    " (docs/operator/keys.md, PKCS#11)"
)
_OTHER: Final = (
    "put in the token that holds them, or the maker's clone of it; where it is lost, or the keys were files before,"
    " restore the newest backup onto this one: `sealift backup restore FILE --replace` (docs/operator/backup.md)"
)


def finding(config: Config, keys: KeyStore) -> Finding:
    """Tell whether the token holds every key; who may not read its PIN cannot know.

    Args:
        config: The site file, which chooses a token.
        keys: The token; it is closed.
    """
    folder = config.at.key_files
    if not os.access(folder, os.X_OK) and folder.exists():
        return Finding(name="token", is_good=None, text="only root can ask it", fix="run it as root")
    if not (folder / PIN).exists():
        return Finding(
            name="token",
            is_good=False,
            text="its PIN was not placed",
            why="without it no unit opens the token",
            fix="as root: `sealift box-keys pin`",
        )
    try:
        missing = [name for name in PURPOSES if not keys.versions(name)]
        if missing and (token := memory_of(keys)) is not None:
            token.require_fit()  # one that cannot keep them is not helped by making them
    except KeyMissingError as error:
        return Finding(name="token", is_good=False, text=error.what, why=error.why, fix=error.fix)
    finally:
        keys.close()
    if not missing and (shared := shared_of(config)) and (said := _closed(config, *shared)):
        return said
    if not missing:
        return Finding(name="token", is_good=True, text=f"{config.keys.token} holds every key")
    why, fix = _helps(missing, is_installed=config.at.current.exists())
    text = f"{config.keys.token} does not hold {', '.join(missing)}"
    return Finding(name="token", is_good=False, text=text, why=why, fix=fix)


def _closed(config: Config, folder: Path, group: str) -> Finding | None:
    """Say what keeps the services' group from the token's files; None where nothing does."""
    token = config.keys.token
    try:
        closed = closed_to(folder, group, token)
    except KeyError:
        text, fix = f"there is no group {group}", "name one in keys.group"
    except OSError as error:
        text, fix = f"whether {group} may read its files cannot be told: {error.strerror}", f"look at {folder} as root"
    else:
        if not closed:
            return None
        text = f"{len(closed)} of its files are not for the group {group}"
        fix = f"as root: {opening([path.parent for path in closed], group, below=folder)}"
    return Finding(
        name="token",
        is_good=False,
        text=f"{token} holds every key; {text}",
        why="a service sees no version whose file it may not read, and goes on with the one before",
        fix=f"{fix}; then `systemctl restart sealift.target`",
    )


def _helps(missing: list[str], *, is_installed: bool) -> tuple[str, str]:
    """Return why keys that lack matter, and what helps."""
    if not is_installed:
        return "no release is installed yet", _FIRST
    if KEY_NAME in missing:
        return "this box has records, whose first names the key that signs; the ledger refuses another one", _OTHER
    return "they are new with this release, or were taken off it: what such a one made does not open again", _MAKE
