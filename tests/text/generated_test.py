"""The generated text is reproducible and has the promised structure."""

import hashlib
import lzma
import re

import hypothesis
import numpy as np
from absl.testing import absltest
from hypothesis import strategies as st

from jaxlook.text import generated, ngram
from tests.fixtures import base


class GeneratedTextTest(base.TestCase):
  def setUp(self):
    super().setUp()
    self.text = generated.generated_text(0, 300_000)
    self.paragraphs = self.text.split("\n\n")[:-1]

  @hypothesis.given(st.integers(0, 2**70), st.integers(1, 5000))
  @hypothesis.settings(max_examples=20, deadline=None)
  def test_length_and_prefix(self, seed, num_bytes):
    """The length is exact, the text is ASCII, a longer text starts the same."""
    found = generated.generated_text(seed, num_bytes)
    self.assertLen(found.encode("ascii"), num_bytes)
    longer = generated.generated_text(seed, num_bytes + 700)
    self.assertEqual(longer[:num_bytes], found)

  def test_the_text_is_pinned(self):
    """The text is the same on every machine and version."""
    digest = hashlib.sha256(self.text.encode()).hexdigest()
    self.assertEqual(
      digest, "85716cf35f0a4e93acf8253c187dd02112e780fa72904499d7978c7580886fc5"
    )

  def test_seeds_differ(self):
    """Texts of two seeds share no paragraph."""
    starts = {generated.generated_text(seed, 99) for seed in range(20)}
    self.assertLen(starts, 20)
    other = generated.generated_text(1, 300_000).split("\n\n")[:-1]
    self.assertEmpty(set(self.paragraphs) & set(other))

  def test_quotes_and_brackets_close(self):
    """They close within every paragraph, also quotes within quotes."""
    self.assertIn('"', self.text)
    self.assertIn("(", self.text)
    for paragraph in self.paragraphs:
      stack = []
      for mark in re.findall(r"[\"'()]", paragraph):
        if stack and (stack[-1] == mark or stack[-1] + mark == "()"):
          stack.pop()
        else:
          stack.append(mark)
      self.assertEmpty(stack)

  def test_pronouns_agree_with_names(self):
    """The end of a name determines the pronouns a few words later."""
    found = re.findall(r"to (\w+), and (\w+) hid it under (\w+) ", self.text)
    self.assertGreater(len(found), 100)
    for name, subject, possessive in found:
      female = bool(re.search("(a|ia|ene|essa)$", name))
      self.assertEqual(
        (subject, possessive), ("she", "her") if female else ("he", "his")
      )

  def test_verbs_agree_across_another_noun(self):
    """The verb and the copula agree in number with the first noun."""
    found = re.findall(
      r"The \w+ (\w+) near the (\w+) (\w+) the \w+ and (is|are) ", self.text
    )
    self.assertGreater(len(found), 100)
    clashes = 0
    for noun, other, verb, copula in found:
      plural = noun.endswith("s")
      self.assertEqual(copula, "are" if plural else "is")
      self.assertEqual(verb.endswith("s"), not plural)
      clashes += other.endswith("s") != plural
    # The nearer noun does not predict the verb.
    self.assertBetween(clashes / len(found), 0.4, 0.6)

  def test_the_topic_and_its_owner_recur(self):
    """The answer to "Who has it?" is the last person to whom it was given."""
    questions = changed = 0
    for paragraph in self.paragraphs:
      tale = re.match(
        r"This is the tale of (\w+) and the (\w+ \w+)\.", paragraph
      )
      assert tale is not None
      owner, topic = tale.groups()
      self.assertEndsWith(paragraph, f"So ends the tale of the {topic}.")
      events = (
        rf"gave the \w+ to (\w+)|Who has the {topic.split()[1]}\? It is (\w+)"
      )
      for given, named in re.findall(events, paragraph):
        owner = given or owner
        if named:
          self.assertEqual(named, owner)
          questions += 1
          changed += owner != tale.group(1)
    self.assertGreater(questions, 100)
    self.assertGreater(changed, 20)

  def test_there_is_more_than_bigrams_to_learn(self):
    """LZMA, which sees further, needs less than half of a bigram's bits."""
    data = self.text.encode()
    tokens = np.frombuffer(data, np.uint8)
    bigram = ngram.fit_ngrams(tokens, 256, 2).nats(tokens).mean() / np.log(2)
    self.assertLess(8 * len(lzma.compress(data)) / len(data), bigram / 2)

  def test_arguments_out_of_range_are_refused(self):
    """The error names the argument and its value."""
    with self.assertRaisesRegex(ValueError, "seed must be at least 0, not -1"):
      generated.generated_text(-1, 10)
    with self.assertRaisesRegex(ValueError, "num_bytes must be .* 1, not 0"):
      generated.generated_text(0, 0)


if __name__ == "__main__":
  absltest.main()
