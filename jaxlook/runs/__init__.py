"""Run folders: what a run writes, and how it is read again."""

from jaxlook.runs.arm import Arm, Unseen
from jaxlook.runs.store import Arms, Store, follow_store, open_store

__all__ = [
  "Arm",
  "Arms",
  "Store",
  "Unseen",
  "follow_store",
  "open_store",
]
