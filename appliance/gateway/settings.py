"""Where the unit's entry point takes its site file and keys from: systemd's own contract, and nothing else."""

import os
from pathlib import Path
from typing import Final

from appliance import config as configuration
from appliance.config import Config
from appliance.keys.opening import open_keys

_KEYS: Final = ("api-key-pepper", "identity-hmac", "content-hmac", "phi-map")


def load_config() -> Config:
    """Return the site file that SEALIFT_CONFIG names.

    Raises:
        ConfigError: It is absent or wrong.
    """
    return configuration.load(Path(os.environ.get("SEALIFT_CONFIG", str(configuration.DEFAULT_PATH))))


def require_keys(config: Config) -> None:
    """Return when every key the gateway uses is there.

    Raises:
        KeyMissingError: One is not.
    """
    keys = open_keys(config)
    try:
        for name in _KEYS:
            keys.newest(name)
    finally:
        keys.close()  # a token's session does not outlive the fork that comes next
