"""Keeps a request's tokens encrypted (AES-256-GCM, key `phi-map`) while nobody needs them: as the engine computes.

The request's id is bound to the ciphertext, so one request's tokens never open for another, even by a mistake of ours.
"""

import json
from typing import Final

from appliance.keys.provider import KeyProvider
from appliance.phi.tokens import TokenMap

KEY: Final = "phi-map"


class SealedTokens:
    """The tokens of one request, readable with the key only.

    Args:
        tokens: What to keep.
        keys: Holds the key `phi-map`.
        request_id: Bound to the ciphertext.
    """

    def __init__(self, tokens: TokenMap, *, keys: KeyProvider, request_id: str) -> None:
        self._keys = keys
        self._request_id = request_id.encode()
        self._sealed = b""
        if tokens.values:
            plain = json.dumps([[word, ordinal, value] for (word, ordinal), value in tokens.values.items()])
            self._sealed = keys.wrap(KEY, plain.encode(), self._request_id)

    def open(self) -> TokenMap:
        """Return the tokens.

        Raises:
            KeyMissingError: The key was destroyed meanwhile.
            CiphertextError: The ciphertext is not this request's.
        """
        tokens = TokenMap()
        if self._sealed:
            plain = self._keys.unwrap(KEY, self._sealed, self._request_id)
            tokens.values.update({(word, ordinal): value for word, ordinal, value in json.loads(plain)})
        return tokens
