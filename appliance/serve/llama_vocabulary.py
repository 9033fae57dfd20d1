"""What llama.cpp knows of a model's tokens beside their texts: which begin and end a sequence, which have names."""

from typing import Any, Final

import llama_cpp

# What llama.cpp looks for in a text whose control tokens are recognised.
_NAMED: Final = (
    llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
)


class LlamaVocabulary:
    """The vocabulary of a loaded model; safe for threads.

    Attributes:
        start: The text of the token that begins a sequence, as a template writes it; empty where there is none.
        end: That of the one that ends it.
        opening: What its tokenizer puts before a text that no template was made of.
    """

    def __init__(self, vocab: Any) -> None:
        self._vocab = vocab
        self._named: dict[int, bool] = {}
        begins = int(llama_cpp.llama_vocab_bos(vocab))
        self.start, self.end = self._text_of(begins), self._text_of(int(llama_cpp.llama_vocab_eos(vocab)))
        self.opening = (begins,) if begins >= 0 and llama_cpp.llama_vocab_get_add_bos(vocab) else ()

    def is_named(self, token: int) -> bool:
        """Tell whether a token is found in a text by its name."""
        if (found := self._named.get(token)) is None:
            found = self._named[token] = bool(llama_cpp.llama_vocab_get_attr(self._vocab, token) & _NAMED)
        return found

    def _text_of(self, token: int) -> str:
        return str(llama_cpp.llama_vocab_get_text(self._vocab, token).decode(errors="replace")) if token >= 0 else ""
