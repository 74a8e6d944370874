"""The exact loss of readers of couplets, at every class of positions.

All readers know the language and what stood before; they differ in when they
use the class that line 1 gives: the planner from m1 on, the improviser at e2
only, the blind reader never. On FREE couplets it is of no use, and all are
blind. The genre is known to who predicts m1, whether it comes early or late.

                m1     m2 ..  art   e2      value of line 1
  blind         ln 64  ln 8   ln 2  ln 4    0
  improviser    ln 64  ln 8   ln 2  0       ln 4
  planner       ln 32  ln 8   0     0       ln 16
  end-only      ln 64  ln 8   ln 2  ln 4    ln 16, and e2 costs the blind ln 64
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
  """The loss of predicting each class of tokens, by `Couplets.places`.

  Args:
    task: the arm.
    reader: planner, improviser or blind.
    rhymes: on RHY couplets, or on FREE ones.

  Returns:
    Nats per token, means over couplets of that genre, for every class but BOS.
    The genre costs what its own probability costs: infinity if that is 0.

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
  """What line 1 is worth to a reader, nats per rhyming couplet."""
  blind, own = _second_line(task, "blind"), _second_line(task, reader)
  return sum(blind.values()) - sum(own.values())


def _second_line(task: "Couplets", reader: Reader) -> dict[str, float]:
  """The losses from m1 to e2 of who may use the class as the reader does."""
  knows_end = reader != "blind"
  plans = reader == "planner" and not task.end_only
  # A class leaves half of the topics, and with a topic one word, so also the
  # article. Without it, topic and article leave 4 words; in an end-only couplet
  # they say nothing of e2, so 64 words are left, or the 4 of the class.
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
