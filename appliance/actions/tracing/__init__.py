"""The way back: from a version, a release, a medium, a signer or an approver to every answer that it touched."""
