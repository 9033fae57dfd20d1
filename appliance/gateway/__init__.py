"""The OpenAI-compatible front: authenticates, limits, protects identifiers, records, relays to the promoted engine."""

from appliance.gateway.application import create_app

__all__ = ["create_app"]
