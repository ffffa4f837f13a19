"""What the tests share."""
import os
import sys
import warnings


def flip(path, at=None):
    """One bit of the byte there, in the middle of the file where nothing is said; from its end where it is negative."""
    with open(path, "r+b") as f:
        f.seek(os.path.getsize(path) // 2 if at is None else at, os.SEEK_END if at is not None and at < 0 else os.SEEK_SET)
        b = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([b[0] ^ 1]))


class Comparing:
    def assertSame(self, a, b, where=""):
        torch = sys.modules["torch"]
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

    def told(self, call):
        """What it gives, and what it warns of."""
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            out = call()
        return out, "\n".join(str(w.message) for w in seen)
