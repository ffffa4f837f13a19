"""Signals that say that the machine is about to go: SIGTERM (spot machines, Kubernetes), SIGUSR1 (Slurm's --signal)."""
from __future__ import annotations

import signal
import threading
from typing import Any, Dict, Optional


class Preemption:
    """Notes the signals, and hands them on to whoever listened before."""

    def __init__(self, deadline: Optional[float] = None, signals: tuple = (signal.SIGTERM, signal.SIGUSR1)):
        self.seen = False
        self.deadline = deadline
        self._before: Dict[int, Any] = {}
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may listen; poll() there
        for s in signals:
            self._before[s] = signal.signal(s, self._handle)

    def _handle(self, number: int, frame: Any) -> None:
        self.seen = True
        before = self._before.get(number)
        if callable(before):
            before(number, frame)

    def close(self) -> None:
        for s, before in self._before.items():
            if signal.getsignal(s) == self._handle:
                signal.signal(s, before if before is not None else signal.SIG_DFL)
        self._before = {}
