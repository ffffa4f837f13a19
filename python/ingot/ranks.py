"""The ranks of a run: which of them this process is, and how they hear from each other. torch.distributed does the talking; nothing here is a collective, so that a rank that does not come is
known by name, and the threads that write can talk behind the training's back."""
from __future__ import annotations

import json
import os
import time
from datetime import timedelta
from typing import Any, Callable, Dict, List, Optional

from . import _ingot
from .nest import torch_if_loaded

_BLOCK = 256  # answers that are forgotten together
_made = 0  # meetings that this process has begun: the same number on all ranks, as all make the same checkpointers


def neighbours() -> int:
    """Ranks on this machine, as far as who started them says so (torchrun and what is built on it)."""
    told = os.environ.get("LOCAL_WORLD_SIZE", "")
    return int(told) if told.isdecimal() and 0 < int(told) <= 1 << 16 else 1


class Ranks:
    """A table of small texts that all ranks see. ``store``: torch.distributed's, or another one with set, get, wait, check and delete_key."""

    def __init__(self, store: Any, rank: int, world: int, patience: float = 600.0):
        self.rank, self.world, self.patience, self.neighbours = rank, world, patience, neighbours()
        self._store = store
        self._asked: Dict[str, int] = {}
        self._forgotten: Dict[str, int] = {}
        self._prefix = ""
        self._group: Any = None  # of torch.distributed, for tensors in memory of the host
        self.bytes_read = 0      # by the last restore

    def within(self, name: str) -> "Ranks":
        """The same ranks, with keys of their own."""
        those = Ranks(self._store, self.rank, self.world, self.patience)
        those._prefix = f"{self._prefix}{name}/"
        return those

    def give(self, tensor: Any, rank: int) -> None:
        """A tensor or an array of that rank to all the others, into theirs."""
        import torch
        import torch.distributed as distributed
        if self._group is None:
            # Its ranks look for each other, and torch gives them half an hour: one that has been killed meanwhile would hold up the others for that long.
            self._group = distributed.new_group(backend="gloo", timeout=timedelta(seconds=self.patience))
        t = tensor if isinstance(tensor, torch.Tensor) else torch.from_numpy(tensor)
        flat = t.detach().reshape(-1).view(torch.uint8) if t.is_contiguous() else None
        if flat is not None and flat.device.type == "cpu":
            distributed.broadcast(flat, src=rank, group=self._group)
            return
        copy = t.detach().cpu().contiguous()
        distributed.broadcast(copy.reshape(-1).view(torch.uint8), src=rank, group=self._group)
        t.detach().copy_(copy)

    # -- what the engine asks, from its own threads

    def _ask(self, call: Callable[[], Any]) -> Any:
        """The store's answer. Where there is none any more, who held it has ended: that is told, and not by whose socket was reset."""
        try:
            return call()
        except Exception as e:
            raise _ingot.Error(f"rank {self.rank} of {self.world} hears nothing more of the others: torch.distributed's store does not answer ({_first_line(e)}); whoever holds it (rank 0, or the process that "
                               "started the ranks) has ended. Start all ranks again: they go on from the newest checkpoint") from None

    def _there(self, keys: List[str]) -> bool:
        return bool(self._ask(lambda: self._store.check([self._prefix + k for k in keys])))

    def put(self, key: str, text: bytes) -> None:
        self._ask(lambda: self._store.set(self._prefix + key, text))

    def get(self, key: str, seconds: float) -> Optional[bytes]:
        """None where nobody has put it after that time. It is looked for now and then: each wait of a store that ends in vain is told of on stderr."""
        end, pause = time.monotonic() + seconds, 0.0005
        while not self._there([key]):
            left = end - time.monotonic()
            if left <= 0:
                return None
            time.sleep(min(pause, left))
            pause = min(2 * pause, 0.1)
        return self._ask(lambda: self._store.get(self._prefix + key))

    def _wait(self, key: str) -> Optional[bytes]:
        """The same for as long as patience lasts, and woken by the store."""
        def waited() -> Optional[bytes]:
            try:
                self._store.wait([self._prefix + key], timedelta(seconds=self.patience))
            except Exception as e:  # DistStoreError where there is such a class, else RuntimeError
                if "timeout" in str(e).lower() or "timed out" in str(e).lower():
                    return None
                raise
            return self._store.get(self._prefix + key)
        return self._ask(waited)

    def drop(self, key: str) -> None:
        try:
            self._store.delete_key(self._prefix + key)
        except Exception:
            pass  # a store that keeps everything

    # -- what all ranks ask at the same place of the program

    def _next(self, what: str) -> str:
        n = self._asked[what] = self._asked.get(what, 0) + 1
        return f"{what}/{n}"

    def told(self, what: str, value: Callable[[], Any]) -> Any:
        """What rank 0 says: JSON. Each rank calls it as often as the others."""
        key = self._next(what)
        if self.rank == 0:
            answer = value()
            self.put(key, json.dumps(answer).encode())
            self._forget(what)
            return answer
        text = self._wait(key)
        if text is None:
            raise _ingot.Error(f"rank {self.rank} of {self.world} asks what rank 0 says of '{what}', and rank 0 has not come there within {self.patience:.0f} s: all ranks call due, preempted, "
                               "save and restore at the same steps")
        if self._asked[what] % _BLOCK == 0:
            self.put(f"heard/{key}/{self.rank}", b"1")
        return json.loads(text)

    def found(self, what: str, call: Callable[[], Any]) -> Any:
        """What rank 0's call gives, JSON; what it raises, all raise."""
        error: List[Exception] = []

        def answer() -> Any:
            try:
                return {"is": call()}
            except Exception as e:
                error.append(e)
                return {"error": str(e), "damaged": isinstance(e, _ingot.BadInput)}
        told = self.told(what, answer)
        if "error" in told:
            self.leave()
        if error:
            raise error[0]
        if "error" in told:
            raise (_ingot.BadInput if told["damaged"] else _ingot.Error)(f"rank 0: {told['error']}")
        return told["is"]

    def _forget(self, what: str) -> None:
        """What all ranks have heard goes, a block at a time: a store keeps everything else for ever."""
        block = self._forgotten.get(what, 0) + _BLOCK
        heard = [f"heard/{what}/{block}/{r}" for r in range(1, self.world)]
        if self._asked[what] % _BLOCK == 1 and self._asked[what] > block and self._there(heard):
            self._forgotten[what] = block
            for key in heard + [f"{what}/{i}" for i in range(block - _BLOCK + 1, block + 1)]:
                self.drop(key)

    def say(self, what: str, value: Any) -> str:
        """In the place of ``all``, by a rank that does not listen to the others."""
        key = self._next(what)
        self.put(f"{key}/{self.rank}", json.dumps(value).encode())
        return key

    def all(self, what: str, value: Any) -> List[Any]:
        """What each rank says, by rank: JSON."""
        key = self.say(what, value)
        said, silent = [], []
        end = time.monotonic() + self.patience
        for r in range(self.world):
            text = self.get(f"{key}/{r}", max(0.01, end - time.monotonic()))
            if text is None:
                silent.append(r)
            else:
                said.append(json.loads(text))
        if silent:
            raise _ingot.Error(f"'{what}': rank {', '.join(map(str, silent))} of {self.world} has not come within {self.patience:.0f} s: it has ended, hangs, or does not call the checkpointer "
                               "where the others do")
        self.drop(f"{what}/{self._asked[what] - 1}/{self.rank}")  # who is here has heard that
        return said

    def leave(self, seconds: float = 30.0) -> None:
        """At the end, and where all are about to raise: rank 0, which may hold the store, stays until the others have heard what there was to hear, for so long at most."""
        key, end = self._next("leaves"), time.monotonic() + seconds
        try:
            if self.rank > 0:
                self.put(f"{key}/{self.rank}", b"1")
            else:
                for r in range(1, self.world):
                    self.get(f"{key}/{r}", max(0.0, end - time.monotonic()))
        except _ingot.Error:
            pass  # they have ended

    def flag(self, name: str) -> None:
        """Raised by any rank, seen by rank 0."""
        self.put(f"flag/{name}", b"1")

    def flagged(self, name: str) -> bool:
        return self._there([f"flag/{name}"])


class Part:
    """What each rank does for a save by itself, where it is a framework's code: ``with Part(ranks, "saving step 8") as part``. At each ``part.meet()``, and at its end, all wait for all; a rank that fails says so in
    the place of its next one, where the others raise it with that rank's name. ranks: None for one process, which meets nobody."""

    def __init__(self, ranks: Optional[Ranks], doing: str):
        self.ranks, self.rank = ranks, ranks.rank if ranks is not None else 0
        self._doing, self._told = doing, False

    def __enter__(self) -> "Part":
        return self

    def meet(self, value: Any = None) -> List[Any]:
        """What each rank says, by rank: JSON."""
        if self.ranks is None:
            return [value]
        self._told = True  # what is raised from here is raised by all
        try:
            said = self.ranks.all("part", {"is": value})
        except _ingot.Error as e:
            raise _ingot.Error(f"{self._doing}: {e}") from None
        wrong = [f"rank {r}: {s['error']}" for r, s in enumerate(said) if "error" in s]
        if wrong:
            self.ranks.leave()
            raise _ingot.Error(f"{self._doing}: {'; '.join(wrong)}; nothing is left of this save")
        self._told = False
        return [s["is"] for s in said]

    def __exit__(self, kind: Any, error: Optional[BaseException], trace: Any) -> None:
        if error is None:
            self.meet()
        elif self.ranks is not None and not self._told:
            try:
                self.ranks.say("part", {"error": f"{type(error).__name__}: {error}"})
            except _ingot.Error:
                return  # nobody hears it
            self.ranks.leave()


def _first_line(e: Exception) -> str:
    return next(iter(str(e).strip().splitlines()), "") or type(e).__name__


def rank_here() -> int:
    """This process's, whoever made the group; 0 where there is none."""
    import torch
    distributed = torch.distributed
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0


def ranks_of_this_run(patience: float) -> Optional[Ranks]:
    """Those of torch.distributed, where it is initialized with more than one."""
    global _made
    torch = torch_if_loaded()
    distributed = getattr(torch, "distributed", None) if torch is not None else None
    if distributed is None or not distributed.is_available() or not distributed.is_initialized() or distributed.get_world_size() < 2:
        world = _launched()
        if world > 1 and torch is not None:
            raise _ingot.Error(f"the environment says that this is one of {world} processes (RANK, WORLD_SIZE), and torch.distributed is not initialized: call torch.distributed.init_process_group "
                               "before the checkpointer is made; or give it ranks=False where this process saves for itself alone")
        return None
    from torch.distributed import distributed_c10d
    store = distributed_c10d._get_default_store()
    if hasattr(store, "clone"):
        try:
            store = store.clone()  # a connection of its own: a wait holds up nobody else's
        except Exception:
            pass
    _made += 1
    return Ranks(distributed.PrefixStore(f"ingot/{_made}", store), distributed.get_rank(), distributed.get_world_size(), patience)


def _launched() -> int:
    try:
        return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    except ValueError:
        return 1
