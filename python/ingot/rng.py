"""The states of the random number generators: Python's, NumPy's, torch's on the CPU and on every GPU."""
from __future__ import annotations

import random
from typing import Any, Dict

from .nest import numpy_if_loaded, torch_if_loaded


class Rng:
    """As an object of the state, ``{"rng": ingot.rng()}``. ``restore`` puts it back after everything else, so that whatever is drawn on the way counts for nothing. Of several ranks each has its own."""

    of_each_rank = True

    def state_dict(self) -> Dict[str, Any]:
        version, internal, gauss = random.getstate()
        out: Dict[str, Any] = {"python": {"version": version, "state": list(internal), "gauss": gauss}}
        numpy, torch = numpy_if_loaded(), torch_if_loaded()
        if numpy is not None:
            now = numpy.random.get_state(legacy=False)
            if now["bit_generator"] == "MT19937":
                out["numpy"] = {"name": "MT19937", **now["state"], "has_gauss": now["has_gauss"], "cached": now["gauss"]}
                out["numpy"]["keys"] = out["numpy"].pop("key")
            else:  # set_bit_generator
                out["numpy"] = {"generator": now}
        if torch is not None:
            out["torch"] = torch.get_rng_state()
            if torch.cuda.is_available() and torch.cuda.is_initialized():
                out["cuda"] = torch.cuda.get_rng_state_all()
        return out

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        if "python" in state:
            python = state["python"]
            random.setstate((python["version"], tuple(python["state"]), python["gauss"]))
        numpy, torch = numpy_if_loaded(), torch_if_loaded()
        if "numpy" in state and numpy is not None:
            n = state["numpy"]
            other = n.get("generator")
            kind = other["bit_generator"] if other else n["name"]
            if kind != numpy.random.get_state(legacy=False)["bit_generator"]:
                if kind not in ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"):
                    raise ValueError(f"NumPy's global numbers came from a {kind}; call numpy.random.set_bit_generator with one before the restore")
                numpy.random.set_bit_generator(getattr(numpy.random, kind)())
            numpy.random.set_state(other or (n["name"], n["keys"], n["pos"], n["has_gauss"], n["cached"]))
        if "torch" in state and torch is not None:
            torch.set_rng_state(state["torch"])
            if "cuda" in state and torch.cuda.is_available():
                for device, s in zip(range(torch.cuda.device_count()), state["cuda"]):
                    torch.cuda.set_rng_state(s, device)


def plain(x: Any) -> Any:
    """A state without NumPy's arrays, which torch.load takes with weights_only=False alone."""
    if type(x).__module__ == "numpy":
        return x.tolist()
    return {k: plain(v) for k, v in x.items()} if type(x) is dict else x


def rng() -> Rng:
    return Rng()
