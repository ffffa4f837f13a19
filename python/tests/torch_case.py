"""What the tests with torch share."""
import os
import tempfile
import unittest
import warnings

try:
    import torch
except ImportError:
    torch = None

import ingot
from shared import Comparing


@unittest.skipIf(torch is None, "torch is not there")
class TorchCase(Comparing, unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.TemporaryDirectory()
        self.addCleanup(self.tmp.cleanup)
        self.dir = os.path.join(self.tmp.name, "ck")
        torch.manual_seed(3)

    def checkpointer(self, **options):
        ck = ingot.Checkpointer(self.dir, signals=False, **options)
        self.addCleanup(ck.close)
        return ck

    def again(self, state, into, **options):
        """Saved by one checkpointer, restored by another."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with ingot.Checkpointer(self.dir, signals=False) as ck:
                self.step_ = getattr(self, "step_", 0) + 1
                ck.save(self.step_, state)
        return self.checkpointer().restore(into, **options)
