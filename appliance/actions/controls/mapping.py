"""The map itself, one versioned data file: frameworks, claims, and which claims answer which control.

A claim is one thing that Sealift does, with the tests that show it (their node ids; an architecture test looks that
they exist) and the names of the questions that `live` asks of a box. A control names claims, and what software alone
cannot claim. Titles of NIST's controls are NIST's own, with words of ours in brackets; others are shortened in our
words.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

from media import canonical

FORMAT: Final = 1
FILE: Final = "map_v1.json"
_MAX_BYTES: Final = 512 * 1024
_MOST: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """A law or a standard in one version; `alone` is what no program can do about it."""

    id: str
    name: str
    version: str
    alone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One thing that is done, tests that show it, and questions that a box answers."""

    id: str
    does: str
    tests: tuple[str, ...]
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What a framework asks; `alone` is what people have to do besides, empty for nothing."""

    framework: str
    id: str
    title: str
    claims: tuple[str, ...]
    alone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlMap:
    """The whole map."""

    frameworks: Mapping[str, Framework]
    claims: Mapping[str, Claim]
    controls: tuple[Control, ...]

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> "ControlMap":
        """Parse the file.

        Raises:
            MalformedError: It is of another format, or names what it does not hold.
        """
        fields = canonical.exact_keys(
            canonical.loads(untrusted, max_bytes=_MAX_BYTES), ("format", "frameworks", "claims", "controls"), what=FILE
        )
        canonical.integer(fields["format"], "map.format", minimum=FORMAT, maximum=FORMAT)
        frameworks = {
            name: Framework(id=name, **_texts(one, ("name", "version", "alone"), f"map.frameworks.{name}"))
            for name, one in canonical.mapping(fields["frameworks"], "map.frameworks").items()
        }
        claims = {name: _claim(name, one) for name, one in canonical.mapping(fields["claims"], "map.claims").items()}
        controls = tuple(
            _control(one, frameworks, claims) for one in canonical.array(fields["controls"], "map.controls", most=_MOST)
        )
        return cls(frameworks=frameworks, claims=claims, controls=controls)


@cache
def packaged() -> ControlMap:
    """Return the map that came with this program."""
    return ControlMap.from_bytes(resources.files(__package__).joinpath(FILE).read_bytes())


def _claim(name: str, untrusted: Any) -> Claim:
    fields = canonical.exact_keys(untrusted, ("does", "tests", "evidence"), what=f"map.claims.{name}")
    return Claim(
        id=name,
        does=canonical.text(fields["does"], "claim.does"),
        tests=_list(fields["tests"], "claim.tests"),
        evidence=_list(fields["evidence"], "claim.evidence"),
    )


def _control(untrusted: Any, frameworks: Mapping[str, Framework], claims: Mapping[str, Claim]) -> Control:
    fields = canonical.exact_keys(untrusted, ("framework", "id", "title", "claims", "alone"), what="map.controls")
    return Control(
        framework=canonical.one_of(fields["framework"], frameworks, "control.framework"),
        id=canonical.text(fields["id"], "control.id"),
        title=canonical.text(fields["title"], "control.title"),
        claims=tuple(canonical.one_of(one, claims, "control.claims") for one in _list(fields["claims"], "claims")),
        alone=canonical.text(fields["alone"], "control.alone", may_be_empty=True),
    )


def _texts(untrusted: Any, names: tuple[str, ...], what: str) -> dict[str, str]:
    fields = canonical.exact_keys(untrusted, names, what=what)
    return {name: canonical.text(fields[name], f"{what}.{name}") for name in names}


def _list(untrusted: Any, what: str) -> tuple[str, ...]:
    return tuple(canonical.text(one, what) for one in canonical.array(untrusted, what, most=_MOST))
