"""What a loop holds between two steps: a plain DataLoader that knows where it is (epoch, generator, position), and gradients that wait for their step."""
from __future__ import annotations

from typing import Any, Dict, Iterator, Optional

from .nest import torch_if_loaded, unwrapped


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


class Loader:
    """Iterates as the DataLoader does; as an object of the state, a restored one goes on with the batch after the last that was given out.

    Exact with ``num_workers=0``, and with workers that draw nothing at random. An epoch is one ``for``: one that is left early counts as
    begun, and the next ``for`` begins the next epoch.
    """

    def __init__(self, dataloader: Any):
        self.dataloader = dataloader
        self.epoch = 0
        self.position = 0  # batches given out in this epoch
        self._start: Optional[Dict[str, Any]] = None  # generators as they were when this epoch began
        self._resume = False

    def __len__(self) -> int:
        return len(self.dataloader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["dataloader"], name)

    def _generators(self) -> Dict[str, Any]:
        loader = self.dataloader
        found = {"loader": getattr(loader, "generator", None), "sampler": getattr(getattr(loader, "sampler", None), "generator", None)}
        return {name: g for name, g in found.items() if g is not None}

    def _capture(self) -> Dict[str, Any]:
        torch = torch_if_loaded()
        state = {name: g.get_state() for name, g in self._generators().items()}
        state["torch"] = torch.get_rng_state()
        return state

    def _put(self, state: Dict[str, Any]) -> None:
        torch = torch_if_loaded()
        for name, g in self._generators().items():
            if name in state:
                g.set_state(state[name])
        torch.set_rng_state(state["torch"])

    def _rest(self, skip: int) -> Iterator[Any]:
        """The iterator of this epoch after its first batches, with the draws of the whole one."""
        torch = torch_if_loaded()
        loader = self.dataloader
        if isinstance(loader.dataset, torch.utils.data.IterableDataset):
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
        torch = torch_if_loaded()
        if self._resume:
            # What was drawn when the epoch began is drawn again from the same state; what torch has drawn since stays as it was restored.
            self._resume = False
            now = torch.get_rng_state()
            sampler = getattr(self.dataloader, "sampler", None)
            if callable(getattr(sampler, "set_epoch", None)):
                sampler.set_epoch(self.epoch)
            self._put(self._start)
            batches = self._rest(self.position)
            torch.set_rng_state(now)
        else:
            self._start, self.position = self._capture(), 0
            batches = iter(self.dataloader)
        try:
            for batch in batches:
                self.position += 1
                yield batch
        finally:
            self._start = None
            self.epoch += 1

    def state_dict(self) -> Dict[str, Any]:
        return {"epoch": self.epoch, "position": self.position, "start": self._start}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        self.epoch, self.position, self._start = state["epoch"], state["position"], state["start"]
        self._resume = self._start is not None


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
