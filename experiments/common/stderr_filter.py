"""Replaces JAX's crash log with one line.

When a process of a joint training run is lost, JAX's runtime in the others logs
a page from C++ and aborts; their Python code no longer runs. So each such
process sends its stderr through a child process, which runs this file. The
child passes stderr on and holds back everything that follows an error of the
runtime. If the runtime aborts, it prints one line instead.
"""

import os
import re
import signal
import subprocess
import sys

# As "E1121 23:41:57.227203   31552 coordination_service.cc:1520] ...".
_RUNTIME_ERROR = re.compile(
  rb"[EF]\d{4} [\d:.]+ +\d+ (coordination_service\w*\.cc|client\.h):"
)
_ABORT = re.compile(rb"F\d{4} ")


def filter_stderr(line: str) -> None:
  """Sends this process's stderr through a child process.

  Args:
    line: printed where the runtime aborts the process; only once if the
      process prints it itself.
  """
  read, write = os.pipe()
  subprocess.Popen([sys.executable, "-S", __file__, line], stdin=read)
  sys.stderr.flush()
  os.dup2(write, sys.stderr.fileno())
  os.close(read)
  os.close(write)


def copy_until_closed(line: bytes) -> None:
  """The child: copies stdin to stderr until the other process has ended.

  Args:
    line: as in `filter_stderr`, with a line break.
  """
  passed: list[bytes] = []
  held: list[bytes] = []
  for text in sys.stdin.buffer:
    # An error takes several lines, so all that follows it is held back.
    (held if held or _RUNTIME_ERROR.match(text) else passed).append(text)
    if not held:
      os.write(2, text)
  if any(_ABORT.match(text) for text in held) or line in held:
    held = [] if line in passed else [line]
  os.write(2, b"".join(held))


if __name__ == "__main__":
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
  copy_until_closed(sys.argv[1].encode() + b"\n")
