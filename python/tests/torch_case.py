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


@unittest.skipIf(torch is None, "torch is not there")
class TorchCase(unittest.TestCase):
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

    def assertSame(self, a, b, where=""):
        if isinstance(a, torch.Tensor):
            self.assertEqual((a.dtype, a.shape), (b.dtype, b.shape), where)
            self.assertTrue(torch.equal(a.contiguous().view(torch.uint8) if a.numel() and a.dim() else a, b.contiguous().view(torch.uint8) if b.numel() and b.dim() else b), where)
        elif isinstance(a, dict):
            self.assertEqual(list(a), list(b), where)
            for k in a:
                self.assertSame(a[k], b[k], f"{where}/{k}")
        elif isinstance(a, (list, tuple)):
            self.assertEqual((type(a), len(a)), (type(b), len(b)), where)
            for i, (x, y) in enumerate(zip(a, b)):
                self.assertSame(x, y, f"{where}/{i}")
        else:
            self.assertEqual(a, b, where)
