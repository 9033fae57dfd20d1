"""Reference outputs: what the weights that a version was quantized from said to the same tasks (docs/format.md, REF).

They were computed where the release was built, with the engine that it ships, and travel as targets like all else. A
release names them, or says in words why there are none; both are read here and nothing is judged.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from appliance.registry.carriers import by_digest
from appliance.registry.descriptor import ModelDescriptor
from appliance.store.content import StoredRelease
from media import canonical
from media.errors import MalformedError

FORMAT: Final = 1
MAX_BYTES: Final = 128 * 2**20
_MAX_LINE: Final = 512 * 1024
_MAX_TEXT: Final = 65_536
_MAX_CHOICES: Final = 26
_MAX_NATS: Final = 10**12  # thousandths
MULTIPLE_CHOICE: Final = "multiple-choice"
CONTAINS: Final = "contains"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceItem:
    """What the parent said to one task: thousandths of a nat for each choice, or the text of its answer."""

    id: str
    kind: str
    prompt_sha256: str
    millinats: tuple[int, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One task set's reference."""

    name: str
    eval_sha256: str
    parent_sha256: str
    engine: str
    engine_sha256: str
    items: tuple[ReferenceItem, ...]

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Parse a reference file.

        Raises:
            MalformedError: A line breaks the format.
            LimitExceededError: A line is too long.
        """
        if len(untrusted) > MAX_BYTES or not untrusted.endswith(b"\n"):
            raise _malformed(f"it has more than {MAX_BYTES} bytes, or its last line does not end")
        lines = [canonical.loads_canonical(line, max_bytes=_MAX_LINE) for line in untrusted[:-1].split(b"\n")]
        header = canonical.exact_keys(
            lines[0],
            (
                "format", "name", "eval_sha256", "parent_sha256", "parent_types", "engine", "engine_sha256", "method",
                "temperature", "seed", "max_tokens", "template_sha256", "system_prompt_sha256",
            ),
            what="the header of a reference",
        )  # fmt: skip
        canonical.integer(header["format"], "format", minimum=FORMAT, maximum=FORMAT)
        items = tuple(_item(line) for line in lines[1:])
        if not items or len({item.id for item in items}) != len(items):
            raise _malformed("it has no item, or an id twice")
        return cls(
            name=canonical.text(header["name"], "name", most=63),
            eval_sha256=canonical.sha256_hex(header["eval_sha256"], "eval_sha256"),
            parent_sha256=canonical.sha256_hex(header["parent_sha256"], "parent_sha256"),
            engine=canonical.text(header["engine"], "engine"),
            engine_sha256=canonical.sha256_hex(header["engine_sha256"], "engine_sha256"),
            items=items,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a release says of one task set: where its reference lies, or why there is none."""

    path: str = ""
    not_made: str = ""


def declared(stored: StoredRelease, descriptor: ModelDescriptor) -> Mapping[str, Declared]:
    """Return what a release says of the references for a version, by the path of the task set.

    Raises:
        MalformedError: Its `release.json` is not of the known shape.
        StoreDamagedError: It is not what was signed.
    """
    for digest, model in by_digest(stored):
        if digest == descriptor.model_digest:
            found = canonical.array(model.get("references", []), "release.json.models.references")
            return dict(_declared(each) for each in found)
    return {}


def _declared(untrusted: Any) -> tuple[str, Declared]:
    entry = canonical.exact_keys(untrusted, ("eval",), ("path", "not_made"), "a reference")
    if ("path" in entry) == ("not_made" in entry):
        raise _malformed("it has a path or says why it was not made, not both")
    return canonical.text(entry["eval"], "eval"), Declared(
        path=canonical.text(entry.get("path", ""), "path", may_be_empty=True),
        not_made=canonical.text(entry.get("not_made", ""), "not_made", may_be_empty=True),
    )


def _item(untrusted: Any) -> ReferenceItem:
    fields = canonical.exact_keys(
        untrusted, ("id", "kind", "prompt_sha256"), ("millinats", "text", "text_sha256"), "an item of a reference"
    )
    kind = canonical.one_of(fields["kind"], (MULTIPLE_CHOICE, CONTAINS), "kind")
    found = canonical.array(fields.get("millinats", []), "millinats", most=_MAX_CHOICES)
    millinats = tuple(canonical.integer(each, "millinats", minimum=-_MAX_NATS) for each in found)
    if (kind == MULTIPLE_CHOICE) != (len(millinats) > 1) or (kind == CONTAINS) != ("text" in fields):
        raise _malformed("a multiple-choice item has likelihoods, the other kind a text")
    return ReferenceItem(
        id=canonical.text(fields["id"], "id", most=63),
        kind=kind,
        prompt_sha256=canonical.sha256_hex(fields["prompt_sha256"], "prompt_sha256"),
        millinats=millinats,
        text=_text(fields.get("text", "")),
    )


def _text(untrusted: Any) -> str:
    # What a model wrote may hold any character that JSON can carry; it is compared and never shown.
    if not isinstance(untrusted, str) or len(untrusted) > _MAX_TEXT:
        raise _malformed("a text is too long, or none")
    return untrusted


def _malformed(why: str) -> MalformedError:
    return MalformedError(
        what="the reference outputs of a version are malformed", why=why, fix="ask the sender for a correct release"
    )
