"""DeepSpeed's checkpoints by ingot, on the CPU with gloo: ranks that are killed and resumed, and the two ways between ingot's and a plain DeepSpeed's. Each run is processes of its own."""
import importlib.util
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

os.environ.setdefault("DS_ACCELERATOR", "cpu")
HAVE = all(importlib.util.find_spec(m) for m in ("torch", "deepspeed"))
if HAVE:
    import torch

    import ingot
    import ranks_deepspeed
import killing
from shared import Comparing, flip

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = os.environ.get("INGOT_PROGRAM") or next((p for p in (os.path.join(HERE, "..", "..", "build", "release", "ingot"), shutil.which("ingot") or "") if p and os.access(p, os.X_OK)), None)
STEPS = 24


@unittest.skipUnless(HAVE, "deepspeed or torch is not there")
class DeepSpeedCase(Comparing, killing.OfRanks, unittest.TestCase):
    def setUp(self):
        tmp = tempfile.TemporaryDirectory()
        self.addCleanup(tmp.cleanup)
        self.tmp = tmp.name
        self.dir = os.path.join(self.tmp, "run")
        self.log = os.path.join(self.tmp, "log")
        self.runs = killing.Runs(ranks_deepspeed.run, self.log, ["ranks_deepspeed"])
        self.count = 0

    def place(self, *names):
        return os.path.join(self.dir, *names)

    def began(self, world=1, directory=None, out="end", **options):
        self.count += 1
        return self.started(world, directory=directory or self.dir, out=os.path.join(self.tmp, f"{out}.pt"), store=os.path.join(self.tmp, f"store-{self.count}"), **options)

    def go(self, codes=0, **options):
        """A run to its end; what it said."""
        got, told = self.ended(self.began(**options))
        if codes is not None:
            self.assertEqual(set(got), {codes}, told[-6000:])
        return told

    def weights(self, name="end"):
        return torch.load(os.path.join(self.tmp, f"{name}.pt"))

    def step(self):
        there = [f for f in ingot._ingot.scan(self.place("ingot")) if f.state == "whole"]
        return there[0].step if there else 0


class Killed(DeepSpeedCase):
    def test_one_process_killed_at_random_and_preempted(self):
        self.go(save=False, out="reference")
        killed = 0
        for _ in range(3):
            processes = self.began(slow=0.03)
            while not self.runs.began.wait(0.05) and processes[0].is_alive():
                pass
            time.sleep(random.uniform(0.0, 0.9))
            processes[0].kill()
            codes, told = self.ended(processes)
            self.assertIn(codes[0], (-signal.SIGKILL, 0), told)
            killed += codes[0] != 0
            killing.count(signal.SIGKILL)
        self.assertGreater(killed, 0)
        # One may have got to its end, or near: it has something to do again.
        there = [f for f in ingot._ingot.scan(self.place("ingot")) if f.state == "whole"] if os.path.isdir(self.place("ingot")) else []
        for f in there[:-1]:
            shutil.rmtree(f.path)
        at = (there[-1].step if there else 0) + 2
        told = self.go(signal_at=at, codes=75)
        self.assertIn(f"ingot: preempted: step {at} is saved; exit code 75", told)
        self.assertEqual(self.step(), at)
        told = self.go()
        self.assertIn(f"ingot: resumed at step {at} from {self.dir}/ingot/checkpoint-{at}\n", told)
        self.assertNotIn("leaked", told)
        self.assertSame(self.weights("reference"), self.weights())
        with open(self.place("latest")) as f:
            self.assertEqual(f.read(), f"global_step{STEPS}")
        links = {n: os.readlink(self.place(n)) for n in os.listdir(self.dir) if os.path.islink(self.place(n))}
        self.assertEqual(links, {f"global_step{f.step}": f"ingot/checkpoint-{f.step}" for f in ingot._ingot.scan(self.place("ingot"))})
        self.assertEqual([f.state for f in ingot._ingot.scan(self.place("ingot")) if f.state != "whole"], [])

    def two_ranks(self, stage):
        self.go(save=False, stage=stage, world=2, out="reference")
        self.go(stage=stage, die_at=11, rank_timeout=5, world=2, codes=None)  # one of them, between two saves
        self.assertIn(self.step(), (3, 6, 9))
        told = self.go(stage=stage, signal_at=13, world=2, codes=75)  # to one of them alone
        saved = self.step()
        self.assertIn(f"ingot: preempted: step {saved} is saved", told)
        told = self.go(stage=stage, world=2)
        self.assertIn(f"ingot: resumed at step {saved} from", told)
        self.assertSame(self.weights("reference"), self.weights())
        newest = ingot._ingot.scan(self.place("ingot"))[0]
        self.assertEqual((newest.step, newest.world), (STEPS, 2))
        newest.verify(1)
        self.assertLessEqual({"ingot_rank_00000.pt", "ingot_rank_00001.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt", "zero_pp_rank_1_mp_rank_00_optim_states.pt"}, set(os.listdir(newest.path)))

    def test_two_ranks_of_stage_1(self):
        self.two_ranks(1)

    def test_two_ranks_of_stage_2(self):
        self.two_ranks(2)

    def test_two_ranks_of_stage_3(self):
        self.two_ranks(3)


class BothWays(DeepSpeedCase):
    def test_a_plain_deepspeed_goes_on_from_ours_and_we_from_its(self):
        # Without dropout a plain run needs no generator to go on as it would have.
        still = {"dropout": 0.0, "in_order": True}
        self.go(save=False, **still, out="reference")
        self.go(steps=12, **still)
        plain = os.path.join(self.tmp, "plain")
        shutil.copytree(self.dir, plain, symlinks=True)
        self.go(attached=False, **still, directory=plain, out="plain")
        self.assertSame(self.weights("reference"), self.weights("plain"))
        self.assertFalse(os.path.islink(os.path.join(plain, f"global_step{STEPS}")))
        # What it has written since is the newest.
        shutil.rmtree(os.path.join(plain, f"global_step{STEPS}"))
        with open(os.path.join(plain, "latest"), "w") as f:
            f.write("global_step18")
        told = self.go(**still, directory=plain)
        self.assertIn(f"from {plain}/global_step18/mp_rank_00_model_states.pt at 18", told)
        self.assertSame(self.weights("reference"), self.weights())
        self.assertEqual(os.readlink(os.path.join(plain, f"global_step{STEPS}")), f"ingot/checkpoint-{STEPS}")

    def test_a_tag_of_ones_own_and_its_client_state(self):
        self.go(steps=6, tag="best")
        self.assertEqual(os.readlink(self.place("best")), "ingot/checkpoint-6")
        told = self.go(steps=6, tag="best")
        self.assertIn("client 6", told)

    def test_its_own_tools_read_it(self):
        self.go(steps=6)
        subprocess.run([sys.executable, self.place("zero_to_fp32.py"), self.dir, os.path.join(self.tmp, "fp32")], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "DS_ACCELERATOR": "cpu"})
        found = os.listdir(os.path.join(self.tmp, "fp32"))
        self.assertTrue(found)
        state = {}
        for n in found:
            if n.endswith((".bin", ".safetensors")):
                state.update(dict(ingot.open(os.path.join(self.tmp, "fp32", n)).read()))
        self.assertSame(dict(sorted(self.weights().items())), dict(sorted(state.items())))

    @unittest.skipUnless(PROGRAM, "the program is not built: build/release/ingot, or INGOT_PROGRAM")
    def test_two_ranks_go_on_as_one_through_universal(self):
        for stage in (1, 2, 3):
            with self.subTest(stage=stage):
                shutil.rmtree(self.dir, ignore_errors=True)
                self.go(stage=stage, steps=6, moments=True, world=2)
                saved = self.weights()
                told = self.go(stage=stage, world=1, codes=1)
                self.assertRegex(told, "2 data-parallel ranks saved it, these are 1.*deepspeed-universal")
                out = os.path.join(self.tmp, f"universal-{stage}")
                done = subprocess.run([PROGRAM, "convert", self.place("ingot", "checkpoint-6"), "--to", "deepspeed-universal", "--out", out], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                self.assertEqual(done.returncode, 0, done.stdout)
                for world in (1, 2):  # not a step more: what was loaded
                    told = self.go(stage=stage, load=out, universal=True, steps=6, save=False, moments=True, world=world, out="loaded")
                    self.assertIn("at 6, client 6", told)
                    self.assertSame(saved, self.weights("loaded"))


class BadInput(DeepSpeedCase):
    def test_a_damaged_one_is_put_aside_and_the_one_before_it_taken(self):
        self.go(save=False, out="reference")
        self.go(steps=12)
        flip(self.place("ingot", "checkpoint-12", "zero_pp_rank_0_mp_rank_00_optim_states.pt"))
        os.remove(self.place("ingot", "checkpoint-9", "manifest.json"))
        told = self.go()
        self.assertIn("ingot: resumed at step 6", told)
        self.assertSame(self.weights("reference"), self.weights())
        self.assertIn("checkpoint-12 is damaged and put aside", told)

    def test_another_number_of_ranks_and_another_stage(self):
        self.go(steps=6)
        told = self.go(world=2, codes=1)
        self.assertRegex(told, r"1 data-parallel ranks saved it, these are 2.*deepspeed-universal")
        told = self.go(stage=2, codes=1)
        self.assertRegex(told, r"saved with ZeRO stage 1, and this engine has 2")

    def test_torn_by_a_plain_deepspeed(self):
        self.go(steps=12)
        plain = self.place("global_step99")
        os.mkdir(plain)
        with open(os.path.join(plain, "mp_rank_00_model_states.pt"), "wb") as f:
            f.write(b"PK\x03\x04" + bytes(100))
        with open(self.place("latest"), "w") as f:
            f.write("global_step99")
        told = self.go(steps=15)
        self.assertIn("ingot: resumed at step 12", told)

    def test_another_runs_directory(self):
        other = os.path.join(self.tmp, "other")
        self.go(steps=6)
        with ingot.Checkpointer(os.path.join(other, "ingot"), signals=False) as ck:
            ck.save(3, {"model": torch.nn.Linear(2, 2)})
        told = self.go(directory=other, codes=1)
        self.assertIn("none of its 1 checkpoints can be resumed from", told)
        told = self.go(width=24, codes=1)
        self.assertIn("size mismatch", told)

    def test_a_tag_that_is_there_of_other_software(self):
        os.makedirs(self.place("global_step3"))
        with open(self.place("global_step3", "mine"), "w") as f:
            f.write("mine")
        self.go(steps=3)
        self.assertEqual(os.readlink(self.place("global_step3")), "ingot/checkpoint-3")
        self.assertEqual(os.listdir(self.place("global_step3-other")), ["mine"])

    def test_latest_that_names_nothing(self):
        self.go(steps=3)
        shutil.rmtree(self.place("ingot"))
        told = self.go(steps=3, codes=1)
        self.assertIn("its `latest` names global_step3, which is not there", told)

    def test_what_cannot_be_attached(self):
        import ingot.deepspeed
        with self.assertRaisesRegex(TypeError, "expected what deepspeed.initialize gives first"):
            ingot.deepspeed.attach(torch.nn.Linear(2, 2))


if __name__ == "__main__":
    unittest.main()
