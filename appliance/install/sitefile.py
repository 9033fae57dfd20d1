"""Writes the site file: what differs from the defaults, so that a person can read it, and nothing else.

Promises: what is written parses to the same configuration; the file is whole or not there; the one before is kept.
"""

import difflib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from appliance import config as configuration
from appliance.config import Config
from appliance.errors import ConfigError
from appliance.install.supervisor import ALL, GATEWAYS
from media import durable

BEFORE: Final = "sealift.toml.before"
_OF_GATEWAYS: Final = frozenset({"limits", "caches", "models", "router", "phi", "cost"})
"""Sections that nobody reads but gateways, the page and metrics."""
_HEADER: Final = "# The site file; docs/operator/site-file.md says what each key means. Secrets are never here.\n"
# A table's own line, the beginning of the next one, and what is said of the kind within it.
_DATABASE: Final = re.compile(r"^[ \t]*\[[ \t]*database[ \t]*\][^\n]*", re.MULTILINE)
_NEXT: Final = re.compile(r"^(?=[ \t]*\[)", re.MULTILINE)
_KIND: Final = re.compile(r"""^([ \t]*)kind[ \t]*=[ \t]*["'][a-z]*["']""", re.MULTILINE)
_ALWAYS: Final = ("format", "site", "environment", "profile")


def render(config: Config) -> str:
    """Return the text of a site file that holds everything of `config` that is not a default."""
    values = config.model_dump()
    defaults = Config(site=config.site).model_dump()
    chosen: dict[str, Any] = {key: values[key] for key in _ALWAYS}
    for name, section in values.items():
        if isinstance(section, dict):
            chosen[name] = {key: value for key, value in section.items() if value != defaults[name][key]}
    return _HEADER + toml(chosen)


def toml(values: Mapping[str, Any]) -> str:
    """Return two levels of texts, numbers, truths and lists as TOML; sections come last, empty ones not at all.

    What is deeper stands on one line: ``production = { "count" = 2 }``.
    """
    lines = [f"{key} = {_value(value)}\n" for key, value in values.items() if not isinstance(value, Mapping)]
    for name, section in values.items():
        if isinstance(section, Mapping) and section:
            lines.append(f"\n[{name}]\n")
            lines += [f"{key} = {_value(value)}\n" for key, value in section.items()]
    return "".join(lines)


def difference(config: Config, path: Path) -> str:
    """Return a unified diff from the site file at `path` to `config`; empty when nothing would change."""
    present = _text(path)
    if present is not None and _means(present) == config:
        return ""
    before = [] if present is None else present.splitlines(keepends=True)
    after = render(config).splitlines(keepends=True)
    return "".join(difflib.unified_diff(before, after, "the site file now", "the site file then", n=1))


def readers(before: bytes, now: bytes) -> str:
    """Return who reads what differs between two site files: nobody (""), those of `GATEWAYS` alone, or `ALL`.

    How many requests may run at once engines read, too, who have a thread for each. Comments and the order of lines
    differ for nobody.
    """
    if before == now:
        return ""
    try:
        one, other = configuration.parse(before).model_dump(), configuration.parse(now).model_dump()
    except ConfigError:  # of a release that knows other keys
        return ALL
    changed = {name for name in one if one[name] != other[name]}
    if one["limits"]["concurrent_requests"] != other["limits"]["concurrent_requests"]:
        return ALL
    return "" if not changed else GATEWAYS if changed <= _OF_GATEWAYS else ALL


def write(config: Config, path: Path) -> bool:
    """Write the site file unless the one there means the same; the old one is kept beside it. Returns whether."""
    present = _text(path)
    if present is not None and _means(present) == config:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    if present is not None:
        durable.replace(path.with_name(BEFORE), present.encode(), mode=0o644)
    durable.replace(path, render(config).encode(), mode=0o644)
    return True


def with_kind(untrusted: bytes, kind: str) -> bytes:
    """Return the site file with another `database.kind`, every other line as a person wrote it.

    Raises:
        ConfigError: It is not a site file, or this cannot be done without touching anything else.
    """
    before = configuration.parse(untrusted)
    if before.database.kind == kind:
        return untrusted
    text = untrusted.decode()
    header = _DATABASE.search(text)
    section = _NEXT.split(text[header.end() :], maxsplit=1)[0] if header else ""
    line = f'kind = "{kind}"'
    if header is None:
        changed = f"{text.rstrip()}\n\n[database]\n{line}\n"
    elif _KIND.search(section):
        end = header.end() + len(section)
        changed = text[: header.end()] + _KIND.sub(rf"\g<1>{line}", section, count=1) + text[end:]
    else:
        changed = f"{text[: header.end()]}\n{line}{text[header.end() :]}"
    wanted = {**before.model_dump(), "database": {**before.database.model_dump(), "kind": kind}}
    try:
        if configuration.parse(changed.encode()).model_dump() == wanted:
            return changed.encode()
        why = "it is written in another way than a line below [database]"
    except ConfigError as error:
        why = error.what
    raise ConfigError(
        what="database.kind cannot be changed in the site file", why=why, fix="see docs/operator/postgresql.md"
    )


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return None


def _means(text: str) -> Config | None:
    try:
        return configuration.parse(text.encode())
    except ConfigError:
        return None


def _value(value: Any) -> str:
    if isinstance(value, str):
        # JSON's escapes are TOML's; DEL is the one character that JSON leaves and TOML forbids.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_value(key)} = {_value(one)}" for key, one in value.items()) + " }"
    return json.dumps(value)
