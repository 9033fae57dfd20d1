"""The table of what is held back from callers of all nodes (`appliance.state.held`), beside the state's own tables.

It has a version of its own, so that nodes of a release that does not know it go on beside those that do.
"""

from typing import Final

from appliance.postgres.schema import Schema

HELD: Final = Schema(
    name="sealift_held",
    version=1,
    package="appliance.postgres",
    file="held_schema.sql",
    lacks="table of what is held back that this release knows",
    absent="a command that brings the state up during a promotion may send callers to an engine that is not ready",
)
