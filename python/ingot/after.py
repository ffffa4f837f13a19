"""What follows a save once it is committed, in order, in a thread beside the training: names that point to it, removal of what it replaces."""
from __future__ import annotations

import atexit
import queue
import sys
import threading
import weakref
from typing import Any, Callable, Optional


class After:
    """``add(handle, call)``: the call is made when the save has been committed, and not where it failed. Errors come out in the next ``raise_errors``, ``wait`` or ``close``, else at the program's end."""

    def __init__(self) -> None:
        self._queue: "queue.Queue[Any]" = queue.Queue()
        self._thread: Optional[threading.Thread] = None
        self._error: Optional[BaseException] = None
        self._given_up: Any = None  # a save whose failure says nothing
        ref = weakref.ref(self)

        def end() -> None:
            this = ref()
            if this is not None:
                try:
                    this.close()
                except BaseException as e:  # the checkpointer has told what became of the save
                    print(f"ingot: {e}", file=sys.stderr)
        atexit.register(end)
        weakref.finalize(self, atexit.unregister, end).atexit = False

    def add(self, handle: Any, call: Callable[[], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="ingot-after", daemon=True)
            self._thread.start()
        self._queue.put((handle, call))

    def give_up(self, handle: Any) -> None:
        """Another save comes in its place."""
        self._given_up = handle
        handle.abort()

    def _run(self) -> None:
        handle: Any = None
        while True:
            item = self._queue.get()
            try:
                if item is None:
                    return
                handle, call = item
                if handle is not None:
                    handle.wait()
                call()
            except BaseException as e:
                if handle is None or handle is not self._given_up:
                    self._error = self._error or e
            finally:
                item = handle = call = None
                self._queue.task_done()

    def raise_errors(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def wait(self) -> None:
        """Until all of it has been done."""
        self._queue.join()
        self.raise_errors()

    def close(self) -> None:
        """Waits, and ends the thread; ``add`` begins anew."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join()
        self._given_up = None
        self.raise_errors()
