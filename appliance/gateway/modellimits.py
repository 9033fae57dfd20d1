"""How long a request may be for the model that answers it: read by the widest limits, judged by its own (X20).

A request names its model in many ways, so which limits hold is known only once it was routed.
"""

from dataclasses import replace

from appliance.gateway.messages import require_short
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
        require_short(message.content or "", param=f"messages[{at}].content", max_characters=limits.message_characters)
        for call in message.tool_calls:
            require_short(call.arguments, param=f"messages[{at}].tool_calls", max_characters=limits.message_characters)
    for prompt in asked.prompts:
        require_short(prompt, param="prompt", max_characters=limits.message_characters)
    if asked.max_tokens <= limits.max_tokens:
        return asked
    if asked.names_length and not asked.is_unbounded:
        raise invalid(asked.length_param, f"A whole number from 1 to {limits.max_tokens}.")
    return replace(asked, max_tokens=limits.max_tokens)
