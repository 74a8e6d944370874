"""English-like text from a small grammar, for use when no corpus is given.

It has structure that a bigram model cannot learn: invented names that recur
within a paragraph, pronouns that agree with a name, verbs that agree with a
noun across another noun, a topic per paragraph, questions about an object's
last owner, and quotes and brackets that close.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

_STARTS = """Al Bar Cor Dal El Fen Gal Hal Il Jor Kel Lor Mar Nel Or Pel Ros Sel
Tor Vel""".split()
_MIDDLES = "an ar ed en ev id il im in ol on or ul un".split()
# The end of a name determines its pronouns.
_ENDS = [(end, "she", "her", "her") for end in "a ia ene essa".split()] + [
  (end, "he", "him", "his") for end in "o us ek ard".split()
]
_NOUNS = """anchor apple arrow basket bell book bottle bridge candle carpet
chain clock coin crown door feather flag garden gate hammer horn jewel
kettle key ladder lamp lantern letter map mirror needle painting pearl pipe
ribbon ring rope sail shell ship spoon stone sword table tower wheel
window""".split()
_PLACES = """attic bakery castle cellar desert forest harbour kitchen
library market meadow mill monastery orchard palace river stable temple valley
village workshop""".split()
_ADJECTIVES = """bright broken clean cold dark dusty empty fragile golden green
grey heavy hidden hollow large little narrow plain precious quiet red rough
rusty sharp silent silver smooth strange tall white wooden""".split()
_VERBS = """block cover face frame guard mark protect reveal shelter support
surround""".split()
_NUMBERS = "two three four five six seven eight nine ten eleven twelve".split()

_Pick = Callable[[Sequence[Any]], Any]


class _Person(NamedTuple):
  name: str
  he: str
  him: str
  his: str


def generated_text(seed: int, num_bytes: int) -> str:
  """Generates a text; a shorter text is a prefix of a longer one.

  Args:
    seed: seed of numpy's PCG64, at least 0.
    num_bytes: length of the text in bytes, at least 1. The text is cut there,
      usually within a sentence.

  Returns:
    ASCII text of `num_bytes` characters. A paragraph is one line of a few
    sentences; an empty line separates paragraphs.

  Raises:
    ValueError: `seed` or `num_bytes` is too small.
  """
  if seed < 0:
    raise ValueError(f"seed must be at least 0, not {seed}")
  if num_bytes < 1:
    raise ValueError(f"num_bytes must be at least 1, not {num_bytes}")
  draws = _draws(seed)

  def pick(options: Sequence[Any]) -> Any:
    return options[next(draws) % len(options)]

  paragraphs, missing = [], num_bytes
  while missing > 0:
    paragraphs.append(_paragraph(pick))
    missing -= len(paragraphs[-1])
  return "".join(paragraphs)[:num_bytes]


def _draws(seed: int) -> Iterator[int]:
  # NumPy promises only for the raw output that it stays the same in later
  # versions.
  bits = np.random.PCG64(seed)
  while True:
    yield from bits.random_raw(4096).tolist()


def _paragraph(pick: _Pick) -> str:
  """Returns one paragraph, with the empty line after it."""
  people = [_person(pick) for _ in range(3)]
  topic, place, adjective = pick(_NOUNS), pick(_PLACES), pick(_ADJECTIVES)
  owner = people[0]
  sentences = [f"This is the tale of {owner.name} and the {adjective} {topic}."]
  for _ in range(pick(range(3, 8))):
    # `a` and `b` are the two people who are not the owner, in random order.
    others = [person for person in people if person is not owner]
    a, b = others if pick((True, False)) else reversed(others)
    match pick(range(8)):
      case 0 | 1:
        sentence = _agreement(pick, topic, place)
      case 2:
        sentence = (
          f"{owner.name} gave the {topic} to {a.name}, and {a.he} hid it under"
          f" {a.his} {pick(_NOUNS)}."
        )
        owner = a
      case 3:
        sentence = (
          f"Who has the {topic}? It is {owner.name}, and {owner.he} keeps it"
          f" in the {place}."
        )
      case 4:
        sentence = (
          f'"Have you seen the {topic}?" asked {a.name}. "{owner.name} has it,'
          f' and the {pick(_NOUNS)} too," {b.name} told {a.him}.'
        )
      case 5:
        sentence = (
          f"{a.name} (who had lived in the {place} for {pick(_NUMBERS)} years,"
          f" {pick(_NUMBERS)} of them with {b.name}) lost {a.his}"
          f" {pick(_NOUNS)}."
        )
      case 6:
        sentence = (
          f"If {b.name} wants the {adjective} {topic}, then {owner.name} must"
          f" bring it to {b.him} in the {place}."
        )
      case _:
        sentence = (
          f"\"I heard {a.name} say '{owner.name} sold {pick(_NUMBERS)}"
          f" {pick(_NOUNS)}s to {b.name}' in the {place},\" said the old man."
        )
    sentences.append(sentence)
  sentences.append(f"So ends the tale of the {adjective} {topic}.")
  return " ".join(sentences) + "\n\n"


def _person(pick: _Pick) -> _Person:
  end, he, him, his = pick(_ENDS)
  return _Person(pick(_STARTS) + pick(_MIDDLES) + end, he, him, his)


def _agreement(pick: _Pick, topic: str, place: str) -> str:
  """Returns a sentence whose verb agrees with the first noun, not the next."""
  # A plural noun takes the verb without "s".
  noun_end, verb_end, be = pick((("", "s", "is"), ("s", "", "are")))
  other = pick(_NOUNS) + pick(("", "s"))
  return (
    f"The {pick(_ADJECTIVES)} {topic}{noun_end} near the {other}"
    f" {pick(_VERBS)}{verb_end} the {place} and {be} {pick(_ADJECTIVES)}."
  )
