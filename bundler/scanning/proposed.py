"""Allowances to paste into a recipe, one for each wheel and rule, bound to the wheel's digest; people add the reason.

A large environment, such as vLLM's, brings hundreds of findings of a few kinds: pickled test data here, a program for
another interpreter there. Whoever writes the recipe looks at each kind in each file, and says once why it may travel.
The digest makes the allowance end with the version that was looked at. The reason is left empty, which a recipe
refuses, so nothing is allowed by pasting alone.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from bundler.artifact import Artifact
from bundler.scanning.findings import Finding
from bundler.scanning.report import MALFORMED

_SHOWN: Final = 3
_HEAD: Final = """\
# Findings that nobody has allowed yet. Look at each; say in `reason` who looked and why it may travel; or take the file
# out. Then paste what stays into the recipe. The digest binds each to the very file that was looked at.
"""


def proposals(refused: Sequence[Finding], artifacts: Sequence[Artifact]) -> str:
    """Return TOML with a `[[scan.allowed]]` for each file and rule that was refused; malformed files are only named."""
    digests = {artifact.target: artifact.sha256 for artifact in artifacts}
    found: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for each in refused:
        found[each.path.partition("!")[0], each.rule].append(each)
    blocks = [_HEAD]
    for (target, rule), members in sorted(found.items()):
        said = "".join(f"#   {line}\n" for line in _shown(members, target))
        count = f"{len(members)} finding{'s' if len(members) > 1 else ''}"
        if rule == MALFORMED:
            blocks.append(f"# {target}: {count} that nobody can allow\n{said}")
            continue
        sha256 = digests.get(target)
        bound = f'sha256 = "{sha256}"\n' if sha256 else ""
        blocks.append(
            f'# {count}\n{said}[[scan.allowed]]\npath = "{_pattern(target)}*"\nrule = "{rule}"\n{bound}reason = ""\n'
        )
    return "\n".join(blocks)


def _shown(members: Sequence[Finding], target: str) -> Iterator[str]:
    for each in members[:_SHOWN]:
        yield f"{each.path.removeprefix(target).removeprefix('!') or target}: {each.detail}"
    if len(members) > _SHOWN:
        yield f"and {len(members) - _SHOWN} more"


def _pattern(target: str) -> str:
    """Return the name as a pattern that matches nothing else (fnmatch)."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in target)
