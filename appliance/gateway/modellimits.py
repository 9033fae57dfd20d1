"""How long a request may be for the model that answers it: read by the widest limits, judged by its own (X20).

A request names its model in many ways, so which limits hold is known only once it was routed.
"""

from dataclasses import replace

from appliance.gateway.parameters import Asked
from appliance.gateway.problems import invalid
from appliance.sections import LimitsSection


def within(asked: Asked, limits: LimitsSection) -> Asked:
    """Return the request with a length that the model's limits allow.

    Args:
        asked: As it was read.
        limits: Those of the model that answers.

    Raises:
        Problem: A message, or the length that it names, is above them; `param` says which.
    """
    for at, message in enumerate(asked.messages):
        _require_short(message.content or "", f"messages[{at}].content", limits)
    _require_short(asked.prompt, "prompt", limits)
    if asked.max_tokens <= limits.max_tokens:
        return asked
    if asked.names_length and not asked.is_unbounded:
        raise invalid("max_tokens", f"A whole number from 1 to {limits.max_tokens}.")
    return replace(asked, max_tokens=limits.max_tokens)


def _require_short(text: str, param: str, limits: LimitsSection) -> None:
    if len(text) > limits.message_characters:
        raise invalid(param, f"At most {limits.message_characters} characters.", code="string_above_max_length")
