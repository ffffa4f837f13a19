"""Signals that say that the machine is about to go: SIGTERM (spot machines, Kubernetes), SIGUSR1 (Slurm's --signal)."""
from __future__ import annotations

import ctypes
import functools
import os
import signal
from typing import Any, List, Optional, Tuple

from . import _ingot


_ours: Optional[int] = None  # the address of the engine's handler, the same for all signals and for the life of a process and its children


def _handler_of(number: int) -> Optional[int]:
    """What the kernel calls for a signal. signal.getsignal does not tell: it knows what Python has set, and the engine sets its own beneath it; so SIG_DFL after SIG_DFL looks like nothing."""
    try:
        action = (ctypes.c_void_p * 64)()  # struct sigaction is smaller, and begins with the handler on Linux (glibc, musl) and macOS
        return action[0] or 0 if _libc().sigaction(number, None, action) == 0 else None
    except (AttributeError, OSError):
        return None


@functools.lru_cache(None)
def _libc() -> Any:
    return ctypes.CDLL(None)


class Preemption:
    """Notes the signals at once, whatever Python is doing, and hands them on to whoever listened before.

    With a deadline (seconds after the signal) the process ends by itself, with exit code 75, shortly before it: a save that is under way goes on until then, and
    nothing is captured in the middle of a step that takes too long. Several of a process share what they have seen; the first deadline holds.
    """

    def __init__(self, deadline: Optional[float] = None, signals: tuple = (signal.SIGTERM, signal.SIGUSR1)):
        global _ours
        self._native: Any = _ingot.Preemption([int(s) for s in signals], deadline)
        self._signals: Tuple[int, ...] = tuple(int(s) for s in signals)
        self._told = False
        self.heard = False  # from somebody else, whose handler took the signal
        self._pid = os.getpid()
        if _ours is None and self._signals:
            _ours = _handler_of(self._signals[0])  # the first that listens has just set it

    def lost(self) -> List[str]:
        """The signals that somebody else has taken since (signal.signal, another library), told once. It costs some microseconds."""
        if self._told or self._native is None or not _ours or os.getpid() != self._pid:
            return []
        out = [signal.Signals(s).name for s in self._signals if _handler_of(s) not in (_ours, None)]
        self._told = bool(out)
        return out

    @property
    def seen(self) -> bool:
        return self.heard or _ingot.preempted() != 0

    def close(self) -> None:
        if self._native is not None:
            self._native.close()
            self._native = None
