"""Several ranks: what each writes, what they agree on, who is named. With threads for ranks where there is no torch; with gloo on the CPU where there is."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import unittest.mock

import ingot
from ingot import ranks, shares

try:
    import torch
except ImportError:
    torch = None

HERE = os.path.dirname(os.path.abspath(__file__))


class Table:
    """What torch.distributed's store does."""

    def __init__(self):
        self.texts, self.changed = {}, threading.Condition()

    def set(self, key, text):
        with self.changed:
            self.texts[key] = bytes(text)
            self.changed.notify_all()

    def get(self, key):
        return self.texts[key]

    def check(self, keys):
        return all(k in self.texts for k in keys)

    def wait(self, keys, timeout):
        with self.changed:
            if not self.changed.wait_for(lambda: self.check(keys), timeout.total_seconds()):
                raise RuntimeError("wait timeout")

    def delete_key(self, key):
        self.texts.pop(key, None)


def on_ranks(world, f, patience=10.0):
    """f(ranks) on each, in threads; what each gave or raised."""
    table, ends = Table(), [None] * world

    def run(r):
        try:
            ends[r] = f(ranks.Ranks(table, r, world, patience))
        except Exception as e:
            ends[r] = e
    threads = [threading.Thread(target=run, args=(r,)) for r in range(world)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return ends


class Talk(unittest.TestCase):
    def test_what_rank_0_says_all_hear_each_time(self):
        self.assertEqual(on_ranks(3, lambda r: [r.told("due", lambda: i * 10 + r.rank) for i in range(100)]), [[i * 10 for i in range(100)]] * 3)

    def test_what_all_have_heard_is_forgotten(self):
        tables = []

        def go(r):
            tables.append(r._store)
            for i in range(2000):
                r.told("due", lambda: i)
                if i % 100 == 0:
                    r.all("together", None)
        self.assertEqual(on_ranks(3, go), [None] * 3)
        self.assertLess(sum(k.startswith("due/") for k in tables[0].texts), 600)

    def test_all_hear_all(self):
        self.assertEqual(on_ranks(3, lambda r: r.all("x", {"rank": r.rank})), [[{"rank": 0}, {"rank": 1}, {"rank": 2}]] * 3)

    def test_who_does_not_come_is_named(self):
        ends = on_ranks(3, lambda r: r.all("restore", 1) if r.rank != 1 else None, patience=0.2)
        for r in (0, 2):
            self.assertIn("rank 1 of 3 has not come", str(ends[r]))
        ends = on_ranks(2, lambda r: r.told("due", lambda: 1) if r.rank else None, patience=0.2)
        self.assertIn("rank 0 has not come there", str(ends[1]))

    def test_what_rank_0_raises_all_raise(self):
        def go(r):
            out = [r.found("path", lambda: "here")]
            for error in (ingot.BadInput("damaged"), OSError("no disk")):
                def fails():
                    raise error
                try:
                    r.found("path", fails)
                except Exception as e:
                    out.append((type(e).__name__, str(e)))
            return out
        others = ["here", ("BadInput", "rank 0: damaged"), ("Error", "rank 0: no disk")]
        self.assertEqual(on_ranks(3, go), [["here", ("BadInput", "damaged"), ("OSError", "no disk")], others, others])

    def test_a_rank_that_fails_in_its_part_is_named_by_the_others(self):
        tables = []

        def go(r):
            tables.append(r._store)
            out = []
            for step, fails_at in ((1, None), (2, 0), (3, 1), (4, 2), (5, None)):
                try:
                    with ranks.Part(r, f"saving step {step}") as part:
                        for at in range(2):
                            if r.rank == 1 and at == fails_at:
                                raise OSError("no room")
                            out.append(part.meet(r.rank))
                        if r.rank == 1 and fails_at == 2:
                            raise OSError("no room")
                except Exception as e:
                    out.append(f"{type(e).__name__}: {e}")
            return out
        said = [f"Error: saving step {step}: rank 1: OSError: no room; nothing is left of this save" for step in (2, 3, 4)]
        all_, own = [0, 1, 2], ["OSError: no room"] * 3
        self.assertEqual(on_ranks(3, go), [[all_, all_, s[0], all_, s[1], all_, all_, s[2], all_, all_] for s in (said, own, said)])
        self.assertLessEqual(sum(k.startswith("part/") for k in tables[0].texts), 6)  # what all have heard is forgotten
        self.assertEqual(ranks.Part(None, "saving step 1").meet(5), [5])

    def test_rank_0_fails_when_all_have_heard_why(self):
        """It may hold the store, which ends with it."""
        ended = []

        def go(r):
            try:
                if r.rank == 0:
                    r.found("path", lambda: 1 // 0)
                time.sleep(0.3)
                r.found("path", None)
            except Exception:
                ended.append(r.rank)
        on_ranks(2, go)
        self.assertEqual(ended, [1, 0])

    def test_rank_0_goes_last(self):
        table = Table()
        started = time.monotonic()
        other = threading.Timer(0.3, ranks.Ranks(table, 1, 2, 10).leave, (5,))
        other.start()
        ranks.Ranks(table, 0, 2, 10).leave(5)
        self.assertGreater(time.monotonic() - started, 0.25)
        other.join()
        started = time.monotonic()
        ranks.Ranks(Table(), 0, 2, 10).leave(0.2)  # who has ended is not waited for much longer
        self.assertLess(time.monotonic() - started, 3)

    def test_a_store_that_has_ended(self):
        class Gone:
            def __getattr__(self, name):
                def call(*args):
                    raise RuntimeError("failed to recv, got 0 bytes\nException raised from recvBytes")
                return call
        r = ranks.Ranks(Gone(), 1, 2, 5)
        for ask in (lambda: r.told("due", bool), lambda: r.get("key", 1), lambda: r.all("x", 1), lambda: r.put("key", b""), lambda: r.flagged("preempted")):
            with self.assertRaises(ingot.Error) as e:
                ask()
            self.assertIn("rank 1 of 2 hears nothing more of the others: torch.distributed's store does not answer (failed to recv, got 0 bytes); whoever holds it (rank 0,", str(e.exception))
            self.assertNotIn("\n", str(e.exception))

    def test_a_flag_of_any(self):
        def go(r):
            if r.rank == 2:
                r.flag("preempted")
            r.all("barrier", None)
            return r.within("a").flagged("preempted"), r.flagged("preempted")
        self.assertEqual(on_ranks(3, go), [(False, True)] * 3)


    def test_neighbours_are_as_many_as_whoever_started_them_says(self):
        for told, many in (("8", 8), (None, 1), ("", 1), ("0", 1), ("-3", 1), ("many", 1), ("9" * 30, 1)):
            with unittest.mock.patch.dict(os.environ, {} if told is None else {"LOCAL_WORLD_SIZE": told}):
                if told is None:
                    os.environ.pop("LOCAL_WORLD_SIZE", None)
                self.assertEqual(ranks.Ranks(None, 0, 8).neighbours, many)


class Shares(unittest.TestCase):
    def pieces(self, n, size, group="model"):
        return [shares.Piece(group, f"w{i}", size) for i in range(n)]

    def all_of(self, pieces, spread, world, shard=0):
        return [shares.share_of(pieces, spread, r, world, shard) for r in range(world)]

    def test_each_is_written_once(self):
        for world in (2, 3, 8):
            for n in (1, 2, 7, 100):
                for size in (10, 1 << 20, 90 << 20):
                    for spread in (set(), {"model"}):
                        pieces = self.pieces(n, size)
                        got = sorted(i for s in self.all_of(pieces, spread, world) for _, _, those in s.groups for i in those)
                        self.assertEqual(got, list(range(n)), (world, n, size, spread))

    def test_files_are_those_of_transformers(self):
        pieces = self.pieces(10, 40 << 20)
        all_ = self.all_of(pieces, set(), 4)
        index = json.loads(all_[0].files["model.safetensors.index.json"])
        self.assertEqual(index["metadata"]["total_size"], 400 << 20)
        names = {pieces[i].name: stem + ".safetensors" for s in all_ for _, stem, those in s.groups for i in those}
        self.assertEqual(names, index["weight_map"])
        self.assertEqual(sorted(set(names.values())), [f"model-{k:05}-of-00004.safetensors" for k in range(1, 5)])
        self.assertEqual([s.groups for s in self.all_of(self.pieces(3, 1000), set(), 2)], [[("model", "", [0, 1, 2])], []])

    def test_shares_are_even(self):
        for world in (2, 7):
            written = [sum(90 << 20 for _, _, those in s.groups for _ in those) for s in self.all_of(self.pieces(200, 90 << 20), set(), world)]
            self.assertLess(max(written), 1.1 * sum(written) / world)

    def test_a_thousand_ranks(self):
        pieces = [shares.Piece("model" if i % 3 else "optimizer", f"w{i}", (1 + i % 17) << 20, part=i % 2 == 0) for i in range(10_000)]
        start = time.monotonic()
        shares.share_of(pieces, {"model"}, 0, 1000)
        self.assertLess(time.monotonic() - start, 2)


@unittest.skipIf(torch is None, "torch is not there")
class WithTorch(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.tmp, True)

    def run_ranks(self, world, *arguments, script="ranks_script.py", port=29650, check=True, timeout=900):
        procs = []
        for r in range(world):
            env = dict(os.environ, RANK=str(r), WORLD_SIZE=str(world), LOCAL_RANK=str(r), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), OMP_NUM_THREADS="1")
            procs.append(subprocess.Popen([sys.executable, "-B", os.path.join(HERE, script), *map(str, arguments)], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        try:
            outs = [p.communicate(timeout=timeout) for p in procs]
        finally:
            for p in procs:
                if p.poll() is None:
                    p.kill()
                    p.communicate()
        if check:
            for r, (p, (out, err)) in enumerate(zip(procs, outs)):
                self.assertEqual(p.returncode, 0, f"rank {r}: {out}\n{err}")
        return procs, outs

    def result(self, outs):
        return [line for line in outs[0][0].splitlines() if line.startswith("weights ")][-1]

    def test_every_layout_resumes_bit_by_bit(self):
        for kind in ("ddp", "fsdp2", "tp"):
            with self.subTest(kind):
                d = os.path.join(self.tmp, kind)
                whole = self.result(self.run_ranks(2, kind, d + "-whole", 8)[1])
                self.run_ranks(2, kind, d, 4)
                _, outs = self.run_ranks(2, kind, d, 8)
                self.assertIn("resumed at step 4", outs[1][1])
                self.assertEqual(self.result(outs), whole)

    def test_fsdp1_sharded_state_dicts(self):
        _, outs = self.run_ranks(2, os.path.join(self.tmp, "fsdp1"), script="ranks_fsdp1.py")
        self.assertTrue(all("equal" in out for out, _ in outs), outs)

    def test_another_number_of_ranks(self):
        d = os.path.join(self.tmp, "fsdp2")
        self.run_ranks(4, "fsdp2", d, 4)
        state = self.result(self.run_ranks(4, "fsdp2", d, 4)[1])
        for world in (1, 2, 3):
            _, outs = self.run_ranks(world, "fsdp2", d, 4)
            self.assertEqual(self.result(outs), state, world)

    def elastic(self, *runs):
        asked = [{"every": 1000, "seed": 1, "exact": True, **r} for r in runs]
        env = dict(os.environ, OMP_NUM_THREADS="1")
        p = subprocess.run([sys.executable, "-B", os.path.join(HERE, "ranks_elastic.py")], input=json.dumps(asked), capture_output=True, text=True, env=env, timeout=1200)
        self.assertEqual(p.returncode, 0, p.stderr)
        return [json.loads(line) for line in p.stdout.splitlines()]

    def test_ranks_that_come_and_go_go_on_exactly(self):
        """Saved by 4, gone on by 8, 2 and 1: weights and moments at the end are those of 4 ranks never stopped, to the bit. And from 1 back to 8."""
        d = os.path.join(self.tmp, "elastic")
        self.elastic({"world": 4, "dir": d, "steps": 4, "every": 4}, {"world": 1, "dir": d + "-of-1", "steps": 4, "every": 4})
        for world in (8, 2, 1):
            shutil.copytree(d, f"{d}-{world}")
        whole, *others = self.elastic({"world": 4, "dir": d + "-never", "steps": 10}, *({"world": w, "dir": f"{d}-{w}", "steps": 10} for w in (8, 2, 1)), {"world": 8, "dir": d + "-of-1", "steps": 10})
        for other in others:
            self.assertEqual((other["first"], len(other["losses"])), (5, 6))
            self.assertEqual(other["weights"], whole["weights"])
            self.assertEqual(other["losses"], whole["losses"][4:])
        self.assertEqual(whole["tensors"], 6 + 3 * 6)  # exp_avg, exp_avg_sq and step of each parameter

    def test_a_curve_of_other_ranks_is_within_the_noise(self):
        """Where each rank has its share of the batch, sums are rounded in another order: how far apart the losses are, beside those of another seed of the data."""
        d = os.path.join(self.tmp, "elastic")
        self.elastic({"world": 4, "dir": d, "steps": 10, "every": 10, "exact": False})
        for world in (8, 2):
            shutil.copytree(d, f"{d}-{world}")
        whole, seed, *others = self.elastic(*({"world": 4, "dir": f"{d}-never-{s}", "steps": 40, "exact": False, "seed": s} for s in (1, 2)),
                                            *({"world": w, "dir": f"{d}-{w}", "steps": 40, "exact": False} for w in (8, 2)))
        noise = max(abs(a - b) for a, b in zip(whole["losses"][10:], seed["losses"][10:]))
        apart = {w: max(abs(a - b) for a, b in zip(whole["losses"][10:], o["losses"])) for w, o in zip((8, 2), others)}
        print(f"losses of 30 steps, saved by 4 ranks: apart by {', '.join(f'{x:.1e} (gone on by {w})' for w, x in apart.items())}, of another seed by {noise:.1e}", file=sys.stderr)
        for w, x in apart.items():
            self.assertLess(x, noise / 100)

    def test_a_rank_that_is_killed_in_a_save_a_publish_and_a_restore(self):
        """Either of two: the other one ends by itself, what was there is there, and all goes on."""
        d = os.path.join(self.tmp, "ddp")
        self.run_ranks(2, "ddp", d, 4)
        whole = self.result(self.run_ranks(2, "ddp", os.path.join(self.tmp, "never"), 6)[1])
        for where in ("save", "publish", "restore"):
            for rank in (0, 1):
                with self.subTest(where=where, rank=rank):
                    there = os.path.join(self.tmp, f"{where}-{rank}")
                    shutil.copytree(d, there, symlinks=True)
                    start = time.monotonic()
                    procs, outs = self.run_ranks(2, "ddp", there, 6, "--die-rank", rank, "--die-in", where, "--patience", 15, check=False)
                    self.assertEqual(procs[rank].returncode, -9, outs)
                    self.assertLess(time.monotonic() - start, 600)  # torch gives ranks that look for each other half an hour
                    # Rank 1 has told that its part is written: then rank 0 needs it no more.
                    step = 6 if (where, rank) == ("publish", 1) else 4
                    if step == 4:
                        self.assertEqual((procs[1 - rank].returncode, outs[1 - rank][1].count("Traceback (most")), (1, 1), outs[1 - rank][1])
                    self.assertTrue(ingot.latest(there).endswith(f"checkpoint-{step}"), os.listdir(there))
                    _, outs = self.run_ranks(2, "ddp", there, 6)
                    self.assertIn(f"resumed at step {step}", outs[1][1])
                    self.assertEqual(self.result(outs), whole)
                    self.assertEqual([n for n in os.listdir(there) if n.startswith(".")], [])

    def test_a_signal_to_one_rank_and_clocks_that_differ(self):
        d = os.path.join(self.tmp, "ddp")
        procs, outs = self.run_ranks(2, "ddp", d, 1000, "--signal-rank", 1, "--skew", check=False)
        self.assertEqual([p.returncode for p in procs], [75, 75], outs)
        steps = {[line for line in out.splitlines() if line.startswith("preempted at")][-1] for out, _ in outs}
        self.assertEqual(len(steps), 1, steps)
        self.assertEqual(int(ingot.latest(d).rpartition("-")[2]), int(steps.pop().split()[2]))

    def test_a_rank_that_is_killed(self):
        d = os.path.join(self.tmp, "ddp")
        self.run_ranks(2, "ddp", d, 4)
        before = ingot.latest(d)
        procs, outs = self.run_ranks(2, "ddp", d, 8, "--die-rank", 1, "--patience", 15, check=False)
        self.assertEqual(procs[1].returncode, -9)
        self.assertNotEqual(procs[0].returncode, 0)
        self.assertIn("rank 1", outs[0][1])
        self.assertEqual(ingot.latest(d), before)
        self.run_ranks(2, "ddp", d, 8)
        self.assertTrue(ingot.latest(d).endswith("checkpoint-8"))

    def test_each_byte_is_read_once(self):
        d = os.path.join(self.tmp, "ddp")
        self.run_ranks(3, "ddp", d, 2, "--wide")
        self.assertEqual(sorted(os.listdir(ingot.latest(d))), ["manifest.json", "model.safetensors", "optimizer.safetensors", "rank-00000.safetensors", "rank-00001.json", "rank-00001.safetensors",
                                                               "rank-00002.json", "rank-00002.safetensors", "state.json"])
        _, outs = self.run_ranks(3, "ddp", d, 2, "--wide")
        read = sum(int(line.split()[1]) for out, _ in outs for line in out.splitlines() if line.startswith("read "))
        there = sum(os.path.getsize(os.path.join(ingot.latest(d), n)) for n in os.listdir(ingot.latest(d)) if n != "manifest.json")
        self.assertEqual(read, there)


if __name__ == "__main__":
    unittest.main()
