"""Counts tokens in the launcher, from the version's own `tokenizer.json`, for peers that cannot do it as we need it.

The file is data: the library `tokenizers` of the engine's environment reads it, and no code that travels with weights
is ever run. A text of a user is taken apart by the vocabulary's own model with every added token left out, so that no
name of a control token is found in it; what is ours, by the whole file.
"""

import importlib
import json
from collections.abc import Sequence
from typing import Any, Final

from appliance.errors import EngineLoadError
from appliance.serve.asking import RefusedError
from media.attachedprofile import TOKENIZER

SETTINGS: Final = "tokenizer_config.json"
"""Names the tokens that begin and end a sequence, where a version brings it."""
_MODELS: Final = frozenset({"BPE"})
"""Of these it is known that a text becomes no token but by merging its bytes; others look names up in the text."""


class LocalTokens:
    """A vocabulary; safe for threads.

    Args:
        source: The text of a `tokenizer.json`.

    Raises:
        EngineLoadError: It cannot be read here as its engine would read it.
    """

    def __init__(self, source: str) -> None:
        fields = _fields(source)
        added = _added(fields)
        self._whole = _opened(fields, added)
        self._plain = _opened(fields, [])
        for one in added:
            if self._whole.token_to_id(one["content"]) != one["id"]:
                raise _unusable("an added token would have another number than the file says")
        unknown = fields["model"].get("unk_token")
        self._controls = frozenset(one["id"] for one in added if one.get("special") and one["content"] != unknown)
        self.names = {int(one["id"]): str(one["content"]) for one in added}
        """The added tokens' numbers, each with the name that it is found by in a text."""
        self.named = frozenset(self.names)
        self.vocabulary_tokens = int(self._whole.get_vocab_size())
        self.opening = _put_before(fields.get("post_processor"))

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Return the tokens of `text`; control tokens are recognised only when `special`.

        Raises:
            RefusedError: It is of characters that the vocabulary lacks, or would become a control token nonetheless.
        """
        kept = text.encode(errors="replace").decode()  # halves of surrogate pairs are no text
        try:
            found = [
                int(one) for one in (self._whole if special else self._plain).encode(kept, add_special_tokens=False).ids
            ]
        except Exception as error:  # the library raises no narrower one
            raise RefusedError("invalid_value", "a text is not of this vocabulary") from error
        if not special and not self._controls.isdisjoint(found):
            raise RefusedError("invalid_value", "a text would become a control token")
        return found

    def text_of(self, token: int) -> str | None:
        """Return the text of one token; None for a control token, and for one that is no whole letter."""
        if token in self._controls:
            return None
        found = str(self._whole.decode([token], skip_special_tokens=False))
        return None if "\ufffd" in found else found

    def is_control(self, token: int) -> bool:
        """Tell whether a token is a control token."""
        return token in self._controls

    def text_for(self, tokens: Sequence[int]) -> str | None:
        """Return the text of which the model's own tokenizer makes these very tokens; None where there is none.

        There is none where somebody's text holds the name of a control token, which would be found in it.

        Raises:
            RefusedError: They are no tokens of the vocabulary.
        """
        try:
            text = str(self._whole.decode(list(tokens), skip_special_tokens=False))
            found = self._whole.encode(text, add_special_tokens=False).ids
        except Exception as error:  # the library raises no narrower one
            raise RefusedError("invalid_value", "a text is not of this vocabulary") from error
        return text if found == list(tokens) else None


def _fields(source: str) -> dict[str, Any]:
    try:
        fields = json.loads(source)
        kind = fields["model"]["type"]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise _unusable(f"it is no tokenizer ({type(error).__name__})") from error
    if kind not in _MODELS:
        raise _unusable(f"its model is {str(kind)[:20]!a}; known are {', '.join(sorted(_MODELS))}")
    return dict(fields)


def _added(fields: dict[str, Any]) -> list[dict[str, Any]]:
    added = fields.get("added_tokens")
    if not isinstance(added, list) or not all(
        isinstance(one, dict) and isinstance(one.get("content"), str) and type(one.get("id")) is int for one in added
    ):
        raise _unusable("it does not name its added tokens")
    return added


def _put_before(untrusted: object) -> tuple[int, ...]:
    """Return the tokens that a post-processor of the library puts before a text."""
    fields = untrusted if isinstance(untrusted, dict) else {}
    if fields.get("type") == "Sequence":
        return tuple(token for one in fields.get("processors") or () for token in _put_before(one))
    if fields.get("type") != "TemplateProcessing":
        return ()
    found: list[int] = []
    try:
        for one in fields["single"]:
            if "SpecialToken" not in one:
                break
            found += [int(token) for token in fields["special_tokens"][one["SpecialToken"]["id"]]["ids"]]
    except (KeyError, TypeError, ValueError) as error:
        raise _unusable(f"what it puts before a text cannot be read ({type(error).__name__})") from error
    return tuple(found)


def ends_of(source: str) -> tuple[str, str]:
    """Return the texts of the tokens that begin and end a sequence, from a `tokenizer_config.json`; empty for none.

    Raises:
        EngineLoadError: It is none.
    """
    try:
        fields = json.loads(source)
        found = [fields.get(name) or "" for name in ("bos_token", "eos_token")]
        start, end = (one if isinstance(one, str) else one["content"] for one in found)
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
        raise _unusable(f"its settings name no token that begins or ends ({type(error).__name__})") from error
    return str(start), str(end)


def _opened(fields: dict[str, Any], added: list[dict[str, Any]]) -> Any:
    try:
        library = importlib.import_module("tokenizers")  # it is in the engine's own environment alone
    except ImportError as error:
        raise EngineLoadError(
            what="the engine's environment has no tokenizers",
            why="this dialect's tokens are counted in the launcher",
            fix="ask the sender for a release whose locks.engine-attached has tokenizers",
        ) from error
    # Nothing is cut, filled up or put around a text: the template says what a prompt is.
    plain = {**fields, "added_tokens": added, "truncation": None, "padding": None, "post_processor": None}
    try:
        return library.Tokenizer.from_str(json.dumps(plain))
    except Exception as error:  # the library raises no narrower one
        raise _unusable("the library tokenizers cannot read it") from error


def _unusable(why: str) -> EngineLoadError:
    return EngineLoadError(
        what=f"tokens cannot be counted from the version's {TOKENIZER}", why=why, fix="choose another version"
    )
