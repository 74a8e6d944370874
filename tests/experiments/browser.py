"""A page in headless Chromium, driven by its DevTools protocol over a pipe.

The pipe is Chromium's: it reads commands from descriptor 3 and answers on 4,
JSON with a zero byte after each message. So the standard library will do.
"""

import itertools
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_SECONDS = 60.0  # For any one answer, on a machine that is busy.
_FLAGS = (
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--disable-dev-shm-usage",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--remote-debugging-pipe",
)
# Puts the two ends where Chromium looks for them, whatever their numbers are.
_EXEC = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in sys.argv[1:3]]
for number, end in zip((3, 4), ends):
  os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
KEYS = {"?": 191, "v": 86, "l": 76, "h": 72} | {
  name: code
  for code, name in enumerate(
    ("End", "Home", "ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown"), 35
  )
}
KEYS |= {"Tab": 9, "Enter": 13, "Escape": 27}


class Browser:
  """One tab.

  Attributes:
    events: all that the page has reported, in order.
  """

  def __init__(self, width: int = 1366, height: int = 768):
    """Starts Chromium with an empty profile and opens an empty tab."""
    self.events: list[dict[str, Any]] = []
    self._numbers, self._session, self._rest = itertools.count(1), None, b""
    self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    theirs_in, self._out = os.pipe()
    self._in, theirs_out = os.pipe()
    self._process = subprocess.Popen(
      [
        *(sys.executable, "-c", _EXEC, str(theirs_in), str(theirs_out)),
        *(str(CHROMIUM), *_FLAGS, f"--window-size={width},{height}"),
        *(f"--user-data-dir={self._profile.name}", "about:blank"),
      ],
      pass_fds=(theirs_in, theirs_out),
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    (tab,) = (
      each
      for each in self.call("Target.getTargets")["targetInfos"]
      if each["type"] == "page"
    )
    attached = self.call(
      "Target.attachToTarget", targetId=tab["targetId"], flatten=True
    )
    self._session = attached["sessionId"]
    for domain in ("Page", "Runtime", "Network", "Log"):
      self.call(f"{domain}.enable")

  def call(self, method: str, **params: Any) -> dict[str, Any]:
    """Sends a command and returns its result; events go to `events`."""
    number = next(self._numbers)
    message = {"id": number, "method": method, "params": params}
    if self._session:
      message["sessionId"] = self._session
    os.write(self._out, json.dumps(message).encode() + b"\0")
    while True:
      answer = self._receive()
      if answer.get("id") == number:
        if "error" in answer:
          raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]
      self.events.append(answer)

  def open(self, file: pathlib.Path) -> None:
    """Goes to a file and waits until it is loaded and its script has run."""
    self.events.clear()
    self.call("Page.navigate", url=file.resolve().as_uri())
    while not self.of("Page.loadEventFired"):
      self.events.append(self._receive())

  def of(self, *methods: str) -> list[dict[str, Any]]:
    """The parameters of all events of some kinds."""
    return [
      event["params"] for event in self.events if event.get("method") in methods
    ]

  def run(self, expression: str) -> Any:
    """The value of an expression in the page, or what its promise becomes.

    Raises:
      RuntimeError: what the page has thrown.
    """
    found = self.call(
      "Runtime.evaluate",
      expression=expression,
      returnByValue=True,
      awaitPromise=True,
    )
    if "exceptionDetails" in found:
      raise RuntimeError(found["exceptionDetails"]["exception"]["description"])
    return found["result"].get("value")

  def press(self, key: str, times: int = 1) -> None:
    """Presses a key as a user does, with what has the focus."""
    text = {"text": key} if len(key) == 1 else {}
    text |= {"text": "\r"} if key == "Enter" else {}
    code = {"key": key, "windowsVirtualKeyCode": KEYS[key]}
    for _ in range(times):
      kind = "keyDown" if text else "rawKeyDown"
      self.call("Input.dispatchKeyEvent", type=kind, **code, **text)
      self.call("Input.dispatchKeyEvent", type="keyUp", **code)

  def move(self, x: float, y: float) -> None:
    """Moves the pointer."""
    self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

  def close(self) -> None:
    """Ends Chromium and forgets its profile."""
    self._process.terminate()
    self._process.wait(_SECONDS)
    os.close(self._in)
    os.close(self._out)
    self._profile.cleanup()

  def _receive(self) -> dict[str, Any]:
    """The next message, whatever it is."""
    until = time.monotonic() + _SECONDS
    while b"\0" not in self._rest:
      wait = max(until - time.monotonic(), 0.0)
      if not select.select([self._in], [], [], wait)[0]:
        raise TimeoutError(f"no word from Chromium in {_SECONDS:.0f} s")
      part = os.read(self._in, 1 << 16)
      if not part:
        raise RuntimeError("Chromium has ended")
      self._rest += part
    message, _, self._rest = self._rest.partition(b"\0")
    return json.loads(message)
