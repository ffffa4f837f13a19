"""torch's DCP through ingot: what one number of ranks saves another loads, bit by bit; what is read; what one finds there afterwards; what goes wrong. gloo on the CPU."""
import json
import multiprocessing
import os
import pathlib
import shutil
import socket
import tempfile
import time
import unittest
import warnings
from types import SimpleNamespace

import ingot
from ingot import flat, nest, plans
from shared import flip
from torch_case import TorchCase, torch

HERE = os.path.dirname(os.path.abspath(__file__))


def run_rank(*arguments):
    import dcp_script  # it needs torch
    dcp_script.run(*arguments)


class Tree(unittest.TestCase):
    """The nest of what torch has made flat."""

    def test_dicts_lists_and_an_optimizer_that_numbers_its_parameters(self):
        leaves = {("model", "a.b"): 1, ("optimizer", "state", "0", "step"): 2, ("optimizer", "state", "1", "step"): 3, ("optimizer", "param_groups", 0, "params"): [0, 1], ("l", 1): 5, ("l", 0): 4}
        self.assertEqual(flat.tree_of(leaves), {"model": {"a.b": 1}, "optimizer": {"state": {"$dict": [[0, {"step": 2}], [1, {"step": 3}]]}, "param_groups": [{"params": [0, 1]}]}, "l": [4, 5]})
        named = {("optimizer", "state", "0", "step"): 2, ("optimizer", "param_groups", 0, "params"): ["0"]}
        self.assertEqual(flat.tree_of(named)["optimizer"]["state"], {"0": {"step": 2}})
        self.assertEqual(flat.tree_of({("o", "param_groups", 0, "lr"): 1})["o"], {"state": {}, "param_groups": [{"lr": 1}]})
        self.assertEqual(flat.tree_of({("x", "$y"): 1}), {"x": {"$dict": [["$y", 1]]}})
        with self.assertRaises(nest.StateError):
            flat.tree_of({("a",): 1, ("a", "b"): 2})


def item(fqn, size, chunk=None, offset=None):
    chunk = chunk or size
    return SimpleNamespace(index=SimpleNamespace(fqn=fqn, offset=offset or (0,) * len(size)),
                           tensor_data=SimpleNamespace(size=size, chunk=SimpleNamespace(sizes=chunk, offsets=offset or (0,) * len(size)), properties=SimpleNamespace(dtype=SimpleNamespace(itemsize=4))))


class Balance(unittest.TestCase):
    def loads(self, assigned):
        return [sum(plans.bytes_of(i, a.cuts.get(plans.key_of(i))) for i in a.items) for a in assigned]

    def rows_of(self, assigned, fqn):
        return sorted((c.first, c.rows) for a in assigned for i in a.items if i.index.fqn == fqn for c in [a.cuts.get(plans.key_of(i), plans.Cut(0, i.tensor_data.size[0]))])

    def test_one_rank_that_writes_everything(self):
        all_ = [item("emb", (3001, 1024))] + [item(f"w{i}", (256, 1024)) for i in range(6)]
        out = plans.balanced([all_, [], [], []], [all_] * 4)
        self.assertLess(max(self.loads(out)), 1.1 * sum(self.loads(out)) / 4)
        self.assertEqual(sum(self.loads(out)), sum(map(plans.bytes_of, all_)))
        for i in all_:
            at = 0
            for first, rows in self.rows_of(out, i.index.fqn):
                self.assertEqual(first, at)
                at += rows
            self.assertEqual(at, i.tensor_data.size[0])

    def test_what_one_rank_alone_has_stays_there(self):
        mine, shared = item("stage", (4096, 1024), (1024, 1024), (1024, 0)), item("all", (2048, 1024))
        out = plans.balanced([[mine, shared], []], [[mine, shared], [shared]])
        self.assertIn(mine, out[0].items)
        self.assertNotIn(mine, out[1].items)
        self.assertAlmostEqual(*self.loads(out), delta=1 << 20)

    def test_an_even_plan_is_left_alone(self):
        a, b = [item("a", (1024, 1024))], [item("b", (1024, 1024))]
        out = plans.balanced([a, b], [a + b, a + b])
        self.assertEqual([x.items for x in out], [a, b])

    def test_names_of_files(self):
        a = [plans.Assigned([item("model.a", (8, 8)), item("optimizer.a", (8, 8), (4, 8))], {}), plans.Assigned([item("model.b", (8, 8)), item("model.c", (8, 8))], {}), plans.Assigned([], {})]
        group = lambda fqn: fqn.split(".")[0]  # noqa: E731
        self.assertEqual(plans.stems(a, group, 300, False),
                         [{"model": ["model-00001-of-00003"], "optimizer": ["optimizer-rank-00000"]}, {"model": ["model-00002-of-00003", "model-00003-of-00003"]}, {}])
        self.assertEqual(plans.stems(a[:1], group, 300, False)[0]["model"], ["model"])
        self.assertEqual(plans.stems(a, group, 300, True)[1], {"model": ["model-rank-00001"]})


@unittest.skipIf(torch is None or not torch.distributed.is_available(), "torch.distributed is not there")
class OneProcess(TorchCase):
    def setUp(self):
        super().setUp()
        global dcp
        import torch.distributed.checkpoint as dcp
        import ingot.dcp
        warnings.simplefilter("ignore")

    def state(self, seed=0):
        torch.manual_seed(seed)
        model = torch.nn.Sequential(torch.nn.Linear(6, 10), torch.nn.LayerNorm(10), torch.nn.Linear(10, 3))
        opt = torch.optim.AdamW(model.parameters(), lr=0.1 + seed)
        model(torch.randn(4, 6)).sum().backward()
        opt.step()
        return {"model": model, "optimizer": opt, "step": seed, "arrays": (torch.arange(5) + seed, [seed]), "text": f"t{seed}"}

    def same(self, a, b):
        for k in ("model", "optimizer"):
            self.assertSame(dict(a[k].state_dict()), dict(b[k].state_dict()), k)
        for k in ("step", "arrays", "text"):
            self.assertSame(a[k], b[k], k)

    def save(self, state, step, directory=None, **options):
        dcp.save(state, storage_writer=ingot.dcp.StorageWriter(directory or self.dir, step, **options))

    def load(self, state, path=None, **options):
        reader = ingot.dcp.StorageReader(path or self.dir, **options)
        dcp.load(state, storage_reader=reader)
        return reader

    def failing(self, call, *texts):
        with self.assertRaises(BaseException) as e:
            call()
        for text in texts:
            self.assertIn(text, str(e.exception))
        return str(e.exception)

    def test_each_loads_what_the_other_saved(self):
        a, b, c = self.state(), self.state(7), self.state(8)
        self.save(a, 1, metrics={"loss": 1.5})
        reader = self.load(b)
        self.same(a, b)
        self.assertEqual((reader.step, reader.metrics), (1, {"loss": 1.5}))
        ck = self.checkpointer()
        self.assertEqual(ck.restore(c), 1)
        self.same(a, c)
        later = self.state(9)
        ck.save(2, later).wait()
        self.assertEqual(self.load(b).step, 2)
        self.same(later, b)
        files = [open(os.path.join(self.dir, "checkpoint-1", n), "rb").read() for n in os.listdir(os.path.join(self.dir, "checkpoint-1"))]
        self.assertFalse(any(b"\x80\x02" == f[:2] or f[:2] == b"PK" for f in files))

    def test_a_bare_state_dict_and_a_planner_that_leaves_it_flat(self):
        model = self.state()["model"]
        for k, planners in enumerate(((None, None), (dcp.DefaultSavePlanner(flatten_state_dict=False), dcp.DefaultLoadPlanner(flatten_state_dict=False)))):
            dcp.save(model.state_dict(), storage_writer=ingot.dcp.StorageWriter(self.dir, k), planner=planners[0])
            self.assertIn("model.safetensors", os.listdir(os.path.join(self.dir, f"checkpoint-{k}")))
            got = {name: torch.zeros_like(t) for name, t in model.state_dict().items()}
            dcp.load(got, storage_reader=ingot.dcp.StorageReader(self.dir, k), planner=planners[1])
            self.assertSame(got, dict(model.state_dict()))
        self.failing(lambda: dcp.save({"a": {"b": 1}}, storage_writer=ingot.dcp.StorageWriter(self.dir, 5), planner=dcp.DefaultSavePlanner(flatten_state_dict=False)), "a: a dict", "flatten_state_dict=False")

    def test_retention_with_a_checkpointer_and_without(self):
        for s in range(1, 6):
            self.save(self.state(s), s, keep=ingot.Keep(last=2))
        self.assertEqual(sorted(n for n in os.listdir(self.dir) if n.startswith("check")), ["checkpoint-4", "checkpoint-5"])
        other = self.dir + "2"
        with ingot.Checkpointer(other, keep=ingot.Keep(best=1, metric="loss"), signals=False) as ck:
            for s, loss in ((1, 3.0), (2, 1.0), (3, 2.0)):
                dcp.save(self.state(s), storage_writer=ingot.dcp.StorageWriter(ck, s, metrics={"loss": loss}))
            ck.save(4, self.state(4), {"loss": 9.0}).wait()
            self.assertEqual((ck.stats["saves"], ck.stats["newest"]), (4, 4))
            ck.wait()
            self.assertEqual(sorted(n for n in os.listdir(other) if n.startswith("check")), ["checkpoint-2", "checkpoint-4"])
            self.failing(lambda: ingot.dcp.StorageWriter(ck, 5, keep=ingot.Keep()), "keep is the checkpointer's")
            dcp.load(self.state(), storage_reader=ingot.dcp.StorageReader(ck))
            self.assertEqual(ck.resumed_from, os.path.join(other, "checkpoint-4"))

    def test_checkpoint_id(self):
        writer = ingot.dcp.StorageWriter(self.dir)
        self.failing(lambda: dcp.save(self.state(), storage_writer=writer), "which step is it?")
        dcp.save(self.state(), storage_writer=writer, checkpoint_id="3")
        dcp.save(self.state(), storage_writer=writer, checkpoint_id=os.path.join(self.dir, "checkpoint-4"))
        self.assertEqual(ingot.latest(self.dir), os.path.join(self.dir, "checkpoint-4"))
        self.failing(lambda: dcp.save(self.state(), storage_writer=writer, checkpoint_id="/elsewhere/checkpoint-4"), "saves into")
        self.failing(lambda: dcp.save(self.state(), storage_writer=writer, checkpoint_id=os.path.join(self.dir, "step-4")), "checkpoint-<step>")

    def test_a_step_twice(self):
        self.save(self.state(), 1)
        self.failing(lambda: self.save(self.state(1), 1), "saving step 1", "saved that step already")
        self.load(self.state())  # a run that goes back saves it anew, and it is newer then
        self.save(self.state(2), 1)
        got = self.state(5)
        self.load(got)
        self.assertEqual(got["step"], 2)

    def test_what_cannot_be_kept_is_named(self):
        self.save(self.state(), 1)
        self.failing(lambda: self.save({"x": {"o": object()}}, 2), "x/o: a builtins.object cannot be kept")
        self.failing(lambda: self.save({"x": {"t": torch.zeros(2).to_sparse()}}, 2), "x.t: a torch.sparse_coo tensor")
        self.assertEqual(ingot.latest(self.dir), os.path.join(self.dir, "checkpoint-1"))
        self.save(self.state(), 3)
        self.assertEqual([n for n in os.listdir(self.dir) if n.startswith(".")], [])

    def test_keys_that_are_missing_and_shapes_that_differ(self):
        self.save({"a": torch.zeros(3), "b": {"c": 1}}, 1)
        self.failing(lambda: self.load({"z": torch.zeros(3)}), "Missing key in checkpoint state_dict: z")
        self.failing(lambda: self.load({"a": torch.zeros(4)}), "Size mismatch", "for a")

    def test_torn_and_damaged_files_are_named(self):
        big = {"model": {"w": torch.randn(300, 1000)}}
        self.save(big, 1)
        self.save({"model": {"w": big["model"]["w"] + 1}}, 2)
        file = os.path.join(self.dir, "checkpoint-2", "model.safetensors")
        flip(file)
        got = {"model": {"w": torch.zeros(300, 1000)}}
        self.load(got, verify=False)
        self.failing(lambda: self.load(got), file, "its hash is")
        self.assertEqual(self.load(got).step, 1)  # put aside
        self.assertSame(got["model"]["w"], big["model"]["w"])
        os.truncate(os.path.join(self.dir, "checkpoint-1", "model.safetensors"), 5000)
        self.failing(lambda: self.load(got, os.path.join(self.dir, "checkpoint-1")), "model.safetensors has 5000 bytes")
        self.failing(lambda: self.load(got), "none of its checkpoints can be taken")

    def test_verify_reads_what_nobody_asked_for(self):
        self.save({"model": {"w": torch.randn(300, 1000), "v": torch.randn(300, 1000)}}, 1)
        path = os.path.join(self.dir, "checkpoint-1")
        flip(os.path.join(path, "model.safetensors"), -100)
        state = {"model": {"v": torch.zeros(300, 1000)}}
        reader = self.load(state, path)
        self.assertLess(reader.bytes_read, 1.01 * 1_200_000)
        self.failing(lambda: self.load(state, path, verify=True), "model.safetensors", "its hash is")

    def test_a_manifest_of_another_run(self):
        other = self.dir + "2"
        self.save(self.state(1), 1)
        self.save(self.state(2), 1, other)
        shutil.copy(os.path.join(other, "checkpoint-1", "manifest.json"), os.path.join(self.dir, "checkpoint-1"))
        self.failing(lambda: self.load(self.state(3)), os.path.join(self.dir, "checkpoint-1"), "manifest")

    def test_columns_are_read_without_what_lies_between_or_hardly(self):
        from ingot.ranges import Ranges
        w, c = torch.randn(64, 3000), torch.randn(5, 40, 6, 7)
        self.save({"model": {"w": w, "c": c}}, 1)
        found = ingot._ingot.look_at(os.path.join(self.dir, "checkpoint-1"))
        stored = ingot.reading.Stored(found)
        for name, whole, offset, shape, most in (("w", w, (3, 1000), (50, 1500), 1.0), ("w", w, (0, 10), (64, 20), 200), ("w", w, (7, 0), (20, 3000), 1.0), ("c", c, (1, 3, 2, 1), (3, 30, 2, 4), 9), ("c", c, (0, 0, 0, 3), (5, 40, 6, 1), 9)):
            for target in (torch.zeros(shape), torch.zeros(shape, dtype=torch.float64), torch.zeros(shape[::-1]).permute(*reversed(range(len(shape))))):
                r = Ranges(found)
                r.box("F32", stored.pieces["model", name][0], offset, target)
                r.read(1)
                self.assertTrue(torch.equal(target.float(), whole[tuple(slice(o, o + n) for o, n in zip(offset, shape))]), (name, offset, shape))
                self.assertLessEqual(r.bytes_read, most * r.wanted, (name, shape))

    def test_directories_that_are_none_of_ingot(self):
        plain = self.dir + "-plain"
        dcp.save({"w": torch.zeros(3)}, checkpoint_id=plain)
        self.failing(lambda: self.load({"w": torch.zeros(3)}, plain), ".metadata", "FileSystemReader")
        self.failing(lambda: self.load({}, self.dir + "-none"), "no such directory")
        os.mkdir(self.dir)
        self.failing(lambda: self.load({"w": torch.zeros(3)}), "no checkpoint of ingot")
        os.mkdir(os.path.join(self.dir, "checkpoint-1"))
        with open(os.path.join(self.dir, "checkpoint-1", "optimizer.pt"), "wb") as f:
            f.write(b"other software's")
        self.failing(lambda: self.save(self.state(), 1), "other software made it")
        self.failing(lambda: ingot.dcp.StorageWriter(plain + "/checkpoint-1/..", -1), "step is -1")

    def test_types(self):
        kinds = [torch.bfloat16, torch.float16, torch.float64, torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn]
        state = {"t": {str(k): torch.ones(3, 2).to(k) for k in kinds}, "none": {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 4)}}
        self.save(state, 1)
        got = {"t": {k: torch.zeros_like(v) for k, v in state["t"].items()}, "none": {"scalar": torch.tensor(0.0), "empty": torch.zeros(0, 4)}}
        self.load(got)
        self.assertSame(got, state)
        conjugate = {"c": torch.tensor([1 + 2j]).conj()}
        self.save(conjugate, 2)
        got = {"c": torch.tensor([0j])}
        self.load(got)
        self.assertEqual(got["c"][0], 1 - 2j)

    def test_compressed(self):
        state = {"model": {"w": torch.randn(100, 100)}, "optimizer": {"m": torch.zeros(400, 1000)}}
        self.save(state, 1, compress="zstd")
        self.assertIn("optimizer.safetensors.frames", os.listdir(os.path.join(self.dir, "checkpoint-1")))
        got = {"model": {"w": torch.zeros(100, 100)}, "optimizer": {"m": torch.ones(400, 1000)}}
        self.load(got)
        self.assertSame(got, state)


@unittest.skipIf(torch is None or not torch.distributed.is_available(), "torch.distributed is not there")
class Ranks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.context = multiprocessing.get_context("forkserver")
        os.environ["PYTHONPATH"] = os.pathsep.join([HERE, *filter(None, [os.environ.get("PYTHONPATH")])])  # the server of forks takes no other path
        cls.context.set_forkserver_preload(["dcp_script"])

    def setUp(self):
        self.tmp = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.tmp, True)
        self.dir = os.path.join(self.tmp, "run")

    def run_ranks(self, world, kind, *arguments, check=True, timeout=900):
        """Exit codes, and what each has written to stdout and stderr."""
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        procs = []
        for r in range(world):
            env = dict(RANK=str(r), WORLD_SIZE=str(world), LOCAL_RANK=str(r), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), OMP_NUM_THREADS="1")
            procs.append(self.context.Process(target=run_rank, args=(env, [kind, self.dir, *map(str, arguments)], os.path.join(self.tmp, f"log{r}"))))
            procs[-1].start()
        end = time.monotonic() + timeout
        for p in procs:
            p.join(max(0, end - time.monotonic()))
        hanging = [r for r, p in enumerate(procs) if p.exitcode is None]
        for r in hanging:
            procs[r].kill()
            procs[r].join()
        outs = [tuple(pathlib.Path(self.tmp, f"log{r}.{name}").read_text(errors="replace") for name in ("out", "err")) for r in range(world)]
        codes = [p.exitcode for p in procs]
        self.assertEqual(hanging, [], outs)
        if check:
            self.assertEqual(codes, [0] * world, "\n".join(f"rank {r}: {out}\n{err[-6000:]}" for r, (out, err) in enumerate(outs)))
        return codes, outs

    def said(self, outs, word):
        """{step: digest} of the lines of rank 0; all ranks say the same."""
        each = [[tuple(line.split()[1:]) for line in out.splitlines() if line.startswith(word + " ")] for out, _ in outs]
        self.assertTrue(all(e == each[0] for e in each), each)
        return dict(each[0])

    def reads(self, outs):
        return [tuple(map(int, line.split()[1::2])) for out, _ in outs for line in out.splitlines() if line.startswith("read ")]

    def files(self, step):
        return sorted(os.listdir(os.path.join(self.dir, f"checkpoint-{step}")))

    def ingot_sees(self, steps):
        """What the engine, by which the program works, finds there."""
        there = ingot._ingot.scan(self.dir)
        self.assertEqual([(f.step, f.state) for f in there], [(s, "whole") for s in steps])
        for f in there:
            f.verify(1)
        self.assertEqual([n for n in os.listdir(self.dir) if n.startswith(".")], [])
        return there

    def test_fsdp2_by_four_and_loaded_by_one_two_and_eight(self):
        _, outs = self.run_ranks(4, "fsdp2", "train:3", "save:1", "train:1", "thread:2", "train:1", "save:3", "load:3", "--width", 3001)
        saved = self.said(outs, "state")
        self.assertEqual(sorted(saved), ["1", "2", "3"])
        self.assertEqual(self.said(outs, "loaded"), {"3": saved["3"]})
        self.assertEqual({f.world for f in self.ingot_sees([3, 2, 1])}, {4})
        self.assertEqual(self.files(3), ["manifest.json", *(f"{g}-rank-{r:05}.safetensors" for g in ("model", "optimizer") for r in range(4)), "state.json"])
        model = ingot.open(os.path.join(self.dir, "checkpoint-3"))
        self.assertEqual(model.shape("inner.weight"), (3001, 12))
        for world in (1, 2, 8):
            _, outs = self.run_ranks(world, "fsdp2", "load:3", "load:1", "load:2", "--width", 3001)
            self.assertEqual(self.said(outs, "loaded"), saved, world)
            for read, needed in self.reads(outs):
                self.assertLessEqual(read, 1.1 * needed, world)
        # Every hash is compared: of the files that the ranks read as whole, that costs no byte more.
        _, outs = self.run_ranks(2, "fsdp2", "verify:3", "--width", 3001)
        reads = self.reads(outs)
        self.assertLessEqual(sum(r for r, _ in reads), 1.1 * sum(n for _, n in reads))
        flip(os.path.join(self.dir, "checkpoint-3", "optimizer-rank-00002.safetensors"), -100)
        codes, outs = self.run_ranks(3, "fsdp2", "verify:3", "--width", 3001, check=False)
        self.assertTrue(any("optimizer-rank-00002.safetensors" in err for _, err in outs), outs)

    def test_a_process_of_its_own_saves(self):
        _, outs = self.run_ranks(2, "fsdp2", "train:1", "save:1", "load:1", "train:1", "process:2", "train:1", "save:3", "process:4", "save:5", "load:5")
        saved = self.said(outs, "state")
        self.assertEqual(self.said(outs, "loaded"), {"1": saved["1"], "5": saved["5"]})
        there = self.ingot_sees([5, 4, 3, 1])
        self.assertEqual(len({f.run for f in there}), 1)
        self.assertEqual(self.epochs(there), [2, 2, 2, 1])  # both processes save under one lease, that of what they went on from
        shutil.rmtree(self.dir)
        _, outs = self.run_ranks(2, "ddp", "save:1", "process:2", "save:3", "process:4", "--by-checkpointer")
        there = self.ingot_sees([4, 3])
        self.assertEqual(len({f.run for f in there}), 1)

    def epochs(self, there):
        return [json.loads(pathlib.Path(f.path, "manifest.json").read_text())["epoch"] for f in there]

    def test_tensor_parallel(self):
        _, outs = self.run_ranks(4, "tp", "train:2", "save:1", "train:1", "thread:2", "load:2", "--caching", "--width", 3001)
        saved = self.said(outs, "state")
        self.ingot_sees([2, 1])
        for world in (1, 2, 8):
            _, outs = self.run_ranks(world, "tp", "load:1", "load:2", "--width", 3001)
            self.assertEqual(self.said(outs, "loaded"), saved, world)
            for read, needed in self.reads(outs):
                self.assertLessEqual(read, 1.1 * needed, world)

    def test_replicas_are_divided_and_read_by_transformers_names(self):
        _, outs = self.run_ranks(4, "ddp", "train:1", "save:1", "load:1", "--lowest", "--width", 60_000)
        self.assertEqual(self.said(outs, "loaded"), self.said(outs, "state"))
        sizes = [int(line.split()[1]) for out, _ in outs for line in out.splitlines() if line.startswith("wrote ")]
        self.assertEqual(len(sizes), 4)
        self.assertGreater(sum(n.startswith("table-rank") for n in self.files(1)), 1)  # one tensor, in pieces
        self.assertLess(max(sizes), 1.15 * sum(sizes) / 4, self.files(1))
        _, outs = self.run_ranks(4, "ddp", "train:1", "save:2", "--width", 64)
        files = self.files(2)
        index = json.loads(pathlib.Path(self.dir, "checkpoint-2", "model.safetensors.index.json").read_text())
        self.assertEqual(sorted(set(index["weight_map"].values())), [n for n in files if n.startswith("model-")])
        self.assertEqual(len(index["weight_map"]), 6)
        self.ingot_sees([2, 1])

    def test_pipeline(self):
        self.run_ranks(4, "pp", "save:1", "load")
        self.ingot_sees([1])
        for world in (1, 2, 8):
            self.run_ranks(world, "pp", "load")

    def test_one_directory_by_both_ways(self):
        _, outs = self.run_ranks(2, "fsdp2", "train:1", "save:1", "train:1", "ck-save:2", "load:2", "ck-restore:2", "--by-checkpointer")
        saved, loaded = self.said(outs, "state"), self.said(outs, "loaded")
        self.assertEqual(loaded, {"2": saved["2"]})
        self.ingot_sees([2, 1])
        _, outs = self.run_ranks(1, "fsdp2", "load:1", "train:1", "save:3", "ck-restore", "--by-checkpointer")
        self.assertEqual(self.said(outs, "loaded")["1"], saved["1"])
        self.assertEqual([f.step for f in ingot._ingot.scan(self.dir)], [3, 2, 1])  # last=2, and what it went on from

    def test_a_rank_that_is_killed(self):
        self.run_ranks(2, "ddp", "train:1", "save:1")
        for rank in (1, 0):
            codes, outs = self.run_ranks(2, "ddp", "train:1", "save:2", "--die-rank", rank, check=False)
            self.assertEqual(codes[rank], -9)
            self.assertNotEqual(codes[1 - rank], 0)
            self.assertEqual(ingot.latest(self.dir), os.path.join(self.dir, "checkpoint-1"))
        _, outs = self.run_ranks(2, "ddp", "load:1", "train:1", "save:2", "load:2")
        self.assertEqual(self.said(outs, "loaded")["2"], self.said(outs, "state")["2"])
        self.ingot_sees([2, 1])

    def test_ranks_that_disagree(self):
        for option, text in (("--other-step", "rank 0 step 1, rank 1 step 2"), ("--other-dir", f"rank 0 into {self.dir}, rank 1 into {self.dir}-other")):
            codes, outs = self.run_ranks(2, "ddp", "save:1", option, 1, check=False)
            for code, (_, err) in zip(codes, outs):
                self.assertEqual(code, 3, err)
                self.assertIn(text, err)
            self.assertIsNone(ingot.latest(self.dir) if os.path.isdir(self.dir) else None)


if __name__ == "__main__":
    unittest.main()
