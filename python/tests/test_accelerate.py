"""Accelerate's save_state and load_state by ingot: runs that are killed and resumed, and the order of the data. Real trainings of a tiny network with dropout and shuffling."""
import importlib.util
import os
import random
import shutil
import signal
import tempfile
import time
import unittest

HAVE = all(importlib.util.find_spec(m) for m in ("torch", "accelerate", "safetensors"))
if HAVE:
    import torch
    from accelerate import Accelerator
    from accelerate.utils import DataLoaderConfiguration, ProjectConfiguration

    import ingot
    import ingot.accelerate
    from ingot.accelerate import attach
    torch.set_num_threads(1)
import killing
from shared import Comparing, flip

EPOCHS, BATCHES = 3, 10


def forget():
    """What one Accelerator leaves for the next in a process."""
    from accelerate.state import AcceleratorState, GradientState, PartialState
    AcceleratorState._reset_state(True)
    GradientState._reset_state()
    PartialState._reset_state()


class Rows:
    def __len__(self):
        return 4 * BATCHES

    def __getitem__(self, i):
        return torch.tensor(i), torch.sin(torch.arange(6.0) + i), torch.tensor([float(i % 3)])


class Counter:
    """Registered for checkpointing."""

    def __init__(self):
        self.n = 0

    def state_dict(self):
        return {"n": self.n}

    def load_state_dict(self, state):
        self.n = state["n"]


class Training:
    def __init__(self, directory, seedable=True, seed=3, hooked=True, automatic=False, workers=0, counter=True, frozen=False, config=None, **options):
        forget()
        torch.manual_seed(seed)
        self.a = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(use_seedable_sampler=seedable), gradient_accumulation_steps=1, project_dir=directory,
                             project_config=config or ProjectConfiguration(project_dir=directory, automatic_checkpoint_naming=automatic))
        torch.manual_seed(5)
        net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1))
        if frozen:
            net[0].requires_grad_(False)
        torch.manual_seed(seed)
        optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=0.05)
        loader = torch.utils.data.DataLoader(Rows(), batch_size=4, shuffle=True, num_workers=workers)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 7, 0.8)
        self.directory, self.hook = directory, attach(self.a, None if automatic else directory, **{"signals": False, **options}) if hooked else None
        self.net, self.optimizer, self.loader, self.scheduler = self.a.prepare(net, optimizer, loader, scheduler)
        self.counter, self.seen = Counter(), []
        if counter:
            self.a.register_for_checkpointing(self.counter)

    def step(self, batch):
        i, x, y = batch
        self.seen.append(i.tolist())
        self.optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(self.net(x), y)
        self.a.backward(loss)
        self.optimizer.step()
        self.scheduler.step()
        self.counter.n += 1

    def run(self, save_every=4, stop=None, began=None, place="{}/checkpoint-{}"):
        for _ in range(self.loader.iteration, EPOCHS):
            for batch in self.loader:
                if began is not None:
                    began()
                self.step(batch)
                preempted = self.hook is not None and self.hook.preempted
                if self.counter.n % save_every == 0 or preempted:
                    self.a.save_state(place.format(self.directory, self.counter.n))
                    if preempted:
                        self.hook.exit()
                if self.counter.n == stop:
                    if self.hook is not None:
                        self.hook.wait()
                    return self
        if self.hook is not None:
            self.hook.wait()
        return self

    def weights(self):
        return {k: v.clone() for k, v in self.a.unwrap_model(self.net).state_dict().items()}

    def draws(self):
        return self.seen, torch.rand(2).tolist()


def run(began, directory, out, hooked=True, **arguments):
    torch.set_num_threads(1)
    t = Training(directory, hooked=hooked, **({"signals": True} if hooked else {}), **arguments)
    if hooked:
        t.hook.resume()
    t.run(began=began, save_every=4 if hooked else 1000)
    torch.save(t.weights(), out)


@unittest.skipUnless(HAVE, "accelerate, safetensors or torch is not there")
class AccelerateCase(Comparing, unittest.TestCase):
    def setUp(self):
        tmp = tempfile.TemporaryDirectory()
        self.addCleanup(tmp.cleanup)
        self.addCleanup(forget)
        self.tmp = tmp.name
        self.dir = os.path.join(self.tmp, "out")

    def training(self, directory=None, **arguments):
        t = Training(directory or self.dir, **arguments)
        if t.hook is not None:
            self.addCleanup(t.hook.detach)
        return t

    def reference(self, **arguments):
        """The run that was never saved nor attached to: its weights, the batches it saw, and what the generator draws then."""
        t = self.training(os.path.join(self.tmp, "never"), hooked=False, **arguments).run(save_every=1000)
        return t.weights(), *t.draws()


class Killed(AccelerateCase):
    def survives(self, **arguments):
        runs = killing.Runs(run, os.path.join(self.tmp, "log"), ["test_accelerate"])
        reference, end = os.path.join(self.tmp, "reference.pt"), os.path.join(self.tmp, "end.pt")
        self.assertEqual(runs.whole(directory=os.path.join(self.tmp, "never"), out=reference, hooked=False, **arguments), 0, runs.text())
        codes = []
        for _ in range(5):
            codes.append(runs.killed((0.0, 0.12), directory=self.dir, out=end, **arguments))
            if codes[-1] == 0 or self.newest() > 20:
                for step in range(13, EPOCHS * BATCHES + 1):
                    shutil.rmtree(os.path.join(self.dir, f"checkpoint-{step}"), ignore_errors=True)
        self.assertTrue(set(codes) <= {-signal.SIGKILL, 0}, (codes, runs.text()))
        self.assertIn(-signal.SIGKILL, codes)
        runs.text()
        code = runs.killed((0.0, 0.0), signal.SIGTERM, directory=self.dir, out=end, **arguments)
        self.assertEqual(code, 75, runs.text())
        saved, _ = self.newest(), runs.text()
        if os.path.exists(end):
            os.remove(end)
        code, told = runs.whole(directory=self.dir, out=end, **arguments), runs.text()
        self.assertEqual(code, 0, told)
        self.assertIn(f"ingot: resumed at step {saved} from {self.dir}/checkpoint-{saved}\n", told)
        self.assertSame(torch.load(reference), torch.load(end))

    def newest(self):
        return max((f.step for f in ingot._ingot.scan(self.dir) if f.state == "whole"), default=0)

    def test_killed_five_times_and_preempted(self):
        self.survives()

    def test_without_a_seedable_sampler(self):
        self.survives(seedable=False)


class Data(AccelerateCase):
    def goes_on(self, at, **arguments):
        end, seen, drawn = self.reference(**arguments)
        self.training(**arguments).run(save_every=at, stop=at)
        t = self.training(**{**arguments, "seed": 99})  # the script's own seed is another's: a process that was not told any
        self.assertEqual(t.hook.resume(), at)
        t.run(save_every=1000)
        self.assertEqual(t.seen, seen[at:])
        self.assertEqual(t.draws()[1], drawn)
        self.assertSame(end, t.weights())

    def test_in_an_epoch_at_its_end_and_in_the_next(self):
        for seedable in (True, False):
            for at in (3, 9, 10, 11, 20, 27):
                with self.subTest(at=at, seedable=seedable):
                    shutil.rmtree(self.dir, ignore_errors=True)
                    self.goes_on(at, seedable=seedable)

    def test_workers(self):
        self.goes_on(13, workers=1)

    def test_between_two_epochs(self):
        end, seen, drawn = self.reference()
        t = self.training()
        for batch in t.loader:
            t.step(batch)
        t.a.save_state(os.path.join(self.dir, "checkpoint-10"))
        t.hook.wait()
        u = self.training(seed=99)
        u.hook.resume()
        u.run(save_every=1000)
        self.assertEqual((u.seen, u.draws()[1]), (seen[10:], drawn))
        self.assertSame(end, u.weights())

    def test_saved_again_before_the_loop_goes_on(self):
        _, seen, _ = self.reference()
        self.training().run(save_every=13, stop=13)
        t = self.training(seed=99)
        t.hook.resume()
        t.a.save_state(os.path.join(self.dir, "checkpoint-14"))
        t.hook.wait()
        u = self.training(seed=98)
        self.assertEqual(u.hook.resume(), 14)
        u.counter.n = 13
        u.run(save_every=1000)
        self.assertEqual(u.seen, seen[13:])

    def test_a_script_that_skips_itself(self):
        _, seen, _ = self.reference()
        self.training().run(save_every=13, stop=13)
        t = self.training(seed=99)
        t.a.load_state(os.path.join(self.dir, "checkpoint-13"))
        for epoch in range(13 // BATCHES, EPOCHS):
            for batch in t.a.skip_first_batches(t.loader, 13 % BATCHES) if epoch == 1 else t.loader:
                t.step(batch)
        self.assertEqual(t.seen, seen[13:])

    def test_accelerate_alone_does_not_go_on_there(self):
        """What users complain of (accelerate 2016, 3158): if this fails, accelerate has mended it."""
        _, seen, _ = self.reference()
        self.training(hooked=False).run(save_every=13, stop=13)
        t = self.training(hooked=False, seed=99)
        t.a.load_state(os.path.join(self.dir, "checkpoint-13"))
        t.run(save_every=1000)
        self.assertNotEqual(t.seen, seen[13:])

    def test_without_data(self):
        self.training(data=False).run(save_every=13, stop=13)
        self.assertNotIn("ingot_data.bin", os.listdir(os.path.join(self.dir, "checkpoint-13")))


class States(AccelerateCase):
    def test_files_and_a_plain_accelerator(self):
        end, _, _ = self.reference()
        t = self.training().run()
        self.assertSame(end, t.weights())
        self.training(os.path.join(self.tmp, "plain"), hooked=False).run()
        ours, theirs = (set(os.listdir(os.path.join(d, "checkpoint-12"))) for d in (self.dir, os.path.join(self.tmp, "plain")))
        self.assertEqual(theirs, ours - {"manifest.json", "state.json", "ingot_data.bin"})
        self.assertEqual([f.state for f in ingot._ingot.scan(self.dir)], ["whole"] * 7)
        for f in ingot._ingot.scan(self.dir):
            f.verify(1)
        p = self.training(hooked=False)
        p.a.load_state(os.path.join(self.dir, "checkpoint-28"))
        self.assertEqual(p.counter.n, 28)
        q = self.training(os.path.join(self.tmp, "plain"))
        q.a.load_state(os.path.join(self.tmp, "plain", "checkpoint-28"))
        self.assertSame(p.weights(), q.weights())
        self.assertEqual(q.hook.resumed_from, os.path.join(self.tmp, "plain", "checkpoint-28"))

    def test_automatic_names(self):
        config = ProjectConfiguration(project_dir=self.dir, automatic_checkpoint_naming=True, total_limit=2)
        self.training(config=config, automatic=True).run()
        there = os.path.join(self.dir, "checkpoints")
        self.assertEqual(sorted(n for n in os.listdir(there) if n.startswith("checkpoint")), ["checkpoint-5", "checkpoint-6"])
        u = self.training(config=ProjectConfiguration(project_dir=self.dir, automatic_checkpoint_naming=True), automatic=True)
        u.a.load_state()
        self.assertEqual((u.counter.n, u.a.save_iteration), (28, 7))
        self.assertEqual(str(u.a.save_state()), os.path.join(there, "checkpoint-7"))

    def test_names(self):
        t = self.training()
        with self.assertRaisesRegex(ValueError, r"epoch_one: ingot's checkpoints are called checkpoint-N"):
            t.a.save_state(os.path.join(self.dir, "epoch_one"))
        t.a.save_state(os.path.join(self.dir, "step_7"))
        t.hook.wait()
        self.assertTrue(os.path.exists(os.path.join(self.dir, "checkpoint-7", "manifest.json")))
        t.a.load_state(os.path.join(self.dir, "step_7"))
        self.assertEqual(t.hook.resumed_from, os.path.join(self.dir, "checkpoint-7"))

    def test_frozen_parameters(self):
        end, _, _ = self.reference(frozen=True)
        self.training(frozen=True).run(stop=16)
        self.assertIn("model.safetensors.index.json", os.listdir(os.path.join(self.dir, "checkpoint-16")))
        t = self.training(frozen=True)
        t.hook.resume()
        self.assertSame(end, t.run(save_every=1000).weights())

    def test_damage(self):
        self.training().run(stop=16)
        path = os.path.join(self.dir, "checkpoint-16", "optimizer.bin")
        with open(path, "r+b") as f:
            f.seek(900)
            f.write(b"?")
        os.remove(os.path.join(self.dir, "checkpoint-12", "manifest.json"))
        with self.assertRaisesRegex(ingot.BadInput, "checkpoint-16/optimizer.bin"):
            self.training().a.load_state(os.path.join(self.dir, "checkpoint-16"))
        t = self.training()
        step, told = self.told(t.hook.resume)
        self.assertEqual((step, t.counter.n), (8, 8))
        self.assertIn("checkpoint-16 is damaged and put aside", told)
        self.assertIn("checkpoint-12 is passed over", told)

    def test_a_plain_one_that_is_torn(self):
        self.training(hooked=False).run(stop=16)
        path = os.path.join(self.dir, "checkpoint-16")
        for name in ("custom_checkpoint_0.pkl", "random_states_0.pkl", "scheduler.bin", "optimizer.bin"):
            os.remove(os.path.join(path, name))
            t = self.training()
            step, told = self.told(t.hook.resume)
            self.assertEqual(step, 12)
            self.assertIn("checkpoint-16 is passed over", told)
        t.counter.n = 15
        t.step(next(iter(t.loader)))
        _, told = self.told(lambda: t.a.save_state(path))
        self.assertIn(f"it is {self.dir}/other-checkpoint-16 now", told)

    def test_a_fresh_start(self):
        self.assertEqual(self.training().hook.resume(), 0)
        with self.assertRaisesRegex(ValueError, "there is no checkpoint in"):
            self.training().a.load_state()

    def test_attach_twice_and_what_is_none(self):
        t = self.training()
        with self.assertRaisesRegex(ValueError, "attached already"):
            attach(t.a)
        with self.assertRaisesRegex(TypeError, "has no save_state"):
            attach(object())
        with self.assertRaisesRegex(ValueError, "cadence is no option here"):
            t.hook.detach()
            attach(t.a, cadence=ingot.Cadence(steps=1))


class Ranks(killing.OfRanks, AccelerateCase):
    """Two processes under DistributedDataParallel, with gloo."""

    def setUp(self):
        super().setUp()
        import ranks_accelerate
        self.runs = killing.Runs(ranks_accelerate.run, os.path.join(self.tmp, "log"), ["ranks_accelerate"])

    def began(self, world=2, directory=None, out="end", **options):
        return self.started(world, directory=directory or self.dir, out=os.path.join(self.tmp, out + "-{}.pt"), port=killing.free_port(), **options)

    def end(self, name="end", world=2):
        return [torch.load(os.path.join(self.tmp, f"{name}-{r}.pt")) for r in range(world)]

    def newest(self):
        return max((f.step for f in ingot._ingot.scan(self.dir) if f.state == "whole"), default=0) if os.path.isdir(self.dir) else 0

    def test_killed_preempted_and_resumed(self):
        for seedable in (True, False):
            with self.subTest(seedable=seedable):
                shutil.rmtree(self.dir, ignore_errors=True)
                self.go(directory=os.path.join(self.tmp, "never"), out="reference", hooked=False, save_every=1000, seedable=seedable)
                reference, killed = self.end("reference"), 0
                for who in ((0, 1), (1,), (0,)) if seedable else ((1,),):
                    processes = self.began(slow=0.02, save_every=2, rank_timeout=20, seedable=seedable)
                    while not self.runs.began.wait(0.05) and any(p.is_alive() for p in processes):
                        pass
                    time.sleep(random.uniform(0.0, 0.5))
                    for r in who:
                        if processes[r].is_alive():
                            processes[r].kill()
                            killing.count(signal.SIGKILL)
                    codes, told = self.ended(processes)
                    killed += any(codes[r] == -signal.SIGKILL for r in who)
                    for step in range(7, 3 * BATCHES):  # one may have got to its end, or near: it has something to do again
                        shutil.rmtree(os.path.join(self.dir, f"checkpoint-{step}"), ignore_errors=True)
                self.assertGreater(killed, 0)
                at = self.newest() + 3
                self.go(75, signal_at=at, seedable=seedable)  # to rank 1 alone
                saved = self.newest()
                self.assertIn(saved, (at, at + 1))  # rank 0 may have been asked before rank 1 said that it was told to go
                told = self.go(seedable=seedable)
                self.assertEqual(told.count(f"ingot: resumed at step {saved} from {self.dir}/checkpoint-{saved}\n"), 2, told)
                for r in (0, 1):
                    self.assertSame(reference[r]["weights"], self.end()[r]["weights"])
                    self.assertEqual(self.end()[r]["seen"], reference[r]["seen"][saved:])
                newest = ingot._ingot.scan(self.dir)[0]
                self.assertEqual((newest.state, newest.world), ("whole", 2))
                newest.verify(1)

    def test_files_and_a_plain_accelerator(self):
        plain = os.path.join(self.tmp, "plain")
        self.go(save_every=5, stop=5)
        self.go(save_every=5, stop=5, hooked=False, directory=plain)
        ours, theirs = (set(os.listdir(os.path.join(d, "checkpoint-5"))) for d in (self.dir, plain))
        self.assertEqual(theirs, ours - {"manifest.json", "state.json", "ingot_data.bin", "ingot_data_1.bin"})
        self.assertLessEqual({"random_states_0.pkl", "random_states_1.pkl"}, ours)
        # Each of the two goes on from either: the same weights, and the same generators on both ranks.
        ends = []
        for hooked in (True, False):
            for d in (self.dir, plain):
                self.go(load=os.path.join(d, "checkpoint-5"), hooked=hooked, save_every=1000, stop=8, directory=os.path.join(self.tmp, "other"))
                ends.append([e["weights"] for e in self.end()])
        self.assertSame(ends[0], self.reference_of(8))
        self.assertSame(ends[1], ends[2])
        self.assertSame(ends[2], ends[3])

    def reference_of(self, stop):
        self.go(directory=os.path.join(self.tmp, "never"), out="reference", hooked=False, save_every=1000, stop=stop)
        return [e["weights"] for e in self.end("reference")]

    def test_another_number_of_processes(self):
        """Saved by two in an epoch and gone on by one, and the other way: no row is seen twice, and none is left out."""
        self.go(save_every=2, stop=2)
        first = [row for e in self.end() for batch in e["seen"] for row in batch]
        one = self.training()
        self.assertEqual(one.hook.resume(), 2)
        for batch in one.loader:
            one.step(batch)
        self.assertEqual(sorted(first + [row for batch in one.seen for row in batch]), list(range(4 * BATCHES)))
        other = os.path.join(self.tmp, "of-one")
        self.training(other).run(save_every=4, stop=4)
        self.go(directory=other, save_every=1000, stop=7)
        rest = [row for e in self.end() for batch in e["seen"] for row in batch]
        self.assertEqual(len(rest), 24)
        self.assertEqual(len(set(rest)), 24)

    def test_a_damaged_one_and_a_rank_that_fails(self):
        started = time.monotonic()
        told = self.go(1, breaks=8)
        self.assertRegex(told, "saving step 8: rank 1: OSError: no room; nothing is left of this save")
        self.assertLess(time.monotonic() - started, 500)  # the patience of a rank is 600
        self.assertEqual(self.newest(), 4)
        self.go(save_every=2, stop=8)
        flip(os.path.join(self.dir, "checkpoint-8", "random_states_1.pkl"))
        told = self.go(1, load=os.path.join(self.dir, "checkpoint-8"))
        self.assertIn("checkpoint-8/random_states_1.pkl", told)
        self.assertIn("BadInput: rank 0: ", told)
        told = self.go(save_every=1000)
        self.assertEqual(told.count("checkpoint-8 is damaged and put aside"), 1, told)
        self.assertEqual(told.count("ingot: resumed at step 6"), 2, told)


if __name__ == "__main__":
    unittest.main()
