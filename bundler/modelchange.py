"""What changed in models, told from headers and descriptors: tensors, runtime, template, prompt. Nothing is loaded."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import PurePosixPath
from typing import Any, Final

from bundler import gguf_header, safetensors_header
from bundler.contents import Contents
from bundler.errors import ScanError

_MODELS: Final = "data/models/"
_HEAD_BYTES: Final = 64 * 2**20
_SHOWN: Final = 8
_SHOWN_LINES: Final = 60
_MISSING: Final = "(none)"

Tensors = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a descriptor or of a header; texts are as they stand there."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChange:
    """What happened to one model.

    Args:
        name: Its folder below data/models/.
        state: added, removed or changed.
        fields: Of the descriptor, and of the weights' header as `header.KEY`.
        added: Tensors that only the newer weights have.
        removed: Tensors that only the older weights have.
        retyped: Tensors of another type or shape.
        tensors: How many there are now; 0 where no header was read.
        template: The chat template's lines that differ, as a unified diff.
        notes: What could not be seen, one sentence each.
    """

    name: str
    state: str
    fields: tuple[Field, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    retyped: tuple[Field, ...] = ()
    tensors: int = 0
    template: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_text(self) -> Iterator[str]:
        """Yield the lines a person reads."""
        yield f"  model {self.name}: {self.state}"
        yield from (f"    {field.name}: {_quoted(field.before)} -> {_quoted(field.after)}" for field in self.fields)
        yield from (f"    template {line}" for line in self.template[:_SHOWN_LINES])
        if len(self.template) > _SHOWN_LINES:
            yield f"    template and {len(self.template) - _SHOWN_LINES} more lines"
        retyped = [f"{field.name} ({field.before} -> {field.after})" for field in self.retyped]
        for verb, names in (("added", self.added), ("removed", self.removed), ("retyped", retyped)):
            if names:
                more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
                yield f"    tensors {verb}: {len(names)}: {', '.join(names[:_SHOWN])}{more}"
        yield from (f"    {note}" for note in self.notes)


def model_changes(before: Contents, after: Contents) -> tuple[ModelChange, ...]:
    """Return every model of which a file came, went or changed."""
    names = sorted(
        {
            PurePosixPath(path).parts[2]
            for path in before.files.keys() | after.files.keys()
            if path.startswith(_MODELS) and before.files.get(path) != after.files.get(path)
        }
    )
    return tuple(_model(name, before, after) for name in names)


def _model(name: str, before: Contents, after: Contents) -> ModelChange:
    old, new = _files(before, name), _files(after, name)
    if not old or not new:
        return ModelChange(name=name, state="removed" if old else "added")
    fields = _descriptor(f"{_MODELS}{name}/descriptor.json", before, after)
    notes: list[str] = []
    if fields is None:
        fields, notes = (
            (),
            ["the descriptors do not lie on both sides, so runtime, template and prompt are not compared"],
        )
    weights = {path for path in old | new if _is_weights(path) and before.files.get(path) != after.files.get(path)}
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    retyped: tuple[Field, ...] = ()
    count = 0
    if weights:
        ours, theirs = _header(before, old, notes), _header(after, new, notes)
        if ours is not None and theirs is not None:
            (keys, first), (newer_keys, second) = ours, theirs
            fields += _compared(keys, newer_keys, prefix="header.")
            added, removed = tuple(sorted(second.keys() - first.keys())), tuple(sorted(first.keys() - second.keys()))
            both = sorted(name for name in first.keys() & second.keys() if first[name] != second[name])
            retyped = tuple(Field(name=each, before=first[each], after=second[each]) for each in both)
            count = len(second)
            if not (added or removed or retyped):
                notes.append(f"the weights changed: the same {count} tensors with the same types, other values")
    return ModelChange(
        name=name,
        state="changed",
        fields=fields,
        added=added,
        removed=removed,
        retyped=retyped,
        tensors=count,
        template=_template(f"{_MODELS}{name}/chat_template.jinja", before, after),
        notes=tuple(notes),
    )


def _files(side: Contents, name: str) -> set[str]:
    return {path for path in side.files if path.startswith(f"{_MODELS}{name}/")}


def _is_weights(path: str) -> bool:
    return path.endswith((".gguf", ".safetensors"))


def _descriptor(path: str, before: Contents, after: Contents) -> tuple[Field, ...] | None:
    if before.files.get(path) == after.files.get(path):
        return ()
    old, new = before.document(path), after.document(path)
    if old is None or new is None:
        return None
    return _compared(dict(_flat(old)), dict(_flat(new)), prefix="")


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each leaf by its dotted name; the digests of files are left out, since files are compared by themselves."""
    for key, each in value.items():
        if not prefix and key == "files":
            continue
        if isinstance(each, dict):
            yield from _flat(each, f"{prefix}{key}.")
        elif isinstance(each, list):
            yield f"{prefix}{key}", "\n".join(str(item) for item in each)
        else:
            yield f"{prefix}{key}", str(each)


def _compared(old: Mapping[str, str], new: Mapping[str, str], *, prefix: str) -> tuple[Field, ...]:
    return tuple(
        Field(name=f"{prefix}{key}", before=old.get(key, _MISSING), after=new.get(key, _MISSING))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    )


def _template(path: str, before: Contents, after: Contents) -> tuple[str, ...]:
    if before.files.get(path) == after.files.get(path):
        return ()
    old, new = before.text(path), after.text(path)
    if old is None or new is None:
        return ()
    lines = unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=1)
    return tuple(line for line in lines if not line.startswith(("---", "+++")))


def _header(side: Contents, paths: set[str], notes: list[str]) -> tuple[dict[str, str], dict[str, str]] | None:
    """Return header keys and tensors (type and shape) of all weight files of a model; None when one is not seen."""
    keys: dict[str, str] = {}
    tensors: dict[str, str] = {}
    for path in sorted(filter(_is_weights, paths)):
        label = f"{PurePosixPath(path).name} of {side.facts['release']}"
        limit = safetensors_header.HEADER_BYTES if path.endswith(".safetensors") else _HEAD_BYTES
        head = side.head(path, limit)
        if head is None:
            notes.append(f"{label} does not lie here, so its tensors are not compared")
            return None
        size = side.files[path].length
        try:
            if path.endswith(".safetensors"):
                found = safetensors_header.tensors(head, size=size)
                tensors |= {name: _typed(kind, shape) for name, (kind, shape) in found.items()}
            else:
                header = gguf_header.parse(head, size=size)
                keys |= {key: str(value) for key, value in header.metadata.items()}
                tensors |= {each.name: _typed(each.type_name, each.shape) for each in header.tensors}
        except ScanError as error:
            notes.append(f"{label} has no header that can be read ({error.why}), so its tensors are not compared")
            return None
    return keys, tensors


def _typed(kind: str, shape: tuple[int, ...]) -> str:
    return f"{kind} {'x'.join(map(str, shape)) or 'scalar'}"


def _quoted(text: str) -> str:
    if text == _MISSING:
        return text
    shown = text if len(text) <= 200 else f"{text[:200]}…"
    return repr(shown) if "\n" in shown or " " in shown or not shown else shown
