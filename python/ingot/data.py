"""What a loop holds between two steps: a plain DataLoader that knows where it is (epoch, generator, position), and gradients that wait for their step."""
from __future__ import annotations

import warnings
from typing import Any, Dict, Iterator, List, Optional

from .nest import torch_if_loaded, unwrapped
from .rng import Rng, plain


class _Skipping:
    """A sampler without its first draws: they are made, so that the order is the same, and nothing is loaded for them."""

    def __init__(self, sampler: Any, skip: int):
        self.sampler, self.skip = sampler, skip
        self.draws: Optional[Iterator[Any]] = None

    def prime(self) -> None:
        """Draws what is skipped now; else it happens when the first batch is asked for."""
        if self.draws is None:
            self.draws = iter(self.sampler)
            for _ in range(self.skip):
                next(self.draws, None)

    def __iter__(self) -> "_Skipping":
        return self

    def __next__(self) -> Any:
        self.prime()
        return next(self.draws)

    def __len__(self) -> int:
        return max(0, len(self.sampler) - self.skip)


def _iterates_itself(loader: Any) -> bool:
    """Whether it does anything else with its batches than a DataLoader would: accelerate's do, which iterate over another one inside of them. Then no sampler can be put in from outside, and the
    first batches are loaded and dropped."""
    plain = torch_if_loaded().utils.data.DataLoader
    return not isinstance(loader, plain) or any(getattr(type(loader), name, None) is not getattr(plain, name, None) for name in ("__iter__", "_get_iterator", "_index_sampler", "__getattribute__"))


class Loader:
    """Iterates as the DataLoader does; as an object of the state, a restored one goes on with the batch after the last that was given out.

    Exact for map-style datasets with ``num_workers=0``, and with workers that draw nothing at random and end with their epoch (no persistent_workers). An epoch is one
    ``for``: one that is left early counts as begun, and the next ``for`` begins the next epoch. Of a subclass that iterates in its own way (accelerate's) the batches before are loaded
    again and dropped; of a plain DataLoader only their places are drawn.
    """

    of_each_rank = True

    def __init__(self, dataloader: Any):
        self.dataloader = dataloader
        self.epoch = 0
        self.position = 0  # batches given out in this epoch
        self._start: Optional[Dict[str, Any]] = None  # what is drawn from, as it was when this epoch began
        self._resume = False
        if getattr(dataloader, "persistent_workers", False):
            warnings.warn("ingot.loader: persistent_workers draw seeds of their own across epochs: a resumed epoch will not be the same", RuntimeWarning, stacklevel=3)

    def __len__(self) -> int:
        return len(self.dataloader)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "dataloader" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.__dict__["dataloader"], name)

    def _samplers(self) -> List[Any]:
        loader = self.dataloader
        batches = getattr(loader, "batch_sampler", None)
        found = [loader, getattr(loader, "sampler", None), batches, getattr(batches, "sampler", None)]
        return [x for i, x in enumerate(found) if x is not None and all(x is not y for y in found[:i])]

    def _capture(self) -> Dict[str, Any]:
        """The loader's and the samplers' own generators and epochs."""
        out: Dict[str, Any] = {}
        for i, x in enumerate(self._samplers()):
            generator = getattr(x, "generator", None)
            if hasattr(generator, "get_state"):
                out[f"generator{i}"] = generator.get_state()
            if callable(getattr(x, "set_epoch", None)) and isinstance(getattr(x, "epoch", None), int):
                out[f"epoch{i}"] = x.epoch
        return out

    def _put(self, state: Dict[str, Any]) -> None:
        for i, x in enumerate(self._samplers()):
            if f"generator{i}" in state and hasattr(getattr(x, "generator", None), "set_state"):
                x.generator.set_state(state[f"generator{i}"])
            if f"epoch{i}" in state and callable(getattr(x, "set_epoch", None)):
                x.set_epoch(state[f"epoch{i}"])

    def _rest(self, skip: int) -> Iterator[Any]:
        """The iterator of this epoch after its first batches, with the draws of the whole one."""
        torch = torch_if_loaded()
        loader = self.dataloader
        if _iterates_itself(loader) or isinstance(loader.dataset, torch.utils.data.IterableDataset):
            batches = iter(loader)
            for _ in range(skip):
                next(batches, None)
            return batches
        batched = loader.batch_sampler is not None
        skipping = _Skipping(loader.batch_sampler if batched else loader.sampler, skip)
        rest = torch.utils.data.DataLoader(
            loader.dataset, **({"batch_sampler": skipping} if batched else {"sampler": skipping, "batch_size": None}), num_workers=loader.num_workers,
            collate_fn=loader.collate_fn, pin_memory=loader.pin_memory, timeout=loader.timeout, worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context, generator=loader.generator, prefetch_factor=loader.prefetch_factor)
        batches = iter(rest)  # draws the workers' seed, which comes before the sampler's
        skipping.prime()
        return batches

    def __iter__(self) -> Iterator[Any]:
        if self._resume:
            # What was drawn when the epoch began is drawn again from the same states; what the process has drawn since stays as it was restored.
            self._resume = False
            now = Rng().state_dict()
            self._put(self._start["own"])
            Rng().load_state_dict(self._start["process"])
            batches = self._rest(self.position)
            Rng().load_state_dict(now)
        else:
            self._start, self.position = {"own": self._capture(), "process": plain(Rng().state_dict())}, 0
            batches = iter(self.dataloader)
        mine = self._start
        try:
            for batch in batches:
                self.position += 1
                yield batch
        finally:
            if self._start is mine:  # else another epoch has begun, or another state been restored, meanwhile
                self._start = None
                self.epoch += 1

    def state_dict(self) -> Dict[str, Any]:
        return {"epoch": self.epoch, "position": self.position, "start": self._start, "own": self._capture()}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        self.epoch, self.position, self._start = state["epoch"], state["position"], state["start"]
        self._resume = self._start is not None
        if not self._resume:
            self._put(state["own"])


def loader(dataloader: Any) -> Loader:
    return Loader(dataloader)


class Gradients:
    """The gradients of a module, for loops that accumulate over several steps and may be saved between them: ``{"gradients": ingot.gradients(model)}``."""

    def __init__(self, module: Any):
        self.module = unwrapped(module)

    def state_dict(self) -> Dict[str, Any]:
        return {name: p.grad for name, p in self.module.named_parameters() if p.grad is not None}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        for name, p in self.module.named_parameters():
            p.grad = state[name].to(p.device, p.dtype) if name in state else None


def gradients(module: Any) -> Gradients:
    return Gradients(module)
