"""The name of an engine's unit instance, read."""

import re
from dataclasses import dataclass
from typing import Final

from appliance.errors import EngineLoadError

_INSTANCE: Final = re.compile(r"(?:(test)-([0-9a-f]{12})|(production)-([0-9a-f]{12})(?:-([2-9]|cpu|standby))?)")
_ON_PROCESSOR: Final = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """Which version serves in which stage, from a unit's instance name ``STAGE-DIGEST12``.

    In production a version may have several engines: ``production-DIGEST12-2`` and on, ``…-cpu``, ``…-standby``.
    """

    stage: str
    digest_prefix: str
    which: str = ""

    @property
    def is_on_processor(self) -> bool:
        """Whether it is a GPU version's engine for overflow, which has no layer on a GPU."""
        return self.which == _ON_PROCESSOR

    @classmethod
    def parse(cls, untrusted: str) -> "Instance":
        """Read an instance name.

        Raises:
            EngineLoadError: It is not of that form.
        """
        found = _INSTANCE.fullmatch(untrusted)
        if found is None:
            raise EngineLoadError(
                what="the instance name is wrong", why="expected STAGE-DIGEST12", fix="use `sealift promote`"
            )
        return cls(stage=found[1] or found[3], digest_prefix=found[2] or found[4], which=found[5] or "")
