"""The ways into the ledger: `open_ledger` for every process that records or reads.

Callers code against `Ledger` and its facts, which are re-exported here.
"""

from appliance.audit.facts import Appended, ConsistencyProof, InclusionProof, Ledger, TreeHead
from appliance.audit.leaf import Leaf, Via

__all__ = ["Appended", "ConsistencyProof", "InclusionProof", "Leaf", "Ledger", "TreeHead", "Via"]
