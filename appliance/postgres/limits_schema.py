"""The tables in which the nodes of a site count what callers use, and the functions that count.

They belong to the role `sealift_owner`, like the other schemas. The gateways' role may read them and call the
functions, nothing else. Each call is one statement and one transaction, so no lock outlives a gateway that was paused.
Nothing here is evidence, and nothing else refers to it: a release that does not know it leaves it alone.
"""

from typing import Final

from appliance.postgres.schema import Schema

LIMITS: Final = Schema(
    name="sealift_limits",
    version=1,
    package="appliance.postgres",
    file="limits_schema.sql",
    lacks="counters of limits that this release knows",
    absent="they are absent",
)
