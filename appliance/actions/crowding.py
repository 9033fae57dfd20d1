"""What a version on this machine means for a number of people: limits in the site file's words, and what falls short.

The limits are starting points (`appliance.registry.crowds`), never above what the version answers at once in all
engines that the site file asks for; what those answers take of memory is reckoned from the weights' own header.
"""

from dataclasses import dataclass
from typing import Any, Final

from appliance.config import Config
from appliance.install import sitefile
from appliance.registry import memory
from appliance.registry.carriers import carrier
from appliance.registry.catalog import Version
from appliance.registry.crowds import Crowd, crowd
from appliance.registry.descriptor import ModelDescriptor
from appliance.registry.memory import Room
from appliance.store.content import ContentStore, StoredRelease
from media import gguf
from media.errors import SealiftError

_MIB: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class CrowdFacts:
    """A version beside a number of people.

    Attributes:
        asked: What so many people ask for.
        at_once: What the version answers at once, in all engines of production together.
        request_tokens: What one conversation and its answer may have with it.
        needs_bytes: What one engine would take for its share of what is asked; None where that cannot be reckoned.
        room: What engines may take on this machine.
        engines: How many engines of production are alike.
    """

    asked: Crowd
    at_once: int
    request_tokens: int
    needs_bytes: int | None
    room: Room
    engines: int

    @property
    def limits(self) -> dict[str, int]:
        """The keys of the section `limits`: what is asked, as far as this version gives it."""
        found = {**self.asked.limits, "concurrent_requests": min(self.asked.answers_at_once, self.at_once)}
        found["default_max_tokens"] = min(found["default_max_tokens"], max(1, self.request_tokens // 5))
        found["input_tokens"] = min(found["input_tokens"], max(1, self.request_tokens - found["default_max_tokens"]))
        return found

    @property
    def short(self) -> tuple[str, ...]:
        """What falls short of what is asked, in sentences."""
        said, asked = [], self.asked
        each = asked.input_tokens + asked.answer_tokens
        if self.at_once < asked.answers_at_once:
            said.append(
                f"It answers {self.at_once} at once, {asked.answers_at_once} are asked: a version with a larger "
                "`n_seq_max`, more engines (`engines.production.count`) or more machines; until then others wait."
            )
        if self.request_tokens < each:
            said.append(f"A request may have {self.request_tokens} tokens with it, {each} are asked: a larger `n_ctx`.")
        if self.needs_bytes is not None and self.needs_bytes * self.engines > self.room.engines:
            said.append(
                f"A version for all of that would take {self.needs_bytes * self.engines // _MIB} MiB in {self.engines} "
                f"engine{'s' if self.engines > 1 else ''}, and engines may take {self.room.engines // _MIB}."
            )
        return tuple(said)

    @property
    def site_file(self) -> str:
        """The lines for the site file."""
        return sitefile.toml({"limits": self.limits})

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers; memory in bytes."""
        return {
            **self.asked.to_json(),
            "limits": self.limits,
            "version": {"answers_at_once": self.at_once, "request_tokens": self.request_tokens},
            "needs": self.needs_bytes,
            "room": self.room.to_json(),
            "short": list(self.short),
        }


def for_people(config: Config, version: Version, people: int, *, room: Room | None = None) -> CrowdFacts:
    """Return what a version means for so many people.

    Args:
        config: The site file.
        version: As registered.
        people: So many.
        room: What the machine has; asked of the kernel when not given.

    Raises:
        UsageError: Nobody, or too many.
        UnknownVersionError: No stored release brings it any more.
        EngineLoadError: The kernel does not say how much memory there is.
    """
    asked, engines = crowd(people), config.engines.production.count
    stored, descriptor, _ = carrier(ContentStore(config.at.store), version.model_digest)
    return CrowdFacts(
        asked=asked,
        at_once=descriptor.runtime.n_seq_max * engines,
        request_tokens=descriptor.runtime.request_tokens,
        needs_bytes=_needs(stored, descriptor, asked, engines),
        room=memory.room() if room is None else room,
        engines=engines,
    )


def _needs(stored: StoredRelease, descriptor: ModelDescriptor, asked: Crowd, engines: int) -> int | None:
    tokens, answers = (-(-all_of_them // engines) for all_of_them in (asked.tokens, asked.answers_at_once))
    weights = descriptor.gguf
    if weights is None:
        return None
    try:
        header = gguf.read(stored.path_of(weights.path))
        batch = descriptor.runtime.n_batch
        need = memory.need_of_header(header, length=weights.length, n_ctx=tokens, n_batch=batch, answers=answers)
    except (SealiftError, OSError):
        return None
    return (need if descriptor.runtime.attached is not None else memory.with_suspended(need)).total
