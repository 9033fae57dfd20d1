"""The section of the site file about names of its own for models: what a client with a fixed model name asks for."""

import re
from typing import Final, Self

from pydantic import Field, model_validator

from appliance.sections import Section
from appliance.stages import Stage

PRODUCTION: Final = "production"
RESERVED: Final = frozenset({PRODUCTION, "previous", "candidate", "auto", Stage.TEST.value})
"""Names that mean something everywhere, so that no site says otherwise."""
_ALIAS: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,99}", re.ASCII)
_MODEL: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)
_LATEST: Final = ":latest"


class ModelsSection(Section):
    """What callers may call models besides their own names.

    `aliases` are such names, and for each what it means: `production`, or the name of a model in production. A model
    that is served under its own name is never hidden by one.
    """

    aliases: dict[str, str] = Field(default={}, max_length=64)

    @model_validator(mode="after")
    def _each_is_a_name_of_its_own(self) -> Self:
        for alias, meant in self.aliases.items():
            if why := self._why_not(alias, meant):
                message = f"the alias {alias[:100]!r} {why}"
                raise ValueError(message)
        return self

    def taken_by(self, name: str) -> str:
        """Return what changes for callers where a model of this name serves; empty where no alias has it."""
        if name not in self.aliases:
            return ""
        return (
            f"The site file has {name} in models.aliases, where it means {self.aliases[name]}: while a model of that"
            " name serves, callers who ask for it get the model."
        )

    def _why_not(self, alias: str, meant: str) -> str:
        if not _ALIAS.fullmatch(alias):
            return "is none: at most 100 letters, digits and ._:/@+-, the first a letter or digit"
        if alias in RESERVED:
            return "means something already"
        if alias.endswith(_LATEST):
            return f"is asked for without {_LATEST}, which Ollama's clients add to every name"
        if alias in self.aliases.values():
            return "is the name of a model that another alias means, and would hide it"
        if meant != PRODUCTION and (meant in RESERVED or not _MODEL.fullmatch(meant)):
            return f"means {meant[:100]!r}: expected {PRODUCTION}, or the name of a model"
        return ""
