"""What follows a save once it is committed, in order, in a thread beside the training: names that point to it, removal of what it replaces."""
from __future__ import annotations

import queue
import threading
from typing import Any, Callable, Optional


class After:
    """``add(handle, call)``: the call is made when the save has been committed, and not where it failed. Errors come out in the next ``raise_errors`` or ``wait``."""

    def __init__(self) -> None:
        self._queue: "queue.Queue[Any]" = queue.Queue()
        self._thread: Optional[threading.Thread] = None
        self._error: Optional[BaseException] = None

    def add(self, handle: Any, call: Callable[[], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="ingot-after", daemon=True)
            self._thread.start()
        self._queue.put((handle, call))

    def _run(self) -> None:
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
                if not getattr(item[0], "given_up", False):
                    self._error = self._error or e
            finally:
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
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join()
        self.raise_errors()
