"""The Python client of a box: for programs on the facility's network, and behind `sealift chat` and `sealift run`."""

from appliance.client.answers import Answer, ToolCall, Usage
from appliance.client.inference import InferenceClient

__all__ = ["Answer", "InferenceClient", "ToolCall", "Usage"]
