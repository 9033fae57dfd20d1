"""Every chat template of a payload, wherever it hides: files of its own, tokenizer configurations, GGUF metadata.

What an engine will run is looked at and rendered. What no engine of ours runs (a template inside a GGUF file, which was
taken out and pinned) is only looked at, and named where it differs from the pinned one.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from bundler.artifact import Artifact
from bundler.gguf_header import read as read_gguf
from bundler.scanning import templates
from bundler.scanning.findings import LISTED, Finding, Tally, finding
from bundler.scanning.templates import Rendered
from media.canonical import loads
from media.errors import MediaError

_MAX_JSON = 64 * 2**20


def check(artifacts: Sequence[Artifact], tally: Tally, rendered: list[dict[str, Any]]) -> Iterator[Finding]:
    """Yield what is found in templates, and append to `rendered` what the scan statement says of each.

    Raises:
        ScanError: No sandbox can be made, or a GGUF header is malformed.
    """
    pinned = {
        str(PurePosixPath(artifact.target).parent): artifact.sha256
        for artifact in artifacts
        if PurePosixPath(artifact.target).name == "chat_template.jinja"
    }
    for artifact in artifacts:
        path = PurePosixPath(artifact.target)
        if artifact.kind == "model" and path.suffix == ".jinja":
            yield from _run(artifact, "", artifact.read(), tally, rendered)
        elif artifact.kind == "model" and path.suffix == ".json" and "token" in path.name:
            for name, source in _configured(artifact):
                yield from _run(artifact, name, source, tally, rendered)
        elif artifact.kind == "weights" and path.suffix == ".gguf" and artifact.file is not None:
            yield from _carried(artifact, pinned.get(str(path.parent), ""), tally)


def _run(
    artifact: Artifact, member: str, source: bytes, tally: Tally, rendered: list[dict[str, Any]]
) -> Iterator[Finding]:
    tally.add("template")
    dangers = list(templates.dangers(source))
    for why in dangers:
        yield finding(artifact, "template", why, member)
    if dangers:
        return
    outcome = templates.render(source)
    if not isinstance(outcome, Rendered):
        yield finding(artifact, "template", outcome, member)
        return
    rendered.append(
        {
            "path": f"{artifact.target}!{member}" if member else artifact.target,
            "sha256": hashlib.sha256(source).hexdigest(),
            "conversations": outcome.conversations,
            "refused": outcome.refused,
            "output_sha256": outcome.output_sha256,
        }
    )


def _configured(artifact: Artifact) -> Iterator[tuple[str, bytes]]:
    """Yield name and source of each template in a tokenizer's configuration."""
    try:
        config = loads(artifact.read(), max_bytes=_MAX_JSON, allow_floats=True)
    except MediaError:
        return  # `models.beside` says so
    found = config.get("chat_template") if isinstance(config, dict) else None
    named = [{"name": "chat_template", "template": found}] if isinstance(found, str) else found
    for entry in named if isinstance(named, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("template"), str):
            yield ascii(entry.get("name", ""))[:60].strip("'"), entry["template"].encode(errors="surrogatepass")


def _carried(artifact: Artifact, pinned: str, tally: Tally) -> Iterator[Finding]:
    if artifact.file is None:
        return
    header = read_gguf(artifact.file)
    for key, value in header.metadata.items():
        if not key.startswith("tokenizer.chat_template") or not isinstance(value, str):
            continue
        tally.add("template")
        source = value.encode()
        for why in templates.dangers(source):
            yield finding(artifact, "template", why, key)
        digest = hashlib.sha256(source).hexdigest()
        if pinned and digest != pinned:
            detail = f"the weights carry another template, sha256 {digest[:12]}, which no engine of ours runs"
            yield finding(artifact, "template", detail, key, reason=LISTED)
