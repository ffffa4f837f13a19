"""What every framework that is attached to has in common: the checkpointer that it saves with, while there is one."""
from __future__ import annotations

from typing import Any, Callable, Dict, Optional

from .checkpointer import NOTHING_SAVED, Checkpointer


class Holder:
    _ck: Optional[Checkpointer] = None

    @property
    def checkpointer(self) -> Optional[Checkpointer]:
        """The one that saves now; None where nothing is to be saved (outside of a training)."""
        return self._ck

    @property
    def stats(self) -> Dict[str, Any]:
        """``Checkpointer.stats`` of it."""
        return self._ck.stats if self._ck is not None else dict(NOTHING_SAVED)

    def _of_rank_0(self, what: str, answer: Callable[[], Any]) -> Any:
        return answer() if self._ck is None else self._ck._of_rank_0(what, answer)

    def wait(self) -> None:
        """Until nothing is being written; raises what went wrong."""
        if self._ck is not None:
            self._ck.wait()
