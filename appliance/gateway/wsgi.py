"""What gunicorn loads: the gateway with its real collaborators."""

from flask import Flask

from appliance.audit.client import SocketLedger
from appliance.audit.rights import GATEWAY, TEST_GATEWAY
from appliance.gateway import logs
from appliance.gateway.application import create_app
from appliance.gateway.auth import StateApiKeys
from appliance.gateway.metrics import Metrics
from appliance.gateway.routing import StateRoutes
from appliance.gateway.settings import load_config
from appliance.gateway.stageroutes import StageRoutes
from appliance.keys.opening import open_keys
from appliance.registry import gpufigures
from appliance.registry.gpus import open_reader
from appliance.registry.router import ALIAS
from appliance.stages import Stage
from appliance.timekeeping.believed import BelievedClock
from media.clock import SystemClock

_LEDGER_SECONDS = 10.0


def make() -> Flask:
    """Build the application. The ledger may come up later than the gateway, or again: no answer leaves without it."""
    config = load_config()
    clock = SystemClock()
    is_test = config.at.stage is Stage.TEST
    aliases = (ALIAS,) if config.router.rules else ()
    routes = StageRoutes if is_test else StateRoutes
    logs.to_stderr()
    ledger = SocketLedger(config.at.socket(TEST_GATEWAY if is_test else GATEWAY), timeout_seconds=_LEDGER_SECONDS)
    return create_app(
        config,
        routes=routes(config.at, clock, aliases=aliases, sites=config.models.aliases, ledger=ledger),
        ledger=ledger,
        keys=open_keys(config),
        api_keys=StateApiKeys(config.at, BelievedClock(config.at, clock)),
        clock=clock,
        metrics=Metrics(read_gpus=gpufigures.reader(config.at, clock, itself=open_reader())),
    )


app = make()
