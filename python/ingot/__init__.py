"""ingot: training checkpoints that do not stall the training, survive whatever happens to the machine, and resume exactly."""
from ._ingot import BadInput, Error, Interrupted
from .arguments import expand
from .checkpointer import Cadence, Checkpointer, Handle, Keep, latest, run_id
from .data import Gradients, Loader, gradients, loader
from .files import File, load, open, save
from .match import Mismatch
from .nest import StateError
from .rng import Rng, rng

__version__ = "0.1.0"
__all__ = ["BadInput", "Cadence", "Checkpointer", "Error", "File", "Gradients", "Handle", "Interrupted", "Keep", "Loader", "Mismatch", "Rng", "StateError", "expand", "gradients", "latest", "load", "loader", "open", "rng", "run_id", "save"]
