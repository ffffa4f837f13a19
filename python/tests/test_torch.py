"""With torch: modules, optimizers, schedulers, loaders, and a training run that is killed."""
import json
import os
import random
import signal
import subprocess
import sys
import time
import unittest
import unittest.mock
import warnings

import ingot
from shared import flip
from torch_case import TorchCase, torch

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


class Torch(TorchCase):
    def test_every_type_shape_and_view(self):
        tensors = {str(t): torch.arange(12).reshape(3, 4).to(t) for t in (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.uint8, torch.int16, torch.int32,
                                                                           torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2)}
        base = torch.arange(24.0).reshape(4, 6)
        tensors.update(zero_d=torch.tensor(2.5), empty=torch.zeros(0, 3), transposed=base.t(), column=base[:, 2], flipped=base.flip(0), expanded=torch.ones(1).expand(5),
                       nan=torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]), conj=torch.tensor([1 + 2j]).conj(), parameter=torch.nn.Parameter(torch.ones(2)),
                       size=torch.Size([2, 3]), dtype=torch.bfloat16, device=torch.device("cpu"))
        state = {"x": None}
        self.again({"x": tensors}, state)
        for k, v in tensors.items():
            self.assertSame(v.detach().resolve_conj() if isinstance(v, torch.Tensor) else v, state["x"][k], k)

    def test_tensors_on_a_device_are_copied_by_torch(self):
        # No device is needed for the way they go: larger tensors are said to lie on one.
        base = torch.arange(24.0)
        state = {"a": {"x": torch.randn(5, 7), "small": torch.tensor([1, 2]), "t": torch.randn(6, 4).t(), "b": torch.rand(9) > 0.5, "bf": torch.randn(11).bfloat16(), "f8": torch.randn(13).to(torch.float8_e4m3fn)},
                 "b": [torch.randn(4, dtype=torch.complex64), base, base, base[::2], torch.randn(3, 1, 2)], "c": torch.tensor(2.5)}
        with unittest.mock.patch("ingot.nest.on_host", lambda t: t.numel() < 4):
            into = {"a": {}, "b": [], "c": torch.zeros(())}
            self.assertEqual(self.again(state, into), 1)
        self.assertSame(into, state)
        self.assertEqual(into["b"][1].data_ptr(), into["b"][2].data_ptr())

    def test_a_copy_takes_addresses_in_any_order(self):
        import ctypes
        from ingot import devices
        block = (ctypes.c_ubyte * 4096)()
        small, large = torch.tensor([1.0, 2.0]), torch.randn(100)
        at = ctypes.addressof(block)
        devices.copier([small, large])([at + 2048, at])()  # the engine lays large ones first
        self.assertEqual(bytes(block)[2048:2056], small.numpy().tobytes())
        self.assertEqual(bytes(block)[:400], large.numpy().tobytes())

    def test_a_device_that_fails_is_heard_of(self):
        def refused(tensors):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

        def lost(tensors):
            return lambda addresses: lambda: refused(tensors)
        ck = self.checkpointer()
        state = {"x": torch.randn(8)}
        with unittest.mock.patch("ingot.nest.on_host", lambda t: False):
            ck.save(1, state).wait()
            for copier in (lambda tensors: refused, lost):
                with unittest.mock.patch("ingot.devices.copier", copier), self.assertRaisesRegex(RuntimeError, "illegal memory access"):
                    ck.save(2, state)
            ck.save(3, state).wait()
        ck.close()
        into = {"x": torch.zeros(8)}
        self.assertEqual(self.checkpointer().restore(into), 3)
        self.assertSame(into, state)

    def test_what_cannot_be_kept_is_named(self):
        ck = self.checkpointer()
        for bad, words in ((torch.eye(2).to_sparse(), "sparse"), (torch.ones(2, device="meta"), "meta"), (torch.ones(2, dtype=torch.complex128), "complex128")):
            with self.assertRaises(ingot.StateError) as e:
                ck.save(1, {"model": {"w": bad}})
            self.assertIn("model/w", str(e.exception))
            self.assertIn(words, str(e.exception))

    def test_a_module_is_read_into_place(self):
        a, b = torch.nn.Linear(300, 200), torch.nn.Linear(300, 200)
        address = b.weight.data_ptr()
        self.again({"model": a}, {"model": b})
        self.assertEqual(b.weight.data_ptr(), address)
        self.assertSame(a.state_dict(), b.state_dict())
        self.assertTrue(b.weight.requires_grad)
        with open(os.path.join(self.dir, "checkpoint-1", "model.safetensors"), "rb") as f:
            self.assertIn(b'"weight"', f.read(200))

    def test_conjugate_and_negative_views_are_not_read_into_place(self):
        def views(n):
            z = torch.full((3,), n + 2j * n, dtype=torch.complex64)
            return {"conj": z.conj(), "neg": z.clone().conj().imag}
        state = {"x": views(0)}
        conj = state["x"]["conj"]
        self.again({"x": views(1)}, state)
        self.assertIs(state["x"]["conj"], conj)
        self.assertEqual(conj.tolist(), [1 - 2j] * 3)
        self.assertEqual(state["x"]["neg"].tolist(), [-2.0] * 3)

    def test_a_damaged_one_leaves_nothing_where_the_one_before_does_not_fit(self):
        model = torch.nn.Linear(30, 30)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with ingot.Checkpointer(self.dir, signals=False) as ck:
                ck.save(1, {"model": torch.nn.Linear(7, 7)}).wait()
                ck.save(2, {"model": model}).wait()
            path = os.path.join(self.dir, "checkpoint-2", "model.safetensors")
            flip(path, -9)
            into = torch.nn.Linear(30, 30)
            before = {k: v.clone() for k, v in into.state_dict().items()}
            with self.assertRaises(ingot.Mismatch):
                self.checkpointer().restore({"model": into})
        self.assertSame(before, dict(into.state_dict()))

    def test_a_type_of_the_file_is_a_type(self):
        for name in ("load", "Tensor", "nothing", "nn"):
            with self.assertRaisesRegex(ValueError, "which torch has not"):
                ingot.nest.unpack({"$dtype": name})
        self.assertIs(ingot.nest.unpack({"$dtype": "float8_e5m2"}), torch.float8_e5m2)

    def test_dicts_of_tensors_are_read_into_place(self):
        a = {"ema": {"w": torch.randn(100), "n": 3}, "new": {"x": 1}}
        b = {"ema": {"w": torch.zeros(100), "n": 0, "gone": 1}, "new": {}}
        inner, w = b["ema"], b["ema"]["w"]
        self.again(a, b)
        self.assertIs(b["ema"], inner)
        self.assertIs(b["ema"]["w"], w)
        self.assertSame(a, b)
        nested = {"all": {"model": torch.nn.Linear(4, 4), "list": [torch.ones(2)]}}
        other = {"all": {"model": torch.nn.Linear(4, 4), "list": None}}
        self.again(nested, other)
        self.assertSame(nested["all"]["model"].state_dict(), other["all"]["model"].state_dict())
        self.assertSame(nested["all"]["list"], other["all"]["list"])

    def test_another_type_is_told(self):
        a, b = torch.nn.Linear(30, 20), torch.nn.Linear(30, 20).to(torch.bfloat16)
        before = b.weight.detach().clone()
        with self.assertRaises(ingot.Mismatch) as e:
            self.again({"model": a}, {"model": b})
        self.assertIn("'model': 'weight', 'bias' are BF16, in the checkpoint F32", str(e.exception))
        self.assertSame(before, b.weight.detach())
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            self.checkpointer().restore({"model": b}, strict=False)
        self.assertTrue(any("are BF16, in the checkpoint F32" in str(w.message) and w.filename == __file__ for w in told), [(str(w.message), w.filename) for w in told])
        self.assertSame(a.weight.detach().to(torch.bfloat16), b.weight.detach())
        # Tensors that are no module's, too.
        with self.assertRaises(ingot.Mismatch) as e:
            self.again({"ema": {"w": torch.ones(3)}}, {"ema": {"w": torch.zeros(3, dtype=torch.float16)}})
        self.assertIn("'ema/w' is F16, in the checkpoint F32", str(e.exception))
        with self.assertRaises(ingot.Mismatch) as e:
            self.again({"ema": {"w": 3}}, {"ema": {"w": torch.zeros(3)}})
        self.assertIn("'ema/w' is a tensor, and the checkpoint has something else there", str(e.exception))

    def test_an_optimizers_state_keeps_its_type(self):
        def make():
            model = torch.nn.Linear(6, 4).to(torch.bfloat16)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
            for p in model.parameters():  # as an optimizer that computes in F32
                optimizer.state[p]["momentum_buffer"] = torch.randn(p.shape, dtype=torch.float32)
                optimizer.state[p]["codes"] = torch.randint(0, 255, (7,), dtype=torch.uint8)
            return {"model": model, "optimizer": optimizer}
        a, b = make(), make()
        self.again(a, b)
        self.assertSame(a["optimizer"].state_dict(), b["optimizer"].state_dict())

    def test_an_optimizer_of_other_groups_is_told_before_anything_changes(self):
        a, b = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)
        before = b.weight.detach().clone()
        state = {"model": b, "optimizer": torch.optim.Adam([{"params": [b.weight]}, {"params": [b.bias], "lr": 1.0}])}
        with self.assertRaises(ingot.Mismatch) as e:
            self.again({"model": a, "optimizer": torch.optim.Adam(a.parameters())}, state)
        self.assertIn("the optimizer has [1, 1] parameters in its groups, in the checkpoint [2]", str(e.exception))
        self.assertSame(before, b.weight.detach())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.checkpointer().restore(state, strict=False)
        self.assertSame(a.weight.detach(), b.weight.detach())
        self.assertEqual(state["optimizer"].param_groups[1]["lr"], 1.0)
        # The same parameters in another order.
        a.weight.sum().backward()
        a.bias.sum().backward()
        optimizer = torch.optim.Adam(a.parameters())
        optimizer.step()
        with self.assertRaises(ingot.Mismatch) as e:
            self.again({"optimizer": optimizer}, {"optimizer": torch.optim.Adam([b.bias, b.weight])})
        self.assertIn("parameter 0 has the shape [3], its exp_avg in the checkpoint [3, 4]", str(e.exception))

    def test_another_optimizer_or_scheduler_is_told_before_anything_changes(self):
        O, S = torch.optim, torch.optim.lr_scheduler

        def trained(kind, **options):
            model = torch.nn.Linear(3, 2)
            optimizer = kind(model.parameters(), lr=0.1, **options)
            model(torch.ones(1, 3)).sum().backward()
            optimizer.step()
            return {"model": model, "optimizer": optimizer}
        kinds = [k for k in (O.SGD, O.Adam, O.AdamW, O.Adagrad, O.Adadelta, O.Adamax, O.NAdam, O.RAdam, O.RMSprop, O.ASGD, O.Rprop)]
        for a in kinds:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with ingot.Checkpointer(self.dir, signals=False) as ck:
                    ck.save(1, trained(a)).wait()
                for b in kinds:
                    into = trained(b)
                    before = {k: v.clone() for k, v in into["model"].state_dict().items()}
                    if a is b:
                        self.checkpointer().restore(into)
                        continue
                    if {a, b} == {O.Adamax, O.RAdam}:
                        continue  # whose groups have the same keys, but for what later versions of torch have added
                    if {a, b} == {O.Adam, O.AdamW} and "decoupled_weight_decay" not in into["optimizer"].defaults:
                        continue  # this torch writes the same for both
                    with self.assertRaisesRegex(ingot.Mismatch, "'optimizer': group 0", msg=(a, b)):
                        self.checkpointer().restore(into)
                    self.assertSame(before, dict(into["model"].state_dict()))
        # A group of an older torch, and one with a scheduler's and a program's own keys.
        state = trained(O.Adam)
        for k in ("decoupled_weight_decay", "fused"):
            state["optimizer"].param_groups[0].pop(k, None)
        state["optimizer"].param_groups[0].update(initial_lr=0.5, name="head")
        self.again(state, trained(O.Adam))
        # Schedulers.
        makers = (lambda o: S.StepLR(o, 5), lambda o: S.CosineAnnealingLR(o, 5), lambda o: S.ExponentialLR(o, 0.9), lambda o: S.ReduceLROnPlateau(o), lambda o: S.LambdaLR(o, lambda n: 1.0),
                  lambda o: S.OneCycleLR(o, 0.1, 10), lambda o: S.SequentialLR(o, [S.ConstantLR(o), S.LinearLR(o)], [3]))
        for i, a in enumerate(makers):
            for j, b in enumerate(makers):
                one, other = trained(O.SGD), trained(O.SGD)
                one["scheduler"], other["scheduler"] = a(one["optimizer"]), b(other["optimizer"])
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    one["scheduler"].step(*([1.0] if i == 3 else []))
                    if i == j:
                        self.again(one, other)
                    else:
                        with self.assertRaisesRegex(ingot.Mismatch, "'scheduler': the checkpoint has another scheduler's state"):
                            self.again(one, other)

    def test_parameters_in_another_order_by_their_names(self):
        def make(order):
            model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
            named = dict(model.named_parameters())
            optimizer = torch.optim.AdamW([(n, named[n]) for n in order])
            model(torch.ones(1, 4)).sum().backward()
            optimizer.step()
            return {"model": model, "optimizer": optimizer}
        order = ["0.weight", "1.weight", "0.bias", "1.bias"]
        try:
            state = make(order)
        except TypeError:
            self.skipTest("this torch takes no named parameters")
        self.again(state, make(order))
        with self.assertRaisesRegex(ingot.Mismatch, "in another order: '1.weight' is number 0, in the checkpoint 1"):
            self.again(state, make(["1.weight", "0.weight", "0.bias", "1.bias"]))

    def test_plain_tensors_that_cannot_take_it(self):
        for live, words in ((torch.zeros(4), "'x/a' has the shape .4., in the checkpoint .3."), (torch.empty(3, device="meta"), "'x/a' is on the device meta"), (torch.zeros(1).expand(3), "'x/a' is expanded")):
            with self.assertRaisesRegex(ingot.Mismatch, words):
                self.again({"x": {"a": torch.ones(3)}}, {"x": {"a": live}})
            state = {"x": {"a": live}}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.again({"x": {"a": torch.ones(3)}}, state, strict=False)
            self.assertEqual(state["x"]["a"].tolist(), [1, 1, 1])
        with torch.device("meta"):
            model = torch.nn.Linear(2, 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with self.assertRaisesRegex(ingot.Mismatch, "'model': 'weight', 'bias' are on the device meta"):
                self.again({"model": torch.nn.Linear(2, 2)}, {"model": model})

    def test_without_strict_what_has_another_shape_stays(self):
        a = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        b = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 5))
        before = b[1].weight.detach().clone()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.again({"model": a}, {"model": b}, strict=False)
        self.assertSame(a[0].weight.detach(), b[0].weight.detach())
        self.assertSame(before, b[1].weight.detach())

    def test_an_object_that_does_not_take_its_state_is_named(self):
        class Strange:
            def state_dict(self):
                return {"a": 1}

            def load_state_dict(self, s):
                raise KeyError("b")
        with self.assertRaises(ingot.Mismatch) as e:
            self.again({"x": {"strange": Strange()}}, {"x": {"strange": Strange()}})
        self.assertIn("'x/strange' (Strange) did not take its state: KeyError: 'b'", str(e.exception))

    def test_a_generator_of_the_programs_own(self):
        a, b = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
        torch.rand(3, generator=a)
        self.again({"x": {"g": a}}, {"x": {"g": b}})
        self.assertSame(torch.rand(3, generator=a), torch.rand(3, generator=b))

    def test_steps_and_metrics_of_torch(self):
        ck = self.checkpointer()
        handle = ck.save(torch.tensor(3), {"n": 1}, {"loss": torch.tensor(0.5)})
        handle.wait()
        self.assertEqual(handle.step, 3)
        for bad in (torch.tensor(1.5), torch.tensor([1, 2])):
            with self.assertRaises(TypeError) as e:
                ck.save(bad, {"n": 1})
            self.assertIn("save: step is tensor(", str(e.exception))
        with self.assertRaises(TypeError) as e:
            ck.save(4, {"n": 1}, {"loss": torch.ones(2)})
        self.assertIn("the metric 'loss' is tensor", str(e.exception))

    def test_what_torch_has_no_bytes_of_is_refused(self):
        ck = self.checkpointer()
        for bad, words in ((torch.nn.LazyLinear(3).weight, "lazy module"), (torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "nested"),
                           (torch.ones(3).to_sparse(), "sparse"), (torch.empty(3, device="meta"), "meta")):
            with self.assertRaises(ingot.StateError) as e, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ck.save(1, {"x": {"bad": bad}})
            self.assertIn("x/bad", str(e.exception))
            self.assertIn(words, str(e.exception))

    def test_names_and_shapes_that_differ(self):
        ck = self.checkpointer()
        ck.save(1, {"model": torch.nn.Linear(3, 2)}).wait()
        with self.assertRaises(ingot.Mismatch) as e:
            ck.restore({"model": torch.nn.Linear(4, 2)})
        self.assertIn("'weight' has the shape [2, 4], in the checkpoint [2, 3]", str(e.exception))
        with self.assertRaises(ingot.Mismatch) as e:
            ck.restore({"model": torch.nn.Linear(3, 2, bias=False)})
        self.assertIn("the model has no 'bias'", str(e.exception))
        model = torch.nn.Linear(3, 2, bias=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.assertEqual(ck.restore({"model": model}, strict=False), 1)

    def test_ties_are_kept_once(self):
        def tied():
            m = torch.nn.Sequential(torch.nn.Embedding(500, 64), torch.nn.Linear(64, 500, bias=False))
            m[1].weight = m[0].weight
            return m
        a, b = tied(), tied()
        self.again({"model": a}, {"model": b})
        self.assertSame(a.state_dict(), b.state_dict())
        self.assertEqual(b[0].weight.data_ptr(), b[1].weight.data_ptr())
        self.assertLess(os.path.getsize(os.path.join(self.dir, "checkpoint-1", "model.safetensors")), 1.5 * 500 * 64 * 4)

    def test_wrappers_are_stripped(self):
        class DataParallel(torch.nn.Module):  # by its name, as the real one needs a GPU
            def __init__(self, module):
                super().__init__()
                self.module = module
        a, b = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
        self.again({"model": DataParallel(a)}, {"model": b})
        self.assertSame(a.state_dict(), b.state_dict())

    def trained(self, steps):
        model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(16), torch.nn.Linear(16, 1))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, amsgrad=True)
        scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=4),
                                                                      torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])], milestones=[4])
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0 ** 8, growth_interval=3)
        state = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "scaler": scaler, "rng": ingot.rng(), "gradients": ingot.gradients(model)}
        return state, lambda n: [self.step(state) for _ in range(n)]

    def step(self, state):
        x = torch.randn(16, 8)
        loss = (state["model"](x) - x.sum(1, keepdim=True)).pow(2).mean()
        state["scaler"].scale(loss).backward()
        if random.random() < 0.5:
            state["scaler"].step(state["optimizer"])
            state["scaler"].update()
            state["optimizer"].zero_grad()
            state["scheduler"].step()
        return loss.item()

    def test_a_run_goes_on_exactly(self):
        random.seed(5)
        state, go = self.trained(0)
        go(9)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with ingot.Checkpointer(self.dir, signals=False) as ck:
                ck.save(9, state)
        want = go(9)
        other, go_on = self.trained(0)
        random.seed(99)
        torch.manual_seed(99)
        self.checkpointer().restore(other)
        self.assertEqual(go_on(9), want)
        self.assertSame(state["model"].state_dict(), other["model"].state_dict())
        self.assertSame(state["optimizer"].state_dict(), other["optimizer"].state_dict())
        self.assertEqual(state["scheduler"].state_dict().keys(), other["scheduler"].state_dict().keys())

    def batches(self, loader, state, n, save_at=None):
        """The first n, over epochs, each with a number drawn after it; the state is saved after one of them."""
        seen = []
        while True:
            for (batch,) in loader:
                seen.append((batch.tolist(), torch.rand(1).item()))
                if len(seen) == save_at:
                    with ingot.Checkpointer(self.dir, signals=False) as ck:
                        ck.save(1, state)
                if len(seen) == n:
                    return seen

    def test_a_loader_goes_on_with_the_next_batch(self):
        data = torch.utils.data.TensorDataset(torch.arange(50))
        for options in ({"shuffle": True}, {"shuffle": True, "generator": 1}, {"sampler": "random"}, {"shuffle": True, "num_workers": 2}, {}, {"shuffle": True, "batch_size": None}):
            for stop in (1, 4, 10, 13, 17):
                def make():
                    o = dict(options)
                    if o.get("generator"):
                        o["generator"] = torch.Generator().manual_seed(11)
                    if o.get("sampler"):
                        o["sampler"] = torch.utils.data.RandomSampler(data, replacement=True, num_samples=40)
                    return ingot.loader(torch.utils.data.DataLoader(data, **{"batch_size": 5, **o}))

                torch.manual_seed(1)
                loader = make()
                want = self.batches(loader, {"data": loader, "rng": ingot.rng()}, 20, save_at=stop)
                torch.manual_seed(77)
                loader = make()
                state = {"data": loader, "rng": ingot.rng()}
                with ingot.Checkpointer(self.dir, signals=False) as ck:
                    ck.restore(state)
                self.assertEqual(self.batches(loader, state, 20 - stop), want[stop:], f"{options} after {stop}")

    def test_a_loader_of_ones_own_goes_on_as_it_is(self):
        class Scaled(torch.utils.data.DataLoader):
            def __iter__(self):
                for (batch,) in super().__iter__():
                    yield [batch * 10]

        class Within(torch.utils.data.DataLoader):  # as accelerate's: one batch ahead of another loader
            def __init__(self, loader):
                super().__init__(loader.dataset)
                self.within = loader

            def __iter__(self):
                batches = iter(self.within)
                ahead = next(batches)
                for batch in batches:
                    yield ahead
                    ahead = batch
                yield ahead
        data = torch.utils.data.TensorDataset(torch.arange(40))
        for make in (lambda: Scaled(data, batch_size=5, shuffle=True), lambda: Within(torch.utils.data.DataLoader(data, batch_size=5, shuffle=True))):
            for stop in (3, 8, 11):
                torch.manual_seed(1)
                loader = ingot.loader(make())
                want = self.batches(loader, {"data": loader, "rng": ingot.rng()}, 14, save_at=stop)
                torch.manual_seed(7)
                loader = ingot.loader(make())
                with ingot.Checkpointer(self.dir, signals=False) as ck:
                    ck.restore({"data": loader, "rng": ingot.rng()})
                self.assertEqual(self.batches(loader, None, 14 - stop), want[stop:], stop)

    def test_a_loader_between_epochs_and_with_other_generators(self):
        import numpy
        data = torch.utils.data.TensorDataset(torch.arange(20))

        class Python(torch.utils.data.Sampler):
            def __len__(self):
                return 20

            def __iter__(self):
                order = list(range(20))
                random.shuffle(order)
                return iter(order)

        class Counting(torch.utils.data.Sampler):  # as DistributedSampler does
            epoch = 5

            def set_epoch(self, epoch):
                self.epoch = epoch

            def __len__(self):
                return 20

            def __iter__(self):
                return iter(torch.randperm(20, generator=torch.Generator().manual_seed(self.epoch)).tolist())

        def inner(generator):
            return torch.utils.data.BatchSampler(torch.utils.data.RandomSampler(data, generator=generator), 4, False)
        makers = {"own": lambda: {"shuffle": True, "batch_size": 4, "generator": torch.Generator().manual_seed(2)}, "python": lambda: {"sampler": Python(), "batch_size": 4},
                  "counting": lambda: {"sampler": Counting(), "batch_size": 4}, "inner": lambda: {"batch_sampler": inner(torch.Generator().manual_seed(4))}}
        for name, options in makers.items():
            for stop in (3, 5, 7, 10, 12):
                def run(loader, n, save_at=None, state=None):
                    seen, epochs = [], 0
                    while True:
                        for (batch,) in loader:
                            seen.append((batch.tolist(), random.random(), numpy.random.rand(), torch.rand(1).item()))
                            if len(seen) == save_at:
                                with ingot.Checkpointer(self.dir, signals=False) as ck:
                                    ck.save(1, state)
                            if len(seen) == n:
                                return seen
                random.seed(1), numpy.random.seed(1), torch.manual_seed(1)
                loader = ingot.loader(torch.utils.data.DataLoader(data, **options()))
                want = run(loader, 16, stop, {"data": loader, "rng": ingot.rng()})
                random.seed(9), numpy.random.seed(9), torch.manual_seed(9)
                loader = ingot.loader(torch.utils.data.DataLoader(data, **options()))
                state = {"data": loader, "rng": ingot.rng()}
                with ingot.Checkpointer(self.dir, signals=False) as ck:
                    ck.restore(state)
                self.assertEqual(run(loader, 16 - stop), want[stop:], f"{name} after {stop}")
        # Between two epochs.
        torch.manual_seed(1)
        loader = ingot.loader(torch.utils.data.DataLoader(data, shuffle=True, batch_size=4, generator=torch.Generator().manual_seed(2)))
        list(loader)
        with ingot.Checkpointer(self.dir, signals=False) as ck:
            ck.save(1, {"data": loader})
        want = [b.tolist() for (b,) in loader]
        loader = ingot.loader(torch.utils.data.DataLoader(data, shuffle=True, batch_size=4, generator=torch.Generator().manual_seed(2)))
        with ingot.Checkpointer(self.dir, signals=False) as ck:
            ck.restore({"data": loader})
        self.assertEqual([b.tolist() for (b,) in loader], want)

    def test_a_frozen_base_is_written_once(self):
        model = torch.nn.Sequential(torch.nn.Linear(1000, 500), torch.nn.Linear(500, 10))
        model[0].requires_grad_(False)
        with ingot.Checkpointer(self.dir, signals=False) as ck, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ck.save(1, {"model": model}).wait()
            for step in (2, 3, 4):
                with torch.no_grad():
                    for p in model[1].parameters():
                        p.add_(1)
                ck.save(step, {"model": model}).wait()
                self.assertLess(ck.stats["written_bytes"], 100_000)
        other = torch.nn.Sequential(torch.nn.Linear(1000, 500), torch.nn.Linear(500, 10))
        self.checkpointer().restore({"model": other})
        self.assertSame(model.state_dict(), other.state_dict())

    def test_what_other_scripts_saved(self):
        model = torch.nn.Linear(4, 3)
        optimizer = torch.optim.Adam(model.parameters())
        model(torch.ones(1, 4)).sum().backward()
        optimizer.step()
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 5)

        def into():
            m = torch.nn.Linear(4, 3)
            o = torch.optim.Adam(m.parameters())
            return {"model": m, "optimizer": o, "scheduler": torch.optim.lr_scheduler.StepLR(o, 5), "rng": ingot.rng()}

        def check(directory, step):
            state = into()
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                self.assertEqual(ingot.Checkpointer(directory, signals=False).restore(state, strict=False), step)
            self.assertIn("unverified", str(told[0].message))
            self.assertSame(model.state_dict(), state["model"].state_dict())
            self.assertSame(optimizer.state_dict(), state["optimizer"].state_dict())
        # Trainer's
        d = os.path.join(self.tmp.name, "trainer", "checkpoint-7")
        os.makedirs(d)
        import numpy
        torch.save(model.state_dict(), os.path.join(d, "pytorch_model.bin"))
        torch.save(optimizer.state_dict(), os.path.join(d, "optimizer.pt"))
        torch.save(scheduler.state_dict(), os.path.join(d, "scheduler.pt"))
        torch.save({"python": random.getstate(), "numpy": numpy.random.get_state(), "cpu": torch.get_rng_state()}, os.path.join(d, "rng_state.pth"))
        with open(os.path.join(d, "trainer_state.json"), "w") as f:
            json.dump({"global_step": 7}, f)
        want = (random.getstate(), torch.get_rng_state().tolist())
        random.seed(1)
        torch.manual_seed(1)
        check(os.path.dirname(d), 7)
        self.assertEqual((random.getstate(), torch.get_rng_state().tolist()), want)
        # A script's, in one file
        d = os.path.join(self.tmp.name, "script", "checkpoint-9")
        os.makedirs(d)
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "scheduler_state_dict": scheduler.state_dict(), "step": 9}, os.path.join(d, "training_state.pt"))
        check(os.path.dirname(d), 9)
        with self.assertRaises(ValueError) as e, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ingot.Checkpointer(os.path.dirname(d), signals=False).restore(into())
        self.assertIn("nothing for 'rng'", str(e.exception))

    def test_names_with_what_wrappers_put_before_them(self):
        def make():
            return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
        for n, name in enumerate((lambda k: "module." + k, lambda k: "_orig_mod." + k, lambda k: "module._orig_mod." + k, lambda k: "_orig_mod.module." + k, lambda k: k.replace("0.", "0._orig_mod."))):
            model, d = make(), os.path.join(self.tmp.name, f"wrapped{n}", "checkpoint-3")
            os.makedirs(d)
            torch.save({"model": {name(k): v for k, v in model.state_dict().items()}}, os.path.join(d, "checkpoint.pt"))
            into = make()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.assertEqual(ingot.Checkpointer(os.path.dirname(d), signals=False).restore({"model": into}), 3)
            self.assertSame(dict(model.state_dict()), dict(into.state_dict()))

    def trainers(self, step, optimizer=True, model=None):
        """A directory as Trainer leaves it."""
        model = model or torch.nn.Linear(4, 3)
        d = os.path.join(self.dir, f"checkpoint-{step}")
        os.makedirs(d)
        torch.save(model.state_dict(), os.path.join(d, "pytorch_model.bin"))
        if optimizer:
            torch.save(torch.optim.Adam(model.parameters(), lr=step / 1000).state_dict(), os.path.join(d, "optimizer.pt"))
        with open(os.path.join(d, "trainer_state.json"), "w") as f:
            json.dump({"global_step": step}, f)
        return d

    def test_a_trainers_directory_without_an_optimizer_is_passed_over(self):
        self.trainers(100)
        newest = self.trainers(200, optimizer=False)
        torn = self.trainers(300)
        os.truncate(os.path.join(torn, "optimizer.pt"), 100)

        def into():
            m = torch.nn.Linear(4, 3)
            return {"model": m, "optimizer": torch.optim.Adam(m.parameters())}
        for strict in (True, False):
            state = into()
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                self.assertEqual(self.checkpointer().restore(state, strict=strict), 100)
            texts = [str(w.message) for w in told]
            self.assertTrue(any(t.startswith(newest) and "it has nothing for 'optimizer'" in t for t in texts), texts)
            self.assertTrue(any(t.startswith(torn) and "cannot be read" in t for t in texts), texts)
            self.assertEqual(state["optimizer"].param_groups[0]["lr"], 0.1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # A model alone: the newest that can be read. By name: that one, or an error.
            self.assertEqual(self.checkpointer().restore({"model": torch.nn.Linear(4, 3)}), 300)
            with self.assertRaises(ingot.Mismatch):
                self.checkpointer().restore(into(), which=newest)
            self.assertEqual(self.checkpointer().restore(into(), which=newest, strict=False), 200)
            self.assertEqual(self.checkpointer().restore(into(), which=100), 100)
            with self.assertRaises(ValueError) as e:
                self.checkpointer().restore(into(), which=torn)
            self.assertIn(torn, str(e.exception))
            before = torch.nn.Linear(4, 3).to(torch.bfloat16)
            with self.assertRaises(ingot.Mismatch) as e:
                self.checkpointer().restore({"model": before})
            self.assertIn("BF16, in the checkpoint F32", str(e.exception))

    def test_ties_that_another_program_left_out(self):
        def tied():
            m = torch.nn.Sequential(torch.nn.Embedding(50, 6), torch.nn.Linear(6, 50, bias=False))
            m[1].weight = m[0].weight
            return m
        a, b = tied(), tied()
        d = os.path.join(self.dir, "checkpoint-3")
        os.makedirs(d)
        ingot.save(os.path.join(d, "model.safetensors"), {"0.weight": a[0].weight})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.assertEqual(self.checkpointer().restore({"model": b}), 3)
            self.assertSame(a.state_dict(), b.state_dict())
            with self.assertRaises(ingot.Mismatch) as e:
                self.checkpointer().restore({"model": torch.nn.Sequential(torch.nn.Embedding(50, 6), torch.nn.Linear(6, 50, bias=False))})
        self.assertIn("the checkpoint has no '1.weight'", str(e.exception))

    def test_a_trainers_directory_is_not_replaced(self):
        d = self.trainers(5)
        with self.assertRaises(ValueError) as e:
            ingot.Checkpointer(d, signals=False)
        self.assertIn("is a checkpoint itself", str(e.exception))
        before = sorted(os.listdir(d))
        ck = self.checkpointer(keep=ingot.Keep(last=1))
        with self.assertRaises(ingot.Error) as e:
            ck.save(5, {"n": 1})
        self.assertIn("other software made it", str(e.exception))
        for step in (6, 7):
            ck.save(step, {"n": 1}).wait()
        ck.close()
        self.assertEqual(sorted(os.listdir(d)), before)

    def test_a_restore_holds_the_state_once(self):
        """Beside what is read in place: all of it for a module on a device, for which another place of its tensors stands here; an optimizer's state else."""
        script = """
import sys, torch, ingot
from ingot import nest

def make():
    model = torch.nn.Sequential(*[torch.nn.Linear(1024, 1024, bias=False) for _ in range(8)])
    return {"model": model, "optimizer": torch.optim.AdamW(model.parameters())}

def most():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) / 1024 for line in f if line.startswith("VmHWM"))

if sys.argv[1] == "save":
    state = make()
    for p in state["model"].parameters():
        p.grad = torch.ones_like(p)
    state["optimizer"].step()
    with ingot.Checkpointer(sys.argv[2], signals=False) as ck:
        ck.save(1, state)
    sys.exit()
if sys.argv[1] == "device":
    nest.in_place = lambda *a: None
state = make()
before = most()
with ingot.Checkpointer(sys.argv[2], signals=False) as ck:
    ck.restore(state)
print(most() - before)
"""
        def run(how):
            return subprocess.run([sys.executable, "-W", "ignore", "-c", script, how, self.dir], env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)), check=True, capture_output=True, text=True).stdout
        run("save")
        self.assertLess(float(run("host")), 1.25 * 64)
        self.assertLess(float(run("device")), 1.25 * 96)

    def test_examples_train_killed_at_random(self):
        rounds = int(os.environ.get("INGOT_KILLS", "4"))
        script = os.path.join(ROOT, "examples", "train.py")
        env = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))

        def start(directory):
            return subprocess.Popen([sys.executable, script, "--checkpoints", directory, "--steps", "120", "--every", "6"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

        def end(p):
            out, err = p.communicate()
            self.assertEqual(p.returncode, 0, err)
            return json.loads(out)
        whole = end(start(os.path.join(self.tmp.name, "whole")))
        choose = random.Random(int(os.environ.get("INGOT_SEED", "1")))
        for k in range(rounds):
            newest = ingot.latest(self.dir)
            least = int(newest.rsplit("-", 1)[1]) if newest else 0
            if least >= 100:
                break
            p = start(self.dir)
            # Killed some time after it has got beyond what there was.
            while p.poll() is None:
                newest = ingot.latest(self.dir)
                step = int(newest.rsplit("-", 1)[1]) if newest else 0
                if step > least:
                    break
                time.sleep(0.005)
            try:
                p.wait(choose.uniform(0, 0.1))
            except subprocess.TimeoutExpired:
                p.send_signal(signal.SIGTERM if k % 3 == 2 else signal.SIGKILL)
            _, err = p.communicate()
            self.assertIn(p.returncode, (0, 75, -signal.SIGKILL), err)
            if k:
                self.assertIn("resumed at step", err)
        self.assertEqual(end(start(self.dir))["weights"], whole["weights"])


if __name__ == "__main__":
    unittest.main()
