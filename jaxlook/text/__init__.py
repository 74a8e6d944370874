"""Text: from files to tokens, from tokens to windows."""

from jaxlook.text import (
  bpe,
  corpus,
  generated,
  ngram,
  tokenizer,
)

__all__ = [
  "bpe",
  "corpus",
  "generated",
  "ngram",
  "tokenizer",
]
