"""The end of a program that closed nothing: what is being written is waited for, and a save that failed is seen by whoever started the program."""
from __future__ import annotations

import atexit
import os
import sys
import weakref
from typing import Any, Callable, List

_errors: List[Exception] = []


class _Failing:
    """Stands for sys.stdout once a checkpoint was lost at the end. An error of an atexit function changes no exit code; one of the interpreter's last flush makes it 120, whatever
    it was to be, and everything else still ends as it would have."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def flush(self) -> None:
        if self._stream is not None:
            self._stream.flush()
        if sys.is_finalizing() and _errors:
            raise _errors.pop()  # told as an ignored exception

    closed = False


def close_at_exit(ck: Any) -> Callable[[], None]:
    """Closes the checkpointer at the end of the program; the call takes that back."""
    ref = weakref.ref(ck)

    def end() -> None:
        c = ref()
        if c is None or os.getpid() != c._pid:
            return
        if c._saver is None:
            if c._preemption is not None:
                c._preemption.close()
            return
        preempted = c._heard_here or c._all_preempted  # its exit code has a meaning, and whoever recovers it goes on from an earlier checkpoint
        try:
            c.close()
        except Exception as e:
            print(f"ingot: {e}", file=sys.stderr)
            if not _errors and not preempted:
                sys.stdout = _Failing(sys.stdout)
                _errors.append(e.with_traceback(None))
    atexit.register(end)
    return lambda: atexit.unregister(end)
