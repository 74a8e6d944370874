"""`--distributed`: a binary in several processes, of which one reports.

The same command is started once for each process, with the same flags except
for the index of the process. All processes train and share the run folder. Only
process 0 writes it and prints. When training is finished, the others end and
process 0 measures and reports.
"""

import contextlib
import os
import sys
import traceback

from experiments.common import faults, stderr_filter
from experiments.common.shared_flags import DISTRIBUTED
from jaxlook.training import multihost

OTHER_IS_GONE = (
  "--distributed: another process ended or cannot be reached, so this one ends;"
  " start all of them again to continue from the last checkpoint"
)


def join() -> None:
  """Joins the other processes where `--distributed` is given.

  Raises:
    SettingError: the flag's value cannot be used.
  """
  if DISTRIBUTED.value is None:
    return
  place = multihost.parse_place(DISTRIBUTED.value)
  stderr_filter.filter_stderr(OTHER_IS_GONE)
  multihost.join(place)
  if not multihost.is_leader():
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, sys.stdout.fileno())
    os.close(silence)


def end_others() -> None:
  """Ends all processes but process 0, once training is finished."""
  if multihost.joined():
    leads = multihost.is_leader()
    multihost.leave()
    if not leads:
      sys.exit(0)


def end(error: Exception) -> None:
  """Ends a joined process at once, so that the others do not wait for it.

  Args:
    error: what ended it. Its traceback is printed; for a fault of the machine,
      or if another process is gone, one line is printed instead.
  """
  if not multihost.joined():
    return
  if multihost.is_lost_process(error):
    print(OTHER_IS_GONE, file=sys.stderr)
  elif said := faults.line(error):
    print(said, file=sys.stderr)
  else:
    traceback.print_exception(error)
  with contextlib.suppress(OSError):
    sys.stdout.flush()
    sys.stderr.flush()
  # Skips exit handlers, which would wait for the others.
  os._exit(1)
