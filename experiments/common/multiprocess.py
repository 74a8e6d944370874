"""`--distributed`: a binary in several processes, of which one speaks.

The same command is started once for each process, with the same flags but for
the process's index. All train; process 0 alone writes the run folder, which
they share, and goes on to measure and report when the others have ended.
"""

import os
import sys
import traceback

from experiments.common import stderr_filter
from experiments.common.shared_flags import DISTRIBUTED
from jaxlook.training import multihost

GONE = (
  "--distributed: another process ended or cannot be reached, so this one ends;"
  " start all of them again to continue from the last checkpoint"
)


def join() -> None:
  """Joins the other processes, if `--distributed` says so.

  Raises:
    SettingError: the flag's value cannot be used.
  """
  if DISTRIBUTED.value is None:
    return
  place = multihost.parse_place(DISTRIBUTED.value)
  stderr_filter.through(GONE)
  multihost.join(place)
  if not multihost.is_leader():
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, sys.stdout.fileno())
    os.close(silence)


def go_alone() -> None:
  """Ends the other processes, their work being done; process 0 goes on."""
  if multihost.joined():
    leads = multihost.is_leader()
    multihost.leave()
    if not leads:
      sys.exit(0)


def end(error: Exception) -> None:
  """Ends a joined process at once: the others wait for it no longer.

  Args:
    error: what ended it; said in one line if it is that another is gone.
  """
  if not multihost.joined():
    return
  if multihost.is_lost_process(error):
    print(GONE, file=sys.stderr)
  else:
    traceback.print_exception(error)
  sys.stdout.flush()
  sys.stderr.flush()
  # Without what is done at exit, which would wait for the others.
  os._exit(1)
