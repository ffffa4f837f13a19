"""Tensors that torch spreads over ranks, in one process: DTensor by fully_shard, ShardedTensor. Of several ranks they are refused by name."""
import os
import subprocess
import sys
import unittest
import warnings

import ingot
from torch_case import TorchCase, torch

TWO_RANKS = """
import sys, torch, torch.distributed as dist, ingot
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
from torch.distributed.fsdp import fully_shard
model = torch.nn.Linear(4, 4)
fully_shard(model, mesh=torch.distributed.device_mesh.init_device_mesh("cpu", (2,)))
try:
    ingot.Checkpointer(sys.argv[3] + str(rank), signals=False, ranks=False).save(1, {"model": model})
    print("saved")
except ingot.StateError as e:
    print(e)
dist.barrier()
dist.destroy_process_group()
"""


@unittest.skipIf(torch is None or not torch.distributed.is_available(), "torch.distributed is not there")
class Sharded(TorchCase):
    def setUp(self):
        super().setUp()
        import torch.distributed.fsdp  # noqa: F401
        torch.distributed.init_process_group("gloo", init_method="file://" + os.path.join(self.tmp.name, "group"), rank=0, world_size=1)
        self.addCleanup(torch.distributed.destroy_process_group)
        self.mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))

    def model(self, seed=0):
        torch.manual_seed(seed)
        model = torch.nn.Sequential(torch.nn.Linear(6, 10), torch.nn.LayerNorm(10), torch.nn.ReLU(), torch.nn.Linear(10, 3))
        for layer in (model[0], model[3]):
            torch.distributed.fsdp.fully_shard(layer, mesh=self.mesh)
        torch.distributed.fsdp.fully_shard(model, mesh=self.mesh)
        return model

    def train(self, state, steps, seed=0):
        torch.manual_seed(100 + seed)
        losses = []
        for _ in range(steps):
            x = torch.randn(5, 6)
            loss = (state["model"](x).sum(1) - x.sum(1)).pow(2).mean()
            state["optimizer"].zero_grad()
            loss.backward()
            state["optimizer"].step()
            losses.append(loss.item())
        return losses

    def test_fully_shard_goes_on_exactly(self):
        a = {"model": self.model()}
        a["optimizer"] = torch.optim.AdamW(a["model"].parameters(), lr=1e-2)
        self.train(a, 4)
        b = {"model": self.model(9)}
        b["optimizer"] = torch.optim.AdamW(b["model"].parameters(), lr=1e-2)
        before = [p.to_local().data_ptr() for p in b["model"].parameters()]
        self.again(a, b)
        for (name, p), q in zip(a["model"].named_parameters(), b["model"].parameters()):
            self.assertEqual(type(q).__name__, "DTensor")
            self.assertTrue(torch.equal(p.to_local(), q.to_local()), name)
        self.assertEqual([p.to_local().data_ptr() for p in b["model"].parameters()], before)
        for p in b["model"].parameters():
            self.assertEqual(type(b["optimizer"].state[p]["exp_avg"]).__name__, "DTensor")
        self.assertEqual(self.train(a, 5, 1), self.train(b, 5, 1))
        # Into a module that is not sharded, and one that has trained.
        whole = torch.nn.Sequential(torch.nn.Linear(6, 10), torch.nn.LayerNorm(10), torch.nn.ReLU(), torch.nn.Linear(10, 3))
        state = {"model": whole, "optimizer": torch.optim.AdamW(whole.parameters(), lr=1e-2)}
        self.checkpointer().restore(state)
        self.checkpointer().restore(a)
        self.assertEqual(self.train(a, 3, 2), self.train(state, 3, 2))

    def test_types_and_shapes_that_differ_are_told(self):
        ck = self.checkpointer()
        ck.save(1, {"model": self.model()}).wait()
        with self.assertRaises(ingot.Mismatch) as e:
            ck.restore({"model": self.model().to(torch.bfloat16)})
        self.assertIn("BF16, in the checkpoint F32", str(e.exception))

    def test_a_dtensor_among_plain_values(self):
        from torch.distributed.tensor import Shard, distribute_tensor
        t = distribute_tensor(torch.arange(12.0).reshape(3, 4), self.mesh, [Shard(0)])
        live = distribute_tensor(torch.zeros(3, 4), self.mesh, [Shard(0)])
        state = {"x": {"t": live}, "y": None}
        self.again({"x": {"t": t}, "y": t + 1}, state)
        self.assertIs(state["x"]["t"], live)
        self.assertTrue(torch.equal(live.to_local(), t.to_local()))
        self.assertTrue(torch.equal(state["y"], t.to_local() + 1))

    def test_a_sharded_tensor(self):
        from torch.distributed._shard import sharded_tensor
        from torch.distributed._shard.metadata import ShardMetadata

        def make(local):
            rows = local.shape[0]
            shard = sharded_tensor.Shard(local, ShardMetadata(shard_offsets=[0, 0], shard_sizes=[rows, local.shape[1]], placement="rank:0/cpu"))
            return sharded_tensor.init_from_local_shards([shard], [rows, local.shape[1]])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            a, b = make(torch.arange(6.0).reshape(2, 3)), make(torch.zeros(2, 3))
            self.again({"x": {"t": a}}, {"x": {"t": b}})
        self.assertTrue(torch.equal(b.local_shards()[0].tensor, torch.arange(6.0).reshape(2, 3)))

    def test_one_of_two_ranks_cannot_save_it_alone(self):
        both = [subprocess.Popen([sys.executable, "-c", TWO_RANKS, str(rank), os.path.join(self.tmp.name, "two"), self.dir], stdout=subprocess.PIPE, text=True,
                                 env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))) for rank in (0, 1)]
        for p in both:
            out = p.communicate(timeout=120)[0]
            self.assertIn("model/weight: a DTensor of 2 ranks", out)
            self.assertIn("full_state_dict=True", out)


if __name__ == "__main__":
    unittest.main()
