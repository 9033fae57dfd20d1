"""The pin of a rendered chat template: computed where a release is built, by the renderer of the wheel that travels.

The template is a stranger's program, so it runs as the scan runs it: in a sandbox without network or files, under caps
of time and memory. What does not render there would not at a site; it is then not pinned, and the build says why (the
scan and the site's gate judge it).
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bundler.process import Progress
from bundler.scanning import sandbox
from media import canonical
from media.errors import MediaError

PIN: Final = "rendered_sha256"
_CHILD: Final = Path(__file__).with_name("render_child.py")
_CODE: Final = "/code"
_TEMPLATE: Final = "/template.jinja"
LIMITS: Final = sandbox.Limits(memory=2**30, seconds=20, cpu_seconds=5)


def pin(
    untrusted_template: bytes, code: Path, *, label: str, progress: Progress, limits: sandbox.Limits = LIMITS
) -> dict[str, str]:
    """Return the pin, or nothing where the template does not render.

    Args:
        untrusted_template: The chat template that travels.
        code: Our own wheel that travels, or a checkout.
        label: Names the model in what is said.
        progress: Told why nothing is pinned.
        limits: What rendering may take.

    Raises:
        ScanError: No sandbox can be made.
    """
    # Imports look at the suffix: a wheel is read as an archive.
    place = f"{_CODE}{code.suffix}"
    with TemporaryDirectory(prefix="sl-") as folder:
        path = Path(folder) / "template.jinja"
        path.write_bytes(untrusted_template)
        path.chmod(0o644)
        ended = sandbox.run(
            Path(sys.executable), _CHILD, [place, _TEMPLATE], limits=limits, files={path: _TEMPLATE, code: place}
        )
    found, why = _told(ended)
    if not found:
        progress(f"{label}: the rendered chat template is not pinned: {why}")
        return {}
    return {PIN: found}


def _told(ended: sandbox.Ended) -> tuple[str, str]:
    if ended.is_late or ended.signal_name:
        return "", "it is not done in time, or takes too much memory"
    try:
        told = canonical.mapping(json.loads(ended.output), "the answer")
        if "why" in told:
            return "", canonical.text(told["why"], "the reason")
        return canonical.sha256_hex(told.get("sha256"), "the digest"), ""
    except (ValueError, RecursionError, MediaError):
        return "", f"rendering ended with code {ended.code}"
