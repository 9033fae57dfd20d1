"""OpenSSF model-signing: a publisher's signature over a model folder, verified on import and written on export.

Never an input to trust: it says what a publisher signed, and goes into the provenance record. The statements are
handled here, because the upstream package needs a client of online services that an isolated site cannot use.
"""
