"""Text: from files to tokens, from tokens to windows.

corpus           reads a text from disk and tokenizes it into a token file
hf_datasets      texts of the package `datasets`
generated        English-like text from a small grammar
tokenizer        tokenizers: bytes, or files of the package `tokenizers`
tokenizer_files  reads such files, and the added tokens beside them
pieces           cuts a text where its tokens allow it
bpe              trains a byte-level BPE tokenizer on a text
encode           encodes a stream of text, in one process or several
token_file       token files on disk, with their manifests
windows          windows on a fixed grid over a text's tokens
ngram            baselines from counts of n-grams (Kneser-Ney)
overlap          how much of a held-out text is in the training text
"""

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
