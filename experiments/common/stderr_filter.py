"""Folds what JAX's runtime says of a lost process into one line.

The runtime of the others logs a page from C++ and aborts; no Python of theirs
runs any more. So the stderr of a process that trains together with others goes
through a child, which runs this file: it passes on what is said, holds back
what follows an error of the runtime, and, where the process ended of it, says
one line instead.
"""

import os
import re
import signal
import subprocess
import sys

# As "E1121 23:41:57.227203   31552 coordination_service.cc:1520] ...".
_ERROR = re.compile(
  rb"[EF]\d{4} [\d:.]+ +\d+ (coordination_service\w*\.cc|client\.h):"
)
_FATAL = re.compile(rb"F\d{4} ")


def through(line: str) -> None:
  """Sends this process's stderr through a child of it.

  Args:
    line: what is said where the runtime ends the process; said only once if
      the process says it itself.
  """
  read, write = os.pipe()
  subprocess.Popen([sys.executable, "-S", __file__, line], stdin=read)
  sys.stderr.flush()
  os.dup2(write, sys.stderr.fileno())
  os.close(read)
  os.close(write)


def pass_on(line: bytes) -> None:
  """The child: copies stdin to stderr until the process has ended."""
  said: list[bytes] = []
  held: list[bytes] = []
  for text in sys.stdin.buffer:
    # A status takes several lines, so all that follows an error is held back.
    (held if held or _ERROR.match(text) else said).append(text)
    if not held:
      os.write(2, text)
  if any(_FATAL.match(text) for text in held) or line in held:
    held = [] if line in said else [line]
  os.write(2, b"".join(held))


if __name__ == "__main__":
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
  pass_on(sys.argv[1].encode() + b"\n")
