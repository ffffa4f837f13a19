"""Trainer's checkpoints by ingot: runs that are killed and resumed, and the two ways between ingot's and a plain Trainer's. Real trainings of a tiny Llama with dropout and shuffling."""
import glob
import importlib.util
import os
import random
import shutil
import signal
import tempfile
import time
import unittest
import zipfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
HAVE = all(importlib.util.find_spec(m) for m in ("torch", "transformers", "accelerate"))
if HAVE:
    import torch
    import transformers
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

    import ingot
    import ingot.transformers
    from ingot.transformers import attach
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
import killing
from shared import Comparing, flip

STEPS = 40


def model(dropout=0.2):
    torch.manual_seed(7)
    return LlamaForCausalLM(LlamaConfig(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, vocab_size=48, max_position_embeddings=16,
                                        attention_dropout=dropout))


def trainer(directory, module=None, cls=None, callbacks=None, tokenizer=None, **arguments):
    rows = torch.randint(0, 48, (80, 12), generator=torch.Generator().manual_seed(1))
    data = [{"input_ids": r, "labels": r} for r in rows]
    given = {"per_device_train_batch_size": 4, "num_train_epochs": 2, "save_steps": 4, "logging_steps": 5, "learning_rate": 1e-2, "report_to": [], "disable_tqdm": True, "use_cpu": True, **arguments}
    return (cls or Trainer)(module if module is not None else model(), TrainingArguments(output_dir=directory, **given), train_dataset=data, eval_dataset=data[:8], callbacks=callbacks,
                            processing_class=tokenizer)


def weights(t):
    return {k: v.clone() for k, v in t.model.state_dict().items()}


if HAVE:
    class Began(TrainerCallback):
        def __init__(self, began):
            self.began = began

        def on_step_begin(self, *args, **kwargs):
            self.began()


def run(began, directory, out, plain=False, peft=False, options=None, arguments=None):
    """One process of a training: from what is there to its end."""
    torch.set_num_threads(1)
    module = model()
    if peft:
        import peft
        torch.manual_seed(8)
        module = peft.get_peft_model(module, peft.LoraConfig(r=2, lora_dropout=0.1, target_modules=["q_proj", "v_proj"]))
    t = trainer(directory, module, callbacks=[Began(began)], **(arguments or {}))
    if not plain:
        attach(t, **(options or {}))
    t.train(resume_from_checkpoint=not plain)
    torch.save(weights(t), out)


def resumed(began, directory, out, arguments):
    torch.set_num_threads(1)
    t = trainer(directory, **arguments)
    attach(t)
    t.train(resume_from_checkpoint=True)
    torch.save({"weights": weights(t), "best": (t.state.best_global_step, t.state.best_metric)}, out)


def steps_in(directory):
    return sorted(int(p.rpartition("-")[2]) for p in glob.glob(os.path.join(directory, "checkpoint-*")))


@unittest.skipUnless(HAVE, "transformers, accelerate or torch is not there")
class TransformersCase(Comparing, unittest.TestCase):
    def setUp(self):
        tmp = tempfile.TemporaryDirectory()
        self.addCleanup(tmp.cleanup)
        self.tmp = tmp.name
        self.dir = os.path.join(self.tmp, "run")

    def trained(self, directory=None, resume=None, options=None, plain=False, **arguments):
        """A training of this process; its trainer."""
        t = trainer(directory or self.dir, **arguments)
        if not plain:
            attach(t, signals=False, **(options or {}))
        t.train(resume_from_checkpoint=resume)
        return t


class Killed(TransformersCase):
    def survives(self, **arguments):
        runs = killing.Runs(run, os.path.join(self.tmp, "log"), ["test_transformers"])
        arguments.setdefault("directory", self.dir)
        reference, end = os.path.join(self.tmp, "reference.pt"), os.path.join(self.tmp, "end.pt")
        self.assertEqual(runs.whole(**{**arguments, "directory": os.path.join(self.tmp, "never"), "plain": True}, out=reference), 0, runs.text())
        codes = [runs.killed((0.02, 0.9), out=end, **arguments) for _ in range(5)]
        self.assertTrue(set(codes) <= {-signal.SIGKILL, 0}, (codes, runs.text()))
        self.assertIn(-signal.SIGKILL, codes)
        for step in steps_in(self.dir):  # one may have got to its end, or near: it has something to do again
            if step > 16:
                shutil.rmtree(os.path.join(self.dir, f"checkpoint-{step}"))
        runs.text()
        code = runs.killed((0.02, 0.2), signal.SIGTERM, out=end, **arguments)
        told = runs.text()
        self.assertEqual(code, 75, told)
        self.assertIn("ingot: preempted: step", told)
        saved = max(steps_in(self.dir))
        self.assertIn(f"step {saved} is saved", told)
        if os.path.exists(end):
            os.remove(end)
        code, told = runs.whole(out=end, **arguments), runs.text()
        self.assertEqual(code, 0, told)
        self.assertIn(f"ingot: resumed at step {saved} from {self.dir}/checkpoint-{saved}\n", told)
        self.assertSame(torch.load(reference), torch.load(end))
        self.assertEqual([f.state for f in ingot._ingot.scan(self.dir) if f.state != "whole"], [])
        self.assertEqual(killing.left_over(self.dir), [])

    def test_killed_five_times_and_preempted(self):
        self.survives()

    def test_a_peft_model_likewise(self):
        if not importlib.util.find_spec("peft"):
            self.skipTest("peft is not there")
        self.survives(peft=True, arguments={"save_total_limit": 2, "gradient_accumulation_steps": 2, "num_train_epochs": 4})
        newest = os.path.join(self.dir, f"checkpoint-{max(steps_in(self.dir))}")
        self.assertTrue({"adapter_model.safetensors", "adapter_config.json", "optimizer.pt", "manifest.json"} <= set(os.listdir(newest)))
        self.assertFalse(os.path.exists(os.path.join(newest, "model.safetensors")))
        import peft
        peft.PeftModel.from_pretrained(model(), newest)


class BothWays(TransformersCase):
    def test_same_files_and_weights_as_a_plain_trainer(self):
        mine = self.trained()
        plain = self.trained(os.path.join(self.tmp, "plain"), plain=True)
        self.assertSame(weights(plain), weights(mine))
        theirs, ours = os.path.join(self.tmp, "plain", "checkpoint-12"), os.path.join(self.dir, "checkpoint-12")
        self.assertEqual(set(os.listdir(theirs)) - {"training_args.bin"}, set(os.listdir(ours)) - {"manifest.json", "state.json", "training_args.json"})
        for name in ("optimizer.pt", "scheduler.pt"):
            a, b = (torch.load(os.path.join(p, name), weights_only=True) for p in (theirs, ours))
            self.assertEqual(repr(a), repr(b))
            self.assertIsNone(zipfile.ZipFile(os.path.join(ours, name)).testzip())
        a, b = (ingot.transformers.layouts.read_json(os.path.join(p, "trainer_state.json")) for p in (theirs, ours))
        self.assertEqual(set(a), set(b))
        self.assertEqual({k: a[k] for k in ("global_step", "epoch", "max_steps", "best_model_checkpoint")}, {k: b[k] for k in ("global_step", "epoch", "max_steps", "best_model_checkpoint")})
        self.assertEqual([(f.step, f.state) for f in ingot._ingot.scan(self.dir)], [(s, "whole") for s in range(STEPS, 0, -4)])
        for f in ingot._ingot.scan(self.dir):
            f.verify(1)
        self.assertEqual(ingot.latest(self.dir), os.path.join(self.dir, f"checkpoint-{STEPS}"))
        self.assertIn("loss", ingot._ingot.look_at(os.path.join(self.dir, "checkpoint-20")).metrics)

    def test_a_plain_trainer_resumes_from_ours_and_we_from_its(self):
        end = weights(self.trained())
        plain = os.path.join(self.tmp, "plain")
        self.trained(plain, plain=True)
        for step in (12, 20, 28):  # in an epoch, at its end, in the next
            other = os.path.join(self.tmp, f"other-{step}")
            self.assertSame(end, weights(self.trained(other, os.path.join(self.dir, f"checkpoint-{step}"), plain=True)))
            t, told = self.told(lambda: self.trained(other + "-ours", os.path.join(plain, f"checkpoint-{step}")))
            self.assertSame(end, weights(t))

    def test_goes_on_in_a_plain_trainers_directory(self):
        end = weights(self.trained(plain=True))
        for step in range(28, STEPS + 1, 4):
            shutil.rmtree(os.path.join(self.dir, f"checkpoint-{step}"))
        self.assertSame(end, weights(self.trained(resume=True, save_total_limit=1)))
        self.assertEqual(steps_in(self.dir), [4, 8, 12, 16, 20, 24, STEPS])  # what is not ours stays

    def test_a_plain_trainer_that_went_further_is_the_newest(self):
        self.trained(max_steps=12)
        self.trained(resume=os.path.join(self.dir, "checkpoint-12"), plain=True, max_steps=20)
        _, told = self.told(lambda: self.trained(resume=True, max_steps=24))
        self.assertEqual(told, "")
        self.assertEqual([f.step for f in ingot._ingot.scan(self.dir) if f.state == "whole"][0], 24)
        self.assertEqual([f.step for f in ingot._ingot.scan(self.dir) if f.state == "unverified"], [20, 16])

    def test_a_state_of_ones_own_is_restored_from_a_trainers_checkpoint(self):
        t = self.trained()
        other = trainer(os.path.join(self.tmp, "other"))
        state = {"model": other.model, "optimizer": other.create_optimizer(), "rng": ingot.rng()}
        random.seed(4)
        with ingot.Checkpointer(self.dir, signals=False) as ck:
            self.assertEqual(ck.restore(state), STEPS)
        self.assertSame(weights(t), weights(other))
        self.assertEqual(repr(t.optimizer.state_dict()["state"]), repr(state["optimizer"].state_dict()["state"]))

    def test_a_tokenizer_and_a_subclass_that_saves_more(self):
        from tokenizers import Tokenizer, models
        from transformers import PreTrainedTokenizerFast
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?")), unk_token="?", pad_token="?")

        class More(Trainer):
            def _save_checkpoint(self, *args, **kwargs):
                super()._save_checkpoint(*args, **kwargs)
                with open(os.path.join(self._get_output_dir(None), f"checkpoint-{self.state.global_step}", "more.txt"), "w") as f:
                    f.write("more")
        self.trained(cls=More, tokenizer=tokenizer, max_steps=8)
        names = set(os.listdir(os.path.join(self.dir, "checkpoint-8")))
        self.assertTrue({"more.txt", "tokenizer.json", "tokenizer_config.json", "model.safetensors", "manifest.json"} <= names, names)
        PreTrainedTokenizerFast.from_pretrained(os.path.join(self.dir, "checkpoint-8"))

    def test_a_plain_module(self):
        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                torch.manual_seed(5)
                self.e, self.d = torch.nn.Embedding(48, 8), torch.nn.Dropout(0.2)
                self.o = torch.nn.Linear(8, 48)

            def forward(self, input_ids, labels):
                y = self.o(self.d(self.e(input_ids)))
                return {"loss": torch.nn.functional.cross_entropy(y.flatten(0, 1), labels.flatten()), "logits": y}
        end = weights(self.trained(module=Net()))
        self.assertSame(end, weights(self.trained(os.path.join(self.tmp, "b"), os.path.join(self.dir, "checkpoint-12"), module=Net())))
        self.assertSame(end, weights(self.trained(os.path.join(self.tmp, "c"), os.path.join(self.dir, "checkpoint-12"), module=Net(), plain=True)))

    def test_frozen_parameters_are_written_once(self):
        def frozen():
            m = model()
            m.model.embed_tokens.weight.requires_grad_(False)
            return m
        end = weights(self.trained(module=frozen()))
        names = os.listdir(os.path.join(self.dir, "checkpoint-20"))
        self.assertIn("model.safetensors.index.json", names)
        self.assertGreater(os.stat(os.path.join(self.dir, "checkpoint-20", "model-00001-of-00002.safetensors")).st_nlink, 1)
        self.assertSame(end, weights(self.trained(os.path.join(self.tmp, "c"), os.path.join(self.dir, "checkpoint-20"), module=frozen(), plain=True)))


class Meanings(TransformersCase):
    def test_save_total_limit(self):
        self.trained(save_total_limit=3)
        self.assertEqual(steps_in(self.dir), [32, 36, 40])

    def best(self, plain, limit, values=(3, 1, 2, 5, 4, 1.5, 1, 6, 7, 8), **arguments):
        given = iter(values)

        class Given(TrainerCallback):
            def on_evaluate(self, args, state, control, metrics, **kwargs):
                metrics["eval_it"] = next(given)
        directory = os.path.join(self.tmp, f"best-{plain}-{limit}")
        t = self.trained(directory, plain=plain, callbacks=[Given()], eval_strategy="steps", eval_steps=4, load_best_model_at_end=True, metric_for_best_model="it", greater_is_better=False,
                         save_total_limit=limit, per_device_eval_batch_size=8, **arguments)
        return t, directory

    def test_load_best_model_at_end(self):
        for limit in (None, 1, 3):
            (theirs, there), (mine, here) = self.best(True, limit), self.best(False, limit)
            self.assertEqual((mine.state.best_metric, mine.state.best_global_step), (1, 8))
            self.assertEqual(mine.state.best_model_checkpoint, os.path.join(here, "checkpoint-8"))
            self.assertEqual(theirs.state.best_model_checkpoint, os.path.join(there, "checkpoint-8"))
            self.assertSame(weights(theirs), weights(mine))
            self.assertEqual(steps_in(here), steps_in(there), limit)
            told = ingot.transformers.layouts.read_json(os.path.join(here, f"checkpoint-{max(steps_in(here))}", "trainer_state.json"))
            self.assertEqual(told["best_model_checkpoint"], os.path.join(here, "checkpoint-8"))

    def test_save_strategy_best(self):
        (theirs, there), (mine, here) = self.best(True, None, save_strategy="best"), self.best(False, None, save_strategy="best")
        self.assertEqual((steps_in(here), steps_in(there)), ([4, 8], [4, 8]))
        name = theirs.state.best_model_checkpoint  # 4.57 has none there
        self.assertEqual(mine.state.best_model_checkpoint, name and name.replace(there, here))
        self.assertSame(weights(theirs), weights(mine))

    def test_the_best_that_is_damaged_is_not_loaded(self):
        class Breaks(TrainerCallback):
            def on_step_end(_, args, state, control, **kwargs):
                if state.global_step == 39:
                    flip(os.path.join(args.output_dir, "checkpoint-8", "model.safetensors"))
        with self.assertRaisesRegex(ingot.BadInput, "checkpoint-8/model.safetensors"):
            directory = os.path.join(self.tmp, "best")
            given = iter((3, 1, 2, 5, 4, 1.5, 1, 6, 7, 8))

            class Given(TrainerCallback):
                def on_evaluate(self, args, state, control, metrics, **kwargs):
                    metrics["eval_it"] = next(given)
            self.trained(directory, callbacks=[Given(), Breaks()], eval_strategy="steps", eval_steps=4, load_best_model_at_end=True, metric_for_best_model="it", greater_is_better=False)

    def test_save_strategy_epoch_and_no_and_a_cadence(self):
        self.trained(save_strategy="epoch")
        self.assertEqual(steps_in(self.dir), [20, 40])
        other = os.path.join(self.tmp, "no")
        self.trained(other, save_strategy="no")
        self.assertEqual(steps_in(other), [])
        self.trained(other, save_strategy="no", options={"cadence": ingot.Cadence(steps=15)})
        self.assertEqual(steps_in(other), [15, 30])

    def test_keep_and_other_options(self):
        self.trained(options={"keep": ingot.Keep(last=1, every_steps=16), "wait": True, "threads": 1})
        self.assertEqual(steps_in(self.dir), [16, 32, 40])
        with self.assertRaisesRegex(ValueError, "compress is no option here: a plain Trainer reads these files"):
            attach(trainer(self.dir), compress="zstd")
        with self.assertRaisesRegex(TypeError, "unexpected keyword"):
            attach(trainer(self.dir), nonsense=1)

    def test_on_save_sees_the_checkpoint_when_it_waits(self):
        seen = []

        class Looks(TrainerCallback):
            def on_save(self, args, state, control, **kwargs):
                seen.append(os.path.exists(os.path.join(args.output_dir, f"checkpoint-{state.global_step}", "manifest.json")))
        self.trained(callbacks=[Looks()], options={"wait": True})
        self.assertEqual(seen, [True] * 10)

    def test_attach_twice_and_detach(self):
        t = trainer(self.dir, max_steps=4)
        attached = attach(t, signals=False)
        with self.assertRaisesRegex(ValueError, "attached already"):
            attach(t)
        attached.detach()
        t.train()
        self.assertNotIn("manifest.json", os.listdir(os.path.join(self.dir, "checkpoint-4")))

    def test_what_is_no_trainer(self):
        with self.assertRaisesRegex(TypeError, r"has no train, _save_checkpoint.*expected a transformers.Trainer"):
            attach(object())

    def test_an_error_of_a_save_ends_the_training(self):
        class Breaks(TrainerCallback):
            def on_step_end(self, args, state, control, **kwargs):
                if state.global_step == 5:
                    while os.path.isdir(args.output_dir):
                        shutil.rmtree(args.output_dir, ignore_errors=True)
                    with open(args.output_dir, "w") as f:
                        f.write("no directory")
        with self.assertRaisesRegex(ValueError, "checkpoint-[48]: .* is no directory"):
            self.trained(callbacks=[Breaks()], options={"wait": True})  # else a save of before may still be writing into what goes away


class Ends(TransformersCase):
    """SIGTERM where it hurts, in this process."""

    def preempted(self, at, **arguments):
        class Signals(TrainerCallback):
            def on_step_end(self, args, state, control, **kwargs):
                if state.global_step == at:
                    os.kill(os.getpid(), signal.SIGTERM)
        t = trainer(self.dir, **arguments)
        t.add_callback(Signals())
        attach(t)
        t.callback_handler.callbacks.insert(0, t.callback_handler.callbacks.pop(-2))  # before ours
        with self.assertRaises(SystemExit) as end:
            t.train(resume_from_checkpoint=True)
        self.assertEqual(end.exception.code, 75)

    def goes_on(self, at, **arguments):
        given = {"per_device_eval_batch_size": 4, **arguments}
        whole = self.trained(os.path.join(self.tmp, "whole"), plain=True, **given)
        self.preempted(at, **given)
        self.assertEqual(max(steps_in(self.dir)), at)
        ingot._ingot.look_at(os.path.join(self.dir, f"checkpoint-{at}")).verify(1)
        t = self.resumed_in_a_process(given)
        self.assertSame(weights(whole), t["weights"])
        self.assertEqual((whole.state.best_global_step, whole.state.best_metric), t["best"])

    def resumed_in_a_process(self, given):
        out = os.path.join(self.tmp, "out.pt")
        runs = killing.Runs(resumed, os.path.join(self.tmp, "log"), ["test_transformers"])
        code = runs.whole(directory=self.dir, out=out, arguments=given)
        self.assertEqual(code, 0, runs.text())
        return torch.load(out)

    def test_an_evaluation_that_is_due(self):
        best = {"load_best_model_at_end": True, "metric_for_best_model": "loss"}
        self.goes_on(8, eval_strategy="steps", eval_steps=4, max_steps=24, **best)

    def test_an_evaluation_at_the_end_of_an_epoch(self):
        self.goes_on(20, eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True, metric_for_best_model="loss")

    def test_the_last_step(self):
        self.goes_on(24, eval_strategy="steps", eval_steps=4, max_steps=24, load_best_model_at_end=True, metric_for_best_model="loss")

    def test_a_run_that_had_ended_makes_no_step_more(self):
        end = weights(self.trained(max_steps=23))
        t = self.trained(resume=os.path.join(self.dir, "checkpoint-23"), max_steps=23)
        self.assertEqual(t.state.global_step, 23)
        self.assertSame(end, weights(t))
        self.assertEqual(max(steps_in(self.dir)), 23)


class Damage(TransformersCase):
    def setUp(self):
        super().setUp()
        self.end = weights(self.trained(max_steps=24))

    def resumed(self, at, *said):
        t, told = self.told(lambda: self.trained(resume=True, max_steps=24))
        self.assertSame(self.end, weights(t))
        for text in said:
            self.assertIn(text, told)
        newest = [f for f in ingot._ingot.scan(self.dir) if f.state == "whole"][0]
        self.assertEqual(newest.step, 24)

    def test_a_bit_in_each_kind_of_file(self):
        for name in ("model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json"):
            path = os.path.join(self.dir, "checkpoint-24", name)
            flip(path)
            self.resumed(20, f"{self.dir}/checkpoint-24 is damaged and put aside: ", name)

    def test_torn_ones(self):
        os.remove(os.path.join(self.dir, "checkpoint-24", "manifest.json"))
        os.truncate(os.path.join(self.dir, "checkpoint-20", "optimizer.pt"), 1000)
        self.resumed(16, "checkpoint-24 is passed over: ", "checkpoint-20 is passed over: ", "its save did not end", "has 1000 bytes, its manifest says")

    def test_one_that_is_asked_for_by_name_is_an_error(self):
        path = os.path.join(self.dir, "checkpoint-12")
        flip(os.path.join(path, "optimizer.pt"))
        with self.assertRaisesRegex(ingot.BadInput, "checkpoint-12/optimizer.pt"):
            self.trained(resume=path, max_steps=24)
        self.trained(resume=os.path.join(self.dir, "latest"), max_steps=24)

    def test_nothing_is_left(self):
        for step in steps_in(self.dir):
            flip(os.path.join(self.dir, f"checkpoint-{step}", "model.safetensors"))
        with self.assertRaisesRegex(ingot.BadInput, "none of its 6 checkpoints can be resumed from"):
            self.told(lambda: self.trained(resume=True, max_steps=24))

    def test_a_fresh_start_where_there_is_none(self):
        t = self.trained(os.path.join(self.tmp, "fresh"), resume=True, max_steps=24)
        self.assertSame(self.end, weights(t))

    def test_plain_ones_torn_by_their_own_save(self):
        """In the order in which Trainer writes: model, config, training_args, optimizer, scheduler, rng_state, trainer_state."""
        plain = os.path.join(self.tmp, "plain")
        self.trained(plain, plain=True, max_steps=24)
        order = ["config.json", "generation_config.json", "model.safetensors", "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"]
        self.assertEqual(sorted(order), sorted(os.listdir(os.path.join(plain, "checkpoint-24"))))
        for i, name in enumerate(order):
            for part in (0.0, 0.5, 0.97):
                directory = os.path.join(self.tmp, f"torn-{i}-{part}")
                for step in (20, 24):
                    shutil.copytree(os.path.join(plain, f"checkpoint-{step}"), os.path.join(directory, f"checkpoint-{step}"))
                torn = os.path.join(directory, "checkpoint-24")
                for later in order[i + 1:]:
                    os.remove(os.path.join(torn, later))
                path = os.path.join(torn, name)
                os.truncate(path, int(os.path.getsize(path) * part))
                found, told = self.told(lambda: ingot.transformers.layouts.Chooser(ingot.transformers._check_complete, ingot.transformers._check_plain).newest(directory))
                self.assertEqual(found.step, 20, (name, part))
                self.assertIn(f"{torn} is passed over: ", told)
        # And a whole run: the torn one's name is taken, and what lay there is kept.
        t, told = self.told(lambda: self.trained(directory, resume=True, max_steps=24))
        self.assertSame(self.end, weights(t))
        self.assertIn(f"it is {directory}/other-checkpoint-24 now", told)
        self.assertEqual(ingot.latest(directory), torn)

    def test_a_plain_one_with_a_damaged_byte(self):
        plain = os.path.join(self.tmp, "plain")
        self.trained(plain, plain=True, max_steps=24)
        flip(os.path.join(plain, "checkpoint-24", "optimizer.pt"), 30000)
        t, told = self.told(lambda: self.trained(plain, resume=True, max_steps=24))
        self.assertSame(self.end, weights(t))
        self.assertIn("checkpoint-24 is passed over: ", told)

    def test_one_of_save_only_model_is_passed_over(self):
        self.trained(resume=True, max_steps=28, save_only_model=True)
        t, told = self.told(lambda: self.trained(resume=True, max_steps=24))
        self.assertIn("it was saved with save_only_model", told)
        self.assertSame(self.end, weights(t))


class Ranks(killing.OfRanks, TransformersCase):
    """Two processes under DistributedDataParallel, with gloo."""

    def setUp(self):
        super().setUp()
        import ranks_transformers
        self.runs = killing.Runs(ranks_transformers.run, os.path.join(self.tmp, "log"), ["ranks_transformers"])

    def began(self, world=2, directory=None, out="end", **options):
        return self.started(world, directory=directory or self.dir, out=os.path.join(self.tmp, f"{out}.pt"), port=killing.free_port(), **options)

    def end(self, name="end"):
        return torch.load(os.path.join(self.tmp, f"{name}.pt"))

    def newest(self):
        return next((f.step for f in ingot._ingot.scan(self.dir) if f.state == "whole"), 0) if os.path.isdir(self.dir) else 0

    def killed(self, who, within=(0.0, 1.2), **options):
        """SIGKILL of those ranks at a random instant after the first step; the others end by themselves."""
        processes = self.began(options={"rank_timeout": 20}, **options)
        while not self.runs.began.wait(0.05) and any(p.is_alive() for p in processes):
            pass
        time.sleep(random.uniform(*within))
        for r in who:
            if processes[r].is_alive():
                processes[r].kill()
                killing.count(signal.SIGKILL)
        return self.ended(processes)

    def test_killed_preempted_and_resumed(self):
        self.go(directory=os.path.join(self.tmp, "never"), out="reference", plain=True, resume=None)
        killed = 0
        for who in ((0, 1), (1,), (0,)):
            before = self.newest()
            codes, told = self.killed(who, slow=0.02)
            killed += any(codes[r] == -signal.SIGKILL for r in who)
            self.assertGreaterEqual(self.newest(), before, told[-6000:])
            for step in steps_in(self.dir) if os.path.isdir(self.dir) else ():  # one may have got to its end, or near: it has something to do again
                if step > 8:
                    shutil.rmtree(os.path.join(self.dir, f"checkpoint-{step}"))
        self.assertGreater(killed, 0)
        at = self.newest() + 3
        told = self.go(75, signal_at=at)  # to rank 1 alone
        saved = self.newest()
        self.assertIn(saved, (at, at + 1))  # rank 0 may have been asked before rank 1 said that it was told to go
        self.assertEqual(told.count(f"ingot: preempted: step {saved} is saved"), 1)
        told = self.go()
        self.assertEqual(told.count(f"ingot: resumed at step {saved} from {self.dir}/checkpoint-{saved}\n"), 2, told)
        self.assertSame(self.end("reference"), self.end())
        self.assertEqual([f.state for f in ingot._ingot.scan(self.dir) if f.state != "whole"], [])
        self.assertEqual(killing.left_over(self.dir), [])
        newest = ingot._ingot.scan(self.dir)[0]
        self.assertEqual((newest.step, newest.world), (16, 2))
        newest.verify(1)

    def test_both_ways_with_a_plain_trainer_and_other_numbers_of_processes(self):
        plain, short = os.path.join(self.tmp, "plain"), {"max_steps": 8}
        self.go(arguments=short)
        end = self.end()
        self.go(arguments=short, directory=plain, plain=True, resume=None)
        self.assertSame(end, self.end())
        ours, theirs = (set(os.listdir(os.path.join(d, "checkpoint-4"))) for d in (self.dir, plain))
        self.assertEqual(theirs - {"training_args.bin"}, ours - {"manifest.json", "state.json", "training_args.json"})
        self.assertLessEqual({"rng_state_0.pth", "rng_state_1.pth"}, ours)
        for name in ("rng_state_0.pth", "rng_state_1.pth", "optimizer.pt"):
            a, b = (torch.load(os.path.join(d, "checkpoint-4", name), weights_only=False) for d in (self.dir, plain))
            self.assertEqual(repr(a), repr(b), name)
        of_two = os.path.join(self.tmp, "of-two")
        shutil.copytree(os.path.join(self.dir, "checkpoint-4"), os.path.join(of_two, "checkpoint-4"))
        self.go(arguments=short, directory=plain + "-2", plain=True, resume=os.path.join(self.dir, "checkpoint-4"))
        self.assertSame(end, self.end())
        self.go(arguments=short, directory=plain + "-3", resume=os.path.join(plain, "checkpoint-4"))
        self.assertSame(end, self.end())
        # By another number of processes: as the plain one does.
        ends = [weights(self.trained(os.path.join(self.tmp, f"one-{p}"), os.path.join(of_two, "checkpoint-4"), plain=p, **short)) for p in (True, False)]
        self.assertSame(*ends)
        of_one = os.path.join(self.tmp, "of-one")
        self.trained(of_one, max_steps=4)
        for p in (True, False):
            told = self.go(arguments=short, directory=f"{of_one}-{p}", plain=p, resume=os.path.join(of_one, "checkpoint-4"))
            ends.append(self.end())
        self.assertEqual(told.count("ingot: resumed at step 4"), 2)
        self.assertSame(*ends[2:])

    def test_a_damaged_one_is_put_aside_once(self):
        self.go(arguments={"max_steps": 8})
        end = self.end()
        flip(os.path.join(self.dir, "checkpoint-8", "rng_state_1.pth"))
        told = self.go(arguments={"max_steps": 8})
        self.assertEqual(told.count("checkpoint-8 is damaged and put aside"), 1, told)
        self.assertEqual(told.count("ingot: resumed at step 4"), 2)
        self.assertSame(end, self.end())
        for step in (4, 8):
            flip(os.path.join(self.dir, f"checkpoint-{step}", "optimizer.pt"))
        told = self.go(1, arguments={"max_steps": 8})
        self.assertIn("BadInput: rank 0: ", told)
        self.assertEqual(told.count(f"checkpoints can be resumed from: 'ingot checkpoint rescue {self.dir}'"), 2, told)

    def test_a_rank_that_fails_or_dies_in_its_part(self):
        evaluated = {"eval_strategy": "steps", "eval_steps": 4, "metric_for_best_model": "it", "load_best_model_at_end": True, "max_steps": 12}  # a barrier is in the save
        for on, where in ((1, "rng"), (0, "model")):
            shutil.rmtree(self.dir, ignore_errors=True)
            started = time.monotonic()
            told = self.go(1, arguments=evaluated, best=[1, 2, 3], breaks={"at": 8, "on": on, "where": where})
            self.assertIn(f"saving step 8: rank {on}: OSError: no room on the {where}; nothing is left of this save", told)
            self.assertIn(f"\nOSError: no room on the {where}", told)
            self.assertLess(time.monotonic() - started, 500)  # the patience of a rank is 600
            self.assertEqual(self.newest(), 4)
        codes, told = self.ended(self.began(arguments=evaluated, best=[1, 2, 3], breaks={"at": 8, "on": 1, "where": "rng", "die": True}, options={"rank_timeout": 10}))
        self.assertEqual(codes, [1, -signal.SIGKILL], told[-6000:])
        self.assertIn("'part': rank 1 of 2 has not come within 10 s", told)
        self.assertEqual(self.newest(), 4)

    def test_the_best_the_limit_and_clocks_that_differ(self):
        given = {"eval_strategy": "steps", "eval_steps": 4, "metric_for_best_model": "it", "greater_is_better": False, "load_best_model_at_end": True, "save_total_limit": 1, "max_steps": 12}
        plain = os.path.join(self.tmp, "plain")
        self.go(arguments=given, best=[3, 1, 2], directory=plain, plain=True, resume=None)
        theirs = self.end()
        self.go(arguments=given, best=[3, 1, 2])
        self.assertSame(theirs["weights"], self.end()["weights"])
        self.assertEqual((self.end()["best"], theirs["best"]), (os.path.join(self.dir, "checkpoint-8"), os.path.join(plain, "checkpoint-8")))
        self.assertEqual(steps_in(self.dir), steps_in(plain))
        other = os.path.join(self.tmp, "clocks")
        told = self.go(directory=other, skew=3600.0, slow=0.05, arguments={"save_strategy": "no", "max_steps": 8}, options={"cadence": ingot.Cadence(minutes=0.002)})
        self.assertTrue(steps_in(other), told)
        self.go(directory=other, skew=3600.0, arguments={"save_strategy": "no", "max_steps": 8}, options={"cadence": ingot.Cadence(minutes=100)}, resume=None)
        newest = os.path.join(self.tmp, "only-model")
        self.go(directory=newest, arguments={"max_steps": 4, "save_only_model": True})
        self.assertNotIn("rng_state_0.pth", os.listdir(os.path.join(newest, "checkpoint-4")))
        ingot._ingot.look_at(os.path.join(newest, "checkpoint-4")).verify(1)

    def test_what_is_refused(self):
        for attribute, said in (("is_fsdp_enabled", "runs with FSDP: .*ingot.dcp.StorageWriter"), ("is_deepspeed_enabled", "runs with DeepSpeed: .*ingot.deepspeed.attach")):
            t = trainer(self.dir)
            setattr(t, attribute, True)
            with self.assertRaisesRegex(ValueError, said):
                attach(t)


if __name__ == "__main__":
    unittest.main()
