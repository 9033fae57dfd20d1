"""Where the unit's entry point takes its site file, stage and keys from: systemd's own contract, and nothing else."""

import os
from pathlib import Path
from typing import Final

from appliance import config as configuration
from appliance.config import Config, StagedConfig
from appliance.errors import ConfigError
from appliance.keys.opening import open_keys
from appliance.keys.stages import OWN, keys_of
from appliance.stages import Stage

_STAGE: Final = "SEALIFT_STAGE"


def load_config() -> Config:
    """Return the site file that SEALIFT_CONFIG names, as the stage reads it that SEALIFT_STAGE names.

    Raises:
        ConfigError: It is absent or wrong, or there is no such stage.
    """
    config = configuration.load(Path(os.environ.get("SEALIFT_CONFIG", str(configuration.DEFAULT_PATH))))
    named = os.environ.get(_STAGE, Stage.PRODUCTION)
    if named not in set(Stage):
        # A stage that is not understood must not become production.
        raise ConfigError(
            what=f"{_STAGE} names no stage", why=f"stages: {', '.join(Stage)}", fix="use the release's own units"
        )
    return StagedConfig.of(config) if named == Stage.TEST else config


def require_keys(config: Config) -> None:
    """Return when every key the gateway uses is there, those of its stage.

    Raises:
        KeyMissingError: One is not.
    """
    keys = open_keys(config)
    try:
        for name in OWN:
            keys_of(config.at.stage, keys).newest(name)
    finally:
        keys.close()  # a token's session does not outlive the fork that comes next
