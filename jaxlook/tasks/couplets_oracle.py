"""The exact losses of readers of couplets, at every class of positions.

All readers know the language and the earlier tokens. They differ in when they
use the class that line 1 determines: the planner from m1 on, the improviser at
e2 only, the blind reader never. On FREE couplets line 1 does not help, so all
three are blind. The genre is known at m1, whether it comes early or late.

                m1     m2 ..  art   e2      value of line 1
  blind         ln 64  ln 8   ln 2  ln 4    0
  improviser    ln 64  ln 8   ln 2  0       ln 4
  planner       ln 32  ln 8   0     0       ln 16
  end-only      ln 64  ln 8   ln 2  ln 4    ln 16; blind: e2 costs ln 64
"""

import math
from typing import TYPE_CHECKING, Literal, get_args

from jaxlook.errors import SettingError
from jaxlook.tasks import couplets_language as language

if TYPE_CHECKING:
  from jaxlook.tasks.couplets import Couplets

Reader = Literal["planner", "improviser", "blind"]
READERS: tuple[Reader, ...] = get_args(Reader)


def losses(task: "Couplets", reader: Reader, rhymes: bool) -> dict[str, float]:
  """Returns the loss of predicting each class of tokens in `Couplets.places`.

  Args:
    task: the arm.
    reader: planner, improviser or blind.
    rhymes: True for RHY couplets, False for FREE ones.

  Returns:
    Nats per token, means over couplets of that genre, for every class except
    BOS. The genre costs -ln of its probability: infinity if that is 0.

  Raises:
    SettingError: the reader is unknown.
  """
  if reader not in READERS:
    raise SettingError(
      "reader", f"must be one of {', '.join(READERS)}, not {reader!r}"
    )
  share = task.p if rhymes else 1.0 - task.p
  token = language.FILLERS if task.key == "lookup" else language.SYMBOLS
  return {
    "genre": -math.log(share) if share > 0.0 else math.inf,
    "line1": math.log(token),
    "e1": math.log(language.WORDS),
    "NL": 0.0,
    "U": 0.0,
    **_second_line(task, reader if rhymes else "blind"),
    "EOS": 0.0,
  }


def value(task: "Couplets", reader: Reader) -> float:
  """Returns the value of line 1 to a reader, nats per rhyming couplet."""
  blind, own = _second_line(task, "blind"), _second_line(task, reader)
  return sum(blind.values()) - sum(own.values())


def _second_line(task: "Couplets", reader: Reader) -> dict[str, float]:
  """Returns a reader's losses from m1 to e2, in a rhyming couplet."""
  knows_end = reader != "blind"
  plans = reader == "planner" and not task.end_only
  # The class halves the topics; class and topic determine word and article.
  # Without the class, topic and article leave 4 words. In an end-only couplet
  # they do not depend on e2: 64 words are left, or the 4 of the class.
  topics = language.TOPICS // 2 if plans else language.TOPICS
  if task.end_only:
    words = language.WORDS_EACH if knows_end else language.WORDS
  else:
    words = 1 if knows_end else language.WORDS_EACH
  result = {
    f"m{i + 1}": math.log(language.MODIFIERS_EACH)
    for i in range(task.modifiers)
  }
  result["m1"] += math.log(topics)
  return result | {
    "art": 0.0 if plans else math.log(2),
    "e2": math.log(words),
  }
