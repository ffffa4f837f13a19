"""Lightning's checkpoints by ingot: runs that are killed and resumed, and the two ways between ingot's and a plain Trainer's. Real trainings of a small model with dropout, batch norm and shuffling."""
import contextlib
import importlib.util
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
import warnings

HAVE = all(importlib.util.find_spec(m) for m in ("torch", "lightning"))
if HAVE:
    import logging

    import torch
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.plugins.io import AsyncCheckpointIO, TorchCheckpointIO

    import ingot
    from ingot import names
    from ingot.lightning import Checkpoint, CheckpointIO
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
import killing
from shared import Comparing, flip

STEPS = 40

if HAVE:
    class Net(pl.LightningModule):
        def __init__(self, width=16):
            super().__init__()
            self.save_hyperparameters()
            self.net = torch.nn.Sequential(torch.nn.Linear(8, width), torch.nn.BatchNorm1d(width), torch.nn.Dropout(0.2), torch.nn.Linear(width, 4))

        def training_step(self, batch, index):
            loss = (self.net(batch[0]) - batch[1]).pow(2).mean()
            self.log("loss", loss)
            return loss

        def validation_step(self, batch, index):
            self.log("val_loss", (self.net(batch[0]) - batch[1]).pow(2).mean())

        def configure_optimizers(self):
            o = torch.optim.AdamW(self.parameters(), lr=1e-2)
            return {"optimizer": o, "lr_scheduler": {"scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(o, STEPS), "interval": "step"}}

    class Began(pl.Callback):
        def __init__(self, began):
            self.began = began

        def on_train_batch_start(self, *args):
            self.began()

    class Plain(Checkpoint):
        """The generators and the place in the data alone: saving is Lightning's own."""
        state_key = "Checkpoint"

        def setup(self, trainer, pl_module, stage):
            pass

        def on_train_batch_end(self, *args):
            pass

    class Other(TorchCheckpointIO):
        pass

    class Slow(pl.Callback):
        """So that a random instant is somewhere in the run."""
        def on_train_batch_end(self, *args):
            import time
            time.sleep(0.01)


def rows(n=40):
    g = torch.Generator().manual_seed(1)
    return torch.utils.data.TensorDataset(torch.randn(n, 8, generator=g), torch.randn(n, 4, generator=g))


def loader(sampler=None):
    return ingot.loader(torch.utils.data.DataLoader(rows(), batch_size=5, shuffle=sampler is None, sampler=sampler))


def fit(callbacks, plugins=(), ckpt_path=None, data=None, module=None, **arguments):
    """A training of this process; its module and trainer."""
    torch.manual_seed(0)
    module = module or Net()
    given = {"max_steps": STEPS, "logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "devices": 1, **arguments}
    t = pl.Trainer(callbacks=list(callbacks), plugins=list(plugins), **given)
    t.fit(module, data or loader(), ckpt_path=ckpt_path)
    return module, t


def weights(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def by_model_checkpoint(directory, **options):
    return ModelCheckpoint(**{"dirpath": directory, "every_n_train_steps": 4, "save_top_k": 2, "monitor": "loss", "save_last": True, **options})


def run(began, directory, out, way):
    """One process of a training: from what is there to its end."""
    torch.set_num_threads(1)
    watched = [Began(began), Slow()]
    if way == "plain":
        module, _ = fit([*watched, Checkpoint()])
    elif way == "callback":
        module, _ = fit([*watched, Checkpoint(directory, cadence=ingot.Cadence(steps=3), keep=ingot.Keep(last=3))], ckpt_path=ingot.latest(directory))
    else:
        module, _ = fit([*watched, by_model_checkpoint(directory, **({"save_last": "link"} if way == "link" else {})), Checkpoint()], [CheckpointIO()], "last")
    torch.save(weights(module), out)


def of(directory):
    return sorted(n for n in os.listdir(directory) if n not in ("latest", "lease.json") and not n.startswith(".ingot-probe-"))  # as killing.left_over has it


def linked(directory):
    return {n: os.readlink(os.path.join(directory, n)) for n in os.listdir(directory) if os.path.islink(os.path.join(directory, n))}


@unittest.skipUnless(HAVE, "lightning or torch is not there")
class LightningCase(Comparing, unittest.TestCase):
    def setUp(self):
        tmp = tempfile.TemporaryDirectory()
        self.addCleanup(tmp.cleanup)
        self.tmp = tmp.name
        self.dir = os.path.join(self.tmp, "run")

    def place(self, *names_):
        return os.path.join(self.dir, *names_)

    def end(self):
        """The weights of a run that nothing stops and nothing saves."""
        return weights(fit([], enable_checkpointing=False)[0])

    def stopped(self, steps=20, **options):
        """A directory of a run that got so far, with a checkpoint every four."""
        return fit([by_model_checkpoint(self.dir, **options), Checkpoint()], [CheckpointIO()], max_steps=steps)

    def resumed(self, path="last", **arguments):
        return weights(fit([by_model_checkpoint(self.dir), Checkpoint()], [CheckpointIO()], path, **arguments)[0])


    def told(self, call):
        """What it gives, what it warns of, and what it says on stderr."""
        with contextlib.redirect_stderr(io.StringIO()) as said:
            out, warned = super().told(call)
        return out, warned + "\n" + said.getvalue()


class Killed(LightningCase):
    def survives(self, way):
        runs = killing.Runs(run, os.path.join(self.tmp, "log"), ["test_lightning"])
        arguments = {"directory": self.dir, "way": way}
        reference, end = os.path.join(self.tmp, "reference.pt"), os.path.join(self.tmp, "end.pt")
        self.assertEqual(runs.whole(directory=self.dir, way="plain", out=reference), 0, runs.text())
        codes = [runs.killed((0.02, 0.5), out=end, **arguments) for _ in range(5)]
        self.assertTrue(set(codes) <= {-signal.SIGKILL, 0}, (codes, runs.text()))
        self.assertIn(-signal.SIGKILL, codes)
        # One may have got to its end, or near: it has something to do again.
        for f in ingot._ingot.scan(self.dir):
            if f.step > 16:
                shutil.rmtree(f.path)
        runs.text()
        code = runs.killed((0.02, 0.1), signal.SIGTERM, out=end, **arguments)
        told = runs.text()
        self.assertEqual(code, 75, told)
        saved = ingot._ingot.scan(self.dir)[0].step
        self.assertIn(f"ingot: preempted: step {saved} is saved", told)
        code, told = runs.whole(out=end, **arguments), runs.text()
        self.assertEqual(code, 0, told)
        self.assertIn(f"ingot: resumed at step {saved} from {self.dir}/checkpoint-{saved}\n", told)
        self.assertNotIn("leaked", told)
        self.assertSame(torch.load(reference), torch.load(end))
        self.assertEqual([f.state for f in ingot._ingot.scan(self.dir) if f.state != "whole"], [])
        self.assertEqual(killing.left_over(self.dir), [])
        return saved

    def test_a_model_checkpoint_killed_five_times_and_preempted(self):
        saved = self.survives("plugin")
        kept = {os.path.dirname(t) for t in linked(self.dir).values()}
        self.assertLessEqual(len(kept), 3)  # two of the best, and the last
        self.assertEqual({n for n in of(self.dir) if n.startswith("checkpoint-")} - {f"checkpoint-{saved}"}, kept - {f"checkpoint-{saved}"})  # what was resumed from may have lost its name

    def test_with_a_link_as_the_last(self):
        self.survives("link")

    def test_the_callback_by_itself_killed_five_times_and_preempted(self):
        saved = self.survives("callback")
        self.assertLessEqual(len(of(self.dir)), 4)
        self.assertLessEqual({f"checkpoint-{s}" for s in (36, 39, 40)}, set(of(self.dir)))


class BothWays(LightningCase):
    def test_saves_change_nothing(self):
        module, _ = self.stopped(STEPS)
        self.assertSame(self.end(), weights(module))

    def test_same_contents_as_a_plain_trainers(self):
        self.stopped(12, save_top_k=-1, monitor=None)
        plain = os.path.join(self.tmp, "plain")
        fit([by_model_checkpoint(plain, save_top_k=-1, monitor=None), Plain()], max_steps=12)
        self.assertEqual([n for n in of(plain)], [n for n in of(self.dir) if n.endswith(".ckpt")])
        for name in ("epoch=0-step=4.ckpt", "epoch=1-step=12.ckpt", "last.ckpt"):
            a, b = (torch.load(os.path.join(d, name), weights_only=True) for d in (plain, self.dir))
            self.assertEqual(list(a), list(b))
            for key in ("state_dict", "optimizer_states", "lr_schedulers", "loops", "hyper_parameters"):
                self.assertEqual(repr(a[key]), repr(b[key]), (name, key))
        self.assertEqual([f.metrics.get("loss") is not None for f in ingot._ingot.scan(self.dir)], [False] * 3)  # no ModelCheckpoint has watched it

    def test_a_plain_trainer_resumes_from_ours_and_we_from_its(self):
        end = self.end()
        self.stopped(20, save_top_k=-1, monitor=None)
        plain = os.path.join(self.tmp, "plain")
        fit([by_model_checkpoint(plain, save_top_k=-1, monitor=None), Plain()], max_steps=20)
        for name in ("epoch=0-step=4.ckpt", "epoch=0-step=8.ckpt", "epoch=1-step=12.ckpt", "last.ckpt"):  # in an epoch, at its end, in the next
            theirs = fit([Plain()], (), self.place(name))[0]
            self.assertSame(end, weights(theirs))
            ours, told = self.told(lambda: fit([Checkpoint()], [CheckpointIO()], os.path.join(plain, name))[0])
            self.assertSame(end, weights(ours))
        module = Net.load_from_checkpoint(self.place("last.ckpt"))
        self.assertSame(torch.load(self.place("last.ckpt"))["state_dict"], weights(module))

    def test_a_plain_trainer_in_between(self):
        end = self.end()
        self.stopped(12)
        fit([by_model_checkpoint(self.dir), Plain()], (), "last", max_steps=20)
        self.assertFalse(os.path.islink(self.place("last.ckpt")))
        self.assertSame(end, self.resumed())
        self.assertEqual(os.readlink(self.place("last.ckpt")), "checkpoint-40/lightning.ckpt")

    def test_lightnings_own_asynchronous_wrapper(self):
        end = self.end()
        first = CheckpointIO()
        fit([by_model_checkpoint(self.dir), Checkpoint()], [AsyncCheckpointIO(first)], max_steps=20)
        first.teardown()  # which the wrapper does not hand on
        self.assertEqual(os.readlink(self.place("last.ckpt")), "checkpoint-20/lightning.ckpt")
        second = CheckpointIO()
        self.assertSame(end, weights(fit([by_model_checkpoint(self.dir), Checkpoint()], [AsyncCheckpointIO(second)], "last")[0]))
        second.teardown()

    def test_the_same_trainer_again(self):
        io = CheckpointIO()
        torch.manual_seed(0)
        module = Net()
        t = pl.Trainer(callbacks=[by_model_checkpoint(self.dir), Checkpoint()], plugins=[io], max_steps=12, logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
        t.fit(module, loader())
        t.fit_loop.epoch_loop.max_steps = STEPS
        t.fit(module, loader(), ckpt_path="last")
        self.assertSame(self.end(), weights(module))
        self.assertEqual(ingot._ingot.scan(self.dir)[0].step, STEPS)
        t.validate(module, torch.utils.data.DataLoader(rows(), batch_size=8), ckpt_path="best")

    def test_two_ranks_preempted_and_resumed(self):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ranks_lightning.py")

        def go(directory, stop, out):
            env = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(killing.free_port()), "WORLD_SIZE": "2", "NODE_RANK": "0"}
            both = [subprocess.Popen([sys.executable, "-B", script, directory, str(stop), out], env={**env, "LOCAL_RANK": str(r)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for r in (0, 1)]
            try:
                told = "".join(p.communicate(timeout=900)[0] for p in both)
            finally:
                for p in both:
                    p.kill()
            return {p.returncode for p in both}, told
        a, b = os.path.join(self.tmp, "a.pt"), os.path.join(self.tmp, "b.pt")
        codes, told = go(os.path.join(self.tmp, "never"), 0, a)
        self.assertEqual(codes, {0}, told)
        codes, told = go(self.dir, 7, b)
        self.assertEqual(codes, {75}, told)  # a signal to one rank alone
        saved = int(re.search(r"ingot: preempted: step (\d+) is saved", told)[1])
        self.assertIn(saved, (8, 9))  # rank 0 may have been asked for step 8 before rank 1 said that it was told to go
        codes, told = go(self.dir, 0, b)
        self.assertEqual(codes, {0}, told)
        self.assertIn(f"ingot: resumed at step {saved} from", told)
        self.assertSame(torch.load(a), torch.load(b))


    def test_preempted_in_a_second_fit(self):
        self.stopped(4)
        for number in (signal.SIGTERM, signal.SIGUSR1):
            class Signal(pl.Callback):
                def on_train_batch_start(self, trainer, *args):
                    if trainer.global_step == 7:
                        os.kill(os.getpid(), number)
            with self.assertRaises(SystemExit) as e:
                fit([Signal(), by_model_checkpoint(self.dir), Checkpoint()], [CheckpointIO()])
            self.assertEqual(e.exception.code, 75)
            self.assertEqual(os.readlink(self.place("last.ckpt")), "checkpoint-8/lightning.ckpt")

    def test_a_fit_after_one_that_ended_in_an_error_does_not_hear_its_signal(self):
        class Stop(pl.Callback):
            def on_train_batch_start(self, trainer, *args):
                if trainer.global_step == 2:
                    os.kill(os.getpid(), signal.SIGTERM)
                    raise RuntimeError("of the model")
        stop = Checkpoint()  # held, as a notebook holds it
        with self.assertRaisesRegex(RuntimeError, "of the model"):
            fit([Stop(), by_model_checkpoint(self.dir), stop], [CheckpointIO()])
        self.assertIsNone(stop._watch)
        self.assertSame(self.end(), weights(fit([by_model_checkpoint(self.dir), Checkpoint()], [CheckpointIO()])[0]))


class Meanings(LightningCase):
    def test_top_k_and_last(self):
        _, t = self.stopped(STEPS, filename="{step}-{loss:.3f}")
        best = t.checkpoint_callback.best_k_models
        links = linked(self.dir)
        self.assertEqual({os.path.basename(p) for p in best} | {"last.ckpt"}, set(links))
        self.assertEqual(links["last.ckpt"], f"checkpoint-{STEPS}/lightning.ckpt")
        self.assertEqual({n for n in of(self.dir) if n.startswith("checkpoint-")}, {os.path.dirname(t) for t in links.values()})
        for path, score in best.items():
            self.assertEqual(ingot._ingot.look_at(os.path.dirname(os.path.realpath(path))).metrics["loss"], float(score))
        for f in ingot._ingot.scan(self.dir):
            f.verify(1)

    def test_every_one_and_no_last(self):
        self.stopped(20, save_top_k=-1, save_last=None, monitor=None)
        self.assertEqual(sorted(os.readlink(self.place(n)) for n in of(self.dir) if n.endswith(".ckpt")), sorted(f"checkpoint-{s}/lightning.ckpt" for s in range(4, 21, 4)))

    def test_epochs_with_validation(self):
        kept = ModelCheckpoint(dirpath=self.dir, monitor="val_loss", save_top_k=1, save_last=True)
        torch.manual_seed(0)
        t = pl.Trainer(callbacks=[kept, Checkpoint()], plugins=[CheckpointIO()], max_epochs=4, logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu", num_sanity_val_steps=0)
        t.fit(Net(), loader(), torch.utils.data.DataLoader(rows(), batch_size=8))
        self.assertEqual(os.path.realpath(kept.best_model_path), os.path.realpath(self.place(os.readlink(self.place(os.path.basename(kept.best_model_path))))))
        self.assertLessEqual(len([n for n in of(self.dir) if n.startswith("checkpoint-")]), 2)

    def test_weights_alone_are_not_the_newest_of_a_run(self):
        fit([by_model_checkpoint(self.dir, save_weights_only=True, save_last=None, save_top_k=1, monitor=None), Checkpoint()], [CheckpointIO()], max_steps=12)
        self.assertEqual(linked(self.dir), {"epoch=1-step=12.ckpt": "weights-only/checkpoint-12/lightning.ckpt"})
        self.assertEqual(of(self.place("weights-only")), ["checkpoint-12"])
        self.assertIsNone(ingot.latest(self.dir))
        self.assertEqual(set(Net.load_from_checkpoint(self.place("epoch=1-step=12.ckpt")).state_dict()), set(Net().state_dict()))

    def test_a_save_of_the_program(self):
        _, t = self.stopped(12)
        t.save_checkpoint(self.place("mine.ckpt"))
        t.strategy.checkpoint_io.wait()
        self.assertEqual(os.readlink(self.place("mine.ckpt")), "checkpoint-12/lightning.ckpt")
        t.strategy.checkpoint_io.teardown()

    def test_best_by_a_logged_metric(self):
        fit([Checkpoint(self.dir, cadence=ingot.Cadence(steps=4), keep=ingot.Keep(best=2, metric="loss", last=1))])
        there = ingot._ingot.scan(self.dir)
        self.assertEqual(there[0].step, STEPS)
        self.assertLessEqual(len(there), 3)
        self.assertTrue(all("loss" in f.metrics for f in there))

    def test_without_links(self):
        original, os.symlink = os.symlink, lambda *a, **k: (_ for _ in ()).throw(OSError(95, "no links here"))
        try:
            end = self.end()
            _, t = self.stopped(20)
            self.assertEqual(names.target_of(self.place("last.ckpt")), os.path.realpath(self.place("checkpoint-20/lightning.ckpt")))
            self.assertEqual(len([n for n in of(self.dir) if n.startswith("checkpoint-")]), len({os.path.dirname(names.target_of(self.place(n))) for n in of(self.dir) if n.endswith(".ckpt")}))
            self.assertSame(end, self.resumed())
        finally:
            os.symlink = original


class BadInput(LightningCase):
    def test_a_damaged_one_is_put_aside_and_the_one_before_it_taken(self):
        end = self.end()
        self.stopped(20, save_top_k=-1, monitor=None)
        flip(self.place("checkpoint-20", "lightning.ckpt"), 4000)
        got, told = self.told(self.resumed)
        self.assertSame(end, got)
        self.assertIn("checkpoint-20 is damaged and put aside", told)
        self.assertIn("ingot: resumed at step 16", told)

    def test_a_torn_one_is_passed_over(self):
        end = self.end()
        self.stopped(20, save_top_k=-1, monitor=None)
        os.remove(self.place("checkpoint-20", "manifest.json"))
        got, told = self.told(self.resumed)
        self.assertSame(end, got)
        self.assertIn("ingot: resumed at step 16", told)

    def test_a_damaged_one_that_was_asked_for(self):
        self.stopped(20, save_top_k=-1, monitor=None)
        flip(self.place("checkpoint-12", "lightning.ckpt"), 4000)
        with self.assertRaisesRegex(ingot.BadInput, "checkpoint-12"):
            self.resumed(self.place("epoch=1-step=12.ckpt"))

    def test_a_plain_trainers_save_that_was_torn(self):
        end = self.end()
        self.stopped(12)
        fit([by_model_checkpoint(self.dir), Plain()], (), "last", max_steps=20)
        torn = self.place("last.ckpt")
        with open(torn, "r+b") as f:
            f.truncate(os.path.getsize(torn) // 2)
        got, told = self.told(self.resumed)
        self.assertSame(end, got)
        self.assertIn("last.ckpt is passed over", told)
        other = self.place("other.ckpt")
        with open(other, "wb") as f:
            f.write(b"PK\x03\x04" + bytes(100))
        with self.assertRaisesRegex(ingot.BadInput, "other.ckpt.*newest that is"):
            self.resumed(other)

    def test_nothing_there(self):
        self.resumed("last", max_steps=8)  # a fresh start, as without ingot
        with self.assertRaisesRegex(FileNotFoundError, "no whole checkpoint in"):
            self.resumed(os.path.join(self.tmp, "nowhere"))

    def test_another_models_checkpoint(self):
        self.stopped(12)
        with self.assertRaisesRegex(RuntimeError, "size mismatch"):
            self.resumed(module=Net(24))

    def test_a_checkpoint_of_a_plain_loop(self):
        model = torch.nn.Linear(2, 2)
        with ingot.Checkpointer(self.dir, signals=False) as ck:
            ck.save(3, {"model": model})
        with self.assertRaisesRegex(ingot.BadInput, "none of its 1 checkpoints|no lightning.ckpt"):
            self.resumed(self.dir)

    def test_a_disk_that_is_full_is_told(self):
        io = CheckpointIO()
        os.makedirs(self.dir)
        with open(self.place("checkpoint-4"), "w") as f:
            f.write("in the way")
        with self.assertRaises(Exception) as e:
            fit([by_model_checkpoint(self.dir), Checkpoint()], [io])
        self.assertIn("checkpoint-4", str(e.exception))

    def test_options_and_paths_that_cannot_be(self):
        for name in ("keep", "cadence", "compress", "signals"):
            with self.assertRaisesRegex(ValueError, f"{name} is no option here"):
                CheckpointIO(**{name: None})
        with self.assertRaisesRegex(ValueError, "need a directory"):
            Checkpoint(cadence=ingot.Cadence(steps=3))
        with self.assertRaisesRegex(ValueError, "mount the bucket"):
            CheckpointIO().save_checkpoint({"global_step": 1}, "s3://bucket/a.ckpt")
        with self.assertRaisesRegex(TypeError, "storage_options"):
            CheckpointIO().save_checkpoint({"global_step": 1}, self.place("a.ckpt"), 3)
        with self.assertRaisesRegex(ValueError, "global_step"):
            CheckpointIO().save_checkpoint({}, self.place("a.ckpt"))
        with self.assertRaisesRegex(TypeError, "the Trainer's CheckpointIO is a"):
            fit([Checkpoint()], [Other()])
        with self.assertRaisesRegex(ValueError, "another dirpath"):
            fit([by_model_checkpoint(self.dir), Checkpoint(self.dir, keep=ingot.Keep(last=1))], [CheckpointIO()])


if __name__ == "__main__":
    unittest.main()
