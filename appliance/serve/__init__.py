"""Engines: one process per loaded model version, behind one interface whatever library decodes."""
