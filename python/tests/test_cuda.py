"""On a GPU: what a save copies, when, and into what memory. Skipped where there is none."""
import os
import tempfile
import unittest

try:
    import torch
except ImportError:
    torch = None

import ingot
from ingot import devices


@unittest.skipIf(torch is None or not torch.cuda.is_available(), "there is no GPU")
class Cuda(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.TemporaryDirectory()
        self.addCleanup(self.tmp.cleanup)
        torch.manual_seed(3)

    def checkpointer(self, **options):
        ck = ingot.Checkpointer(os.path.join(self.tmp.name, "ck"), signals=False, **options)
        self.addCleanup(ck.close)
        return ck

    def test_every_type_and_layout(self):
        base = torch.arange(24.0, device="cuda")
        state = {"a": {"x": torch.randn(5, 7, device="cuda"), "t": torch.randn(6, 4, device="cuda").t(), "b": torch.rand(9, device="cuda") > 0.5, "host": torch.randn(3),
                       "bf": torch.randn(11, device="cuda").bfloat16(), "f8": torch.randn(13, device="cuda").to(torch.float8_e4m3fn), "i": torch.arange(3, device="cuda")},
                 "b": [torch.randn(4, dtype=torch.complex64, device="cuda").conj(), base, base, base[::2], torch.zeros(0, 3, device="cuda"), torch.tensor(2.5, device="cuda")]}
        ck = self.checkpointer()
        ck.save(1, state).wait()
        into = {"a": {}, "b": []}
        self.assertEqual(self.checkpointer().restore(into), 1)
        for k, v in state["a"].items():
            self.assertTrue(torch.equal(into["a"][k].cpu().float(), v.cpu().float()), k)
        for i, v in enumerate(state["b"]):
            self.assertTrue(torch.equal(into["b"][i].cpu(), v.cpu().resolve_conj()), i)

    def test_training_goes_on_exactly(self):
        def run(steps, save_at=None, from_checkpoint=False):
            torch.manual_seed(7)
            model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Dropout(0.3), torch.nn.Linear(256, 8)).cuda()
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
            scaler = torch.amp.GradScaler("cuda")
            state = {"model": model, "optimizer": optimizer, "scaler": scaler, "rng": ingot.rng()}
            ck = self.checkpointer()
            first = ck.restore(state) if from_checkpoint else 0
            for step in range(first + 1, steps + 1):
                x = torch.randn(32, 64, device="cuda")
                with torch.autocast("cuda", dtype=torch.float16):
                    loss = model(x).square().mean()
                optimizer.zero_grad()
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
                if step == save_at:
                    ck.save(step, state)
            ck.close()
            return [p.detach().cpu() for p in model.parameters()]
        through = run(30, save_at=12)
        for a, b in zip(through, run(30, from_checkpoint=True)):
            self.assertTrue(torch.equal(a, b))

    def test_what_is_launched_is_in_the_copy_and_what_comes_later_is_not(self):
        ck = self.checkpointer()
        stream = torch.cuda.Stream()
        x = torch.zeros(1 << 24, device="cuda")
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(200_000_000)
            x.add_(1)
            handle = ck.save(1, {"x": x})
            x.add_(41)
        handle.wait()
        into = {"x": torch.zeros(1 << 24)}
        self.checkpointer().restore(into)
        self.assertTrue(bool((into["x"] == 1).all()))

    def test_memory_is_locked_once_and_let_go(self):
        calls = []
        lock, unlock = devices.lock, devices.unlock
        devices.lock = lambda block, size: calls.append(("lock", lock(block, size))) or calls[-1][1]
        devices.unlock = lambda block: calls.append(("unlock", unlock(block))) or calls[-1][1]
        try:
            ck = self.checkpointer()
            small, large = torch.randn(1 << 20, device="cuda"), torch.randn(1 << 22, device="cuda")
            for step, x in enumerate((small, small, large, small), 1):
                ck.save(step, {"x": x}).wait()
                ck.wait()
            ck.close()
            del ck
        finally:
            devices.lock, devices.unlock = lock, unlock
        self.assertEqual(calls, [("lock", True), ("unlock", True), ("lock", True), ("unlock", True)])


if __name__ == "__main__":
    unittest.main()
