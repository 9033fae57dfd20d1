"""Chat templates: programs in Jinja's language that travel with a model and run on every request.

Looked at before they run: no way to another template, to names that start with an underscore, or to the objects of
Jinja that lead to Python's. Then rendered with fixed conversations in an immutable sandbox, in a process of its own
without a network, under caps of time, memory and output; what a user says must come out as it went in.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from bundler.scanning import sandbox
from bundler.scanning.template_child import EXTENSIONS

_CHILD: Final = Path(__file__).with_name("template_child.py")
_PLACE: Final = "/template.jinja"
MAX_BYTES: Final = 256 * 1024
_MAX_NODES: Final = 20_000
_LIMITS: Final = sandbox.Limits(memory=2**30, seconds=10, cpu_seconds=2)
_WAYS_OUT: Final = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
_FILTERS: Final = frozenset({"attr", "pprint", "xmlattr", "urlize"})
_LEADS: Final = frozenset(
    {"cycler", "joiner", "lipsum", "self", "caller", "varargs", "kwargs", "environment", "config"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """What came of a template: how many of the fixed conversations it took, and the digest of all that it wrote."""

    conversations: int
    refused: int
    output_sha256: str


def dangers(untrusted: bytes) -> Iterator[str]:
    """Yield what in a template no chat needs and an attack does; a template that does not parse is one too."""
    try:
        source = untrusted.decode()
        tree = ImmutableSandboxedEnvironment(extensions=EXTENSIONS).parse(source)
    except UnicodeDecodeError:
        yield "it is not UTF-8"
        return
    except jinja2.TemplateSyntaxError as error:
        yield f"it does not parse, line {error.lineno}"
        return
    except RecursionError:
        yield "it is nested too deeply"
        return
    for count, node in enumerate(_walk(tree)):
        if count > _MAX_NODES:
            yield f"it has more than {_MAX_NODES} parts"
            return
        if why := _danger(node):
            yield f"{why}, line {node.lineno}"


def _walk(tree: nodes.Node) -> Iterator[nodes.Node]:
    pending = [tree]
    while pending:
        node = pending.pop()
        yield node
        pending.extend(node.iter_child_nodes())


def _danger(node: nodes.Node) -> str:
    found = ""
    if isinstance(node, _WAYS_OUT):
        found = "it loads another template"
    elif isinstance(node, nodes.Getattr) and node.attr.startswith("_"):
        found = f"it reaches for {node.attr[:40]}"
    elif isinstance(node, nodes.Name) and ((node.name in _LEADS and node.ctx == "load") or node.name.startswith("__")):
        found = f"it reaches for {node.name[:40]}"
    elif isinstance(node, nodes.Filter) and node.name in _FILTERS:
        found = f"it uses the filter {node.name}"
    elif isinstance(node, nodes.Const) and isinstance(node.value, str) and _is_dunder(node.value):
        found = "it spells a name of Python's internals"
    return found


def _is_dunder(text: str) -> bool:
    return text.startswith("__") and text.endswith("__") and len(text) > 4 and text.strip("_").isidentifier()


def render(untrusted: bytes, *, python: Path | None = None) -> Rendered | str:
    """Render a template with the fixed conversations in the sandbox.

    Args:
        untrusted: The template, which `dangers` found nothing in.
        python: An interpreter that can import Jinja; ours if not given.

    Returns:
        What came of it, or why it may not travel.

    Raises:
        ScanError: No sandbox can be made.
    """
    if len(untrusted) > MAX_BYTES:
        return f"it has {len(untrusted)} bytes; the limit is {MAX_BYTES}"
    with TemporaryDirectory(prefix="sl-") as folder:
        path = Path(folder) / "template.jinja"
        path.write_bytes(untrusted)
        path.chmod(0o644)
        ended = sandbox.run(python or Path(sys.executable), _CHILD, [_PLACE], limits=_LIMITS, files={path: _PLACE})
    if ended.is_late or ended.signal_name in {"SIGKILL", "SIGXCPU"}:
        return f"it is still busy after {_LIMITS.cpu_seconds} seconds"
    told = _told(ended.output)
    if ended.code != 0 or told is None:
        return _reason(told, ended)
    return Rendered(conversations=told["taken"], refused=told["refused"], output_sha256=told["sha256"])


def _reason(told: dict[str, Any] | None, ended: sandbox.Ended) -> str:
    if told is not None and isinstance(told.get("why"), str):
        return str(told["why"])[:200]
    return f"rendering ended with code {ended.code}"


def _told(output: str) -> dict[str, Any] | None:
    try:
        value = json.loads(output)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    numbers = isinstance(value.get("taken"), int) and isinstance(value.get("refused"), int)
    return value if "why" in value or (numbers and isinstance(value.get("sha256"), str)) else None
