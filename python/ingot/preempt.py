"""Signals that say that the machine is about to go: SIGTERM (spot machines, Kubernetes), SIGUSR1 (Slurm's --signal)."""
from __future__ import annotations

import signal
from typing import Any, Optional

from . import _ingot


class Preemption:
    """Notes the signals at once, whatever Python is doing, and hands them on to whoever listened before.

    With a deadline (seconds after the signal) the process ends by itself, with exit code 75, shortly before it: a save that is under way goes on until then, and
    nothing is captured in the middle of a step that takes too long. Several of a process share what they have seen; the first deadline holds.
    """

    def __init__(self, deadline: Optional[float] = None, signals: tuple = (signal.SIGTERM, signal.SIGUSR1)):
        self._native: Any = _ingot.Preemption([int(s) for s in signals], deadline)

    @property
    def seen(self) -> bool:
        return _ingot.preempted() != 0

    def close(self) -> None:
        if self._native is not None:
            self._native.close()
            self._native = None
