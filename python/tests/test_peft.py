"""A PeftModel: PEFT's own layout, which PEFT and `ingot lora merge` read, the base by name and hash, and a run that goes on exactly."""
import json
import os
import shutil
import subprocess
import unittest
import warnings

import ingot
from torch_case import TorchCase, torch

try:
    import peft
    import transformers
except ImportError:
    peft = None

PROGRAM = os.environ.get("INGOT_PROGRAM") or os.path.join(os.path.dirname(os.path.realpath(ingot._ingot.__file__)), "..", "..", "ingot")


@unittest.skipIf(peft is None, "peft and transformers are not there")
class Peft(TorchCase):
    def base(self, seed=1, layers=2, **options):
        torch.manual_seed(seed)
        config = transformers.LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2, **options)
        return transformers.LlamaForCausalLM(config)

    def lora(self, **options):
        return peft.LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "lora_dropout": 0.1, "task_type": "CAUSAL_LM", **options})

    def model(self, seed=1, config=None, **options):
        base = self.base(seed, **options)
        torch.manual_seed(50 + seed)
        return peft.get_peft_model(base, config or self.lora())

    def state(self, model):
        return {"model": model, "optimizer": torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2), "rng": ingot.rng()}

    def train(self, state, steps):
        state["model"].train()
        losses = []
        for _ in range(steps):
            ids = torch.randint(0, 64, (2, 7))
            loss = state["model"](input_ids=ids, labels=ids).loss
            loss.backward()
            state["optimizer"].step()
            state["optimizer"].zero_grad()
            losses.append(loss.item())
        return losses

    def directory(self):
        return ingot.latest(self.dir)

    def logits(self, model):
        model.eval()
        with torch.no_grad():
            return model(input_ids=torch.arange(12)[None]).logits

    def test_a_run_goes_on_exactly(self):
        a = self.state(self.model())
        self.train(a, 3)
        self.again(a, self.state(self.model()))
        b = self.state(self.model())
        with torch.no_grad():
            for p in b["model"].parameters():
                if p.requires_grad:
                    p.add_(1)
        want = self.train(a, 4)
        self.checkpointer().restore(b)
        self.assertEqual(self.train(b, 4), want)
        self.assertSame(a["model"].state_dict(), b["model"].state_dict())

    def test_what_is_saved_is_pefts(self):
        a = self.state(self.model())
        self.train(a, 2)
        self.again(a, self.state(self.model()))
        pefts = os.path.join(self.tmp.name, "pefts")
        a["model"].save_pretrained(pefts)
        self.assertSame(dict(sorted(ingot.load(os.path.join(pefts, "adapter_model.safetensors")).items())),
                        dict(sorted(ingot.load(os.path.join(self.directory(), "adapter_model.safetensors")).items())))
        configs = [json.load(open(os.path.join(d, "adapter_config.json"))) for d in (pefts, self.directory())]
        for c in configs:
            c["target_modules"].sort()
        self.assertEqual(*configs)
        size = sum(e.stat().st_size for e in os.scandir(self.directory()))
        self.assertLess(size, 80_000)  # the base has 100,000
        loaded = peft.PeftModel.from_pretrained(self.base(), self.directory())
        self.assertTrue(torch.equal(self.logits(loaded), self.logits(a["model"])))

    def test_lora_merge_reads_it(self):
        if not os.path.exists(PROGRAM):
            self.skipTest("the program is not built")
        a = self.state(self.model())
        self.train(a, 2)
        self.again(a, self.state(self.model()))
        base, out = os.path.join(self.tmp.name, "base"), os.path.join(self.tmp.name, "merged")
        self.base().save_pretrained(base)
        subprocess.run([PROGRAM, "lora", "merge", base, self.directory(), out], check=True, capture_output=True)
        merged = transformers.AutoModelForCausalLM.from_pretrained(out)
        self.assertLess((self.logits(merged) - self.logits(a["model"])).abs().max(), 1e-5)

    def test_tensors_that_do_not_change_stay_in_the_one_file(self):
        model = self.model()
        state = self.state(model)
        ck = self.checkpointer(max_shard_bytes=1000, compress="zstd")
        for step in range(1, 5):
            with torch.no_grad():
                next(p for p in model.parameters() if p.requires_grad).add_(1)
            ck.save(step, state).wait()
            self.assertEqual([n for n in os.listdir(self.directory()) if n.startswith("adapter_model")], ["adapter_model.safetensors"])
        loaded = peft.PeftModel.from_pretrained(self.base(), self.directory())
        self.assertTrue(torch.equal(self.logits(loaded), self.logits(model)))

    def test_another_base_is_refused(self):
        a = self.state(self.model())
        self.again(a, self.state(self.model()))
        b = self.state(self.model(seed=2))
        before = {k: v.clone() for k, v in b["model"].state_dict().items()}
        with self.assertRaises(ingot.Mismatch) as e:
            self.checkpointer().restore(b)
        self.assertIn("the base is another than the one it was trained on", str(e.exception))
        self.assertIn("tensors have other values", str(e.exception))
        self.assertSame(before, dict(b["model"].state_dict()))
        with self.assertRaises(ingot.Mismatch) as e:
            self.checkpointer().restore(self.state(self.model().to(torch.bfloat16)))
        self.assertIn("is BF16 [", str(e.exception))
        with self.assertRaises(ingot.Mismatch) as e:  # one more layer, which has no adapter
            self.checkpointer().restore(self.state(self.model(layers=3, config=self.lora(layers_to_transform=[0, 1]))))
        self.assertIn("the one of the checkpoint has no 'model.layers.2.", str(e.exception))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            self.assertEqual(self.checkpointer().restore(b, strict=False), 1)
        self.assertIn("other values", str(told[0].message))
        self.assertSame(peft.get_peft_model_state_dict(a["model"]), peft.get_peft_model_state_dict(b["model"]))

    def test_the_base_is_named_and_hashed_once(self):
        base = os.path.join(self.tmp.name, "base")
        self.base().save_pretrained(base)
        torch.manual_seed(7)
        model = peft.get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(base), self.lora())
        hashes, calls = ingot._ingot.hashes, []

        def counting(rows, threads):
            calls.append(len(rows))
            return hashes(rows, threads)
        ingot._ingot.hashes = counting
        self.addCleanup(setattr, ingot._ingot, "hashes", hashes)
        ck = self.checkpointer()
        state = self.state(model)
        ck.restore(state)
        many = [c for c in calls if c > 1]
        for step in (1, 2, 3):
            ck.save(step, state).wait()
        self.assertEqual(([c for c in calls if c > 1], len(many)), (many, 1))
        with open(os.path.join(self.directory(), "state.json")) as f:
            kept = json.load(f)["state"]["model"]["$peft"]["base"]
        self.assertEqual(kept["name"], base)
        self.assertEqual(len(kept["hash"]), 32)
        self.assertEqual(kept["tensors"]["model.embed_tokens.weight"][:2], ["F32", [64, 32]])
        self.assertIn("model.layers.1.self_attn.q_proj.weight", kept["tensors"])
        self.assertFalse([n for n in kept["tensors"] if "lora" in n or "base_layer" in n])
        with open(os.path.join(self.directory(), "adapter_config.json")) as f:
            self.assertEqual(json.load(f)["base_model_name_or_path"], base)

    def test_several_adapters(self):
        def make():
            model = self.model()
            torch.manual_seed(8)
            model.add_adapter("other one", self.lora(r=2, target_modules=["k_proj"]))
            return model
        a, b = make(), make()
        with torch.no_grad():
            for n, p in a.named_parameters():
                if "lora_" in n:
                    p.add_(torch.randn(p.shape))
        a.set_adapter("other one")
        state = {"model": a, "policy": self.model(3)}
        into = {"model": b, "policy": self.model(3)}
        self.again(state, into)
        self.assertSame(a.state_dict(), b.state_dict())
        self.assertEqual(sorted(n for n in os.listdir(self.directory()) if n.startswith("adapter")),
                         ["adapter_config.json", "adapter_config.other_one.json", "adapter_config.policy.json", "adapter_model.other_one.safetensors", "adapter_model.policy.safetensors", "adapter_model.safetensors"])
        # Any of them is PEFT's by its two files under PEFT's names.
        alone = os.path.join(self.tmp.name, "alone")
        os.mkdir(alone)
        for end in ("config.other_one.json", "model.other_one.safetensors"):
            shutil.copy(os.path.join(self.directory(), "adapter_" + end), os.path.join(alone, "adapter_" + end.replace(".other_one", "")))
        loaded = peft.PeftModel.from_pretrained(self.base(), alone)
        self.assertTrue(torch.equal(self.logits(loaded), self.logits(a)))
        with self.assertRaises(ingot.Mismatch) as e:
            self.checkpointer().restore({"model": self.model(), "policy": self.model(3)})
        self.assertIn("the model has no adapter 'other one'", str(e.exception))

    def test_modules_to_save_embeddings_biases_and_what_is_unfrozen_by_hand(self):
        def make():
            model = self.model(config=self.lora(modules_to_save=["lm_head"], target_modules=["q_proj", "embed_tokens"]))
            model.base_model.model.model.norm.weight.requires_grad_(True)
            return model
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            a = self.state(make())
            self.train(a, 2)
            b = self.state(make())
            self.again(a, b)
            self.assertSame(a["model"].state_dict(), b["model"].state_dict())
            want = self.train(a, 2)
            self.checkpointer().restore(b)
            self.assertEqual(self.train(b, 2), want)
            # The checkpoint of a run that was resumed has it still, frozen meanwhile or not.
            b["model"].base_model.model.model.norm.weight.requires_grad_(False)
            self.again(b, self.state(make()))
            c = self.state(make())
            self.checkpointer().restore(c)
            self.assertSame(b["model"].state_dict(), c["model"].state_dict())
            names = set(ingot.load(os.path.join(self.directory(), "adapter_model.safetensors")))
        self.assertIn("base_model.model.lm_head.weight", names)
        self.assertIn("base_model.model.model.embed_tokens.lora_embedding_A", names)

    def test_buffers_and_other_methods(self):
        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.one, self.norm, self.two = torch.nn.Linear(6, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 4)

            def forward(self, x):
                return self.two(self.norm(self.one(x)))

        def make(config):
            torch.manual_seed(3)
            return peft.get_peft_model(Net(), config)
        for config in (peft.LoraConfig(target_modules=["one", "two"], r=2), peft.IA3Config(target_modules=["one"], feedforward_modules=[]), peft.LoHaConfig(target_modules=["one"], r=2),
                       peft.VeraConfig(target_modules=["one"], r=2), peft.LNTuningConfig(target_modules=["norm"])):
            a, b = make(config), make(config)
            a.train()
            a(torch.randn(9, 6)).sum().backward()
            with torch.no_grad():
                for p in a.parameters():
                    if p.requires_grad:
                        p.add_(torch.randn(p.shape))
            self.again({"model": a}, {"model": b})
            self.assertSame(a.state_dict(), b.state_dict(), type(config).__name__)

    def test_prompts(self):
        def make():
            config = peft.PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=3, encoder_hidden_size=16)
            return self.model(config=config)
        a = self.state(make())
        self.train(a, 2)
        b = self.state(make())
        self.again(a, b)
        self.assertSame(a["model"].state_dict(), b["model"].state_dict())
        loaded = peft.PeftModel.from_pretrained(self.base(), self.directory())
        self.assertLess((self.logits(loaded) - self.logits(a["model"])).abs().max(), 1e-5)

    def test_a_whole_module_and_adapters_are_told_apart(self):
        ck = self.checkpointer()
        ck.save(1, {"model": self.model()}).wait()
        with self.assertRaises(ingot.Mismatch) as e:
            ck.restore({"model": self.base()})
        self.assertIn("adapters of a PeftModel", str(e.exception))
        state = {"model": None}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ck.restore(state)
        self.assertEqual(list(state["model"]["adapters"]), ["default"])
        path = os.path.join(self.tmp.name, "one.safetensors")
        model = self.model()
        ingot.save(path, {"model": model})
        self.assertSame(ingot.load(path)["model"]["adapters"]["default"]["tensors"], peft.get_peft_model_state_dict(model))

    def test_what_trainer_left_of_an_adapter(self):
        a = self.state(self.model())
        self.train(a, 2)
        d = os.path.join(self.dir, "checkpoint-7")
        a["model"].save_pretrained(d)
        torch.save(a["optimizer"].state_dict(), os.path.join(d, "optimizer.pt"))
        b = self.state(self.model())
        with torch.no_grad():
            for p in b["model"].parameters():
                if p.requires_grad:
                    p.add_(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.assertEqual(self.checkpointer().restore(b, strict=False), 7)
        self.assertSame(a["model"].state_dict(), b["model"].state_dict())
        self.assertSame(a["optimizer"].state_dict(), b["optimizer"].state_dict())
        with self.assertRaises(ingot.Mismatch) as e, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.checkpointer().restore({"model": self.model(config=self.lora(r=8))})
        self.assertIn("has the shape [8, 32], in the checkpoint [4, 32]", str(e.exception))

    def test_fully_sharded(self):
        import torch.distributed.fsdp  # noqa: F401
        torch.distributed.init_process_group("gloo", init_method="file://" + os.path.join(self.tmp.name, "group"), rank=0, world_size=1)
        self.addCleanup(torch.distributed.destroy_process_group)
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))

        def make():
            model = self.model()
            for layer in model.base_model.model.model.layers:
                torch.distributed.fsdp.fully_shard(layer, mesh=mesh)
            torch.distributed.fsdp.fully_shard(model, mesh=mesh)
            return self.state(model)
        a = make()
        self.train(a, 2)
        self.again(a, make())
        b = make()
        want = self.train(a, 2)
        self.checkpointer().restore(b)
        self.assertEqual(self.train(b, 2), want)
        loaded = peft.PeftModel.from_pretrained(self.base(), self.directory())
        self.checkpointer().restore({"model": loaded}, strict=False)

    def test_another_configuration_is_told(self):
        ck = self.checkpointer()
        ck.save(1, {"model": self.model()}).wait()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            ck.restore({"model": self.model(config=self.lora(lora_alpha=32))})
        self.assertTrue([w for w in told if "lora_alpha is 32, there 8" in str(w.message)], [str(w.message) for w in told])
        with self.assertRaises(ingot.Mismatch) as e:
            ck.restore({"model": self.model(config=self.lora(r=8))})
        self.assertIn("has the shape [8, 32], in the checkpoint [4, 32]", str(e.exception))


if __name__ == "__main__":
    unittest.main()
