"""The package with NumPy alone: what is kept, found again, refused."""
import collections
import enum
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
import unittest.mock
import warnings

import numpy as np

import ingot
from ingot import names, nest
from shared import flip


WITH_PACKAGE = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))


class Counter2:
    """An object with a state."""

    def __init__(self, n=0):
        self.n, self.w = n, np.arange(n, dtype=np.float32)

    def state_dict(self):
        return {"n": self.n, "w": self.w}

    def load_state_dict(self, s):
        self.n, self.w = s["n"], s["w"]


class Colour(enum.IntEnum):
    RED, BLUE = 1, 2


class Mode(enum.Enum):
    FAST = "fast"


Point = collections.namedtuple("Point", "x y")


class Text(str):
    pass


class Table(dict):
    pass


class Row(list):
    pass


class Pair(tuple):
    pass


def same(a, b):
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return type(a) is type(b) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple, collections.deque)):
        return type(a) is type(b) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    if isinstance(a, float) and a != a:
        return b != b
    return type(a) is type(b) and a == b


class Case(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.TemporaryDirectory()
        self.addCleanup(self.tmp.cleanup)
        self.dir = os.path.join(self.tmp.name, "ck")

    def checkpointer(self, **options):
        ck = ingot.Checkpointer(self.dir, signals=False, **options)
        self.addCleanup(ck.close)
        return ck


class Nests(Case):
    NEST = {
        "plain": {"int": 1, "big": 10**30, "negative": -5, "none": None, "yes": True, "text": "a\u00e9\u4e2d\n\"", "float": 0.1, "tiny": 5e-324, "nan": float("nan"), "inf": float("-inf"),
                  "bytes": b"\x00\xff", "complex": 1 - 2j, "empty": {}, "list": [1, [2, []]], "tuple": (1, (2,), ()), "set": {1, 2}, "frozen": frozenset({3}),
                  "deque": collections.deque([1, 2]), "counter": collections.Counter({"a": 2}), "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
                  "int_keys": {0: "a", 1: {2: 3.5}}, "mixed": {(1, 2): "t", None: 1}, "dollar": {"$tensor": 1}, "dots": {"a.b": {"c": 1}, "a": {"b.c": 2}}},
        "scalars": {"f": np.float32(1.5), "i": np.int64(-7), "b": np.bool_(True)},
        "arrays": {"zero_d": np.array(3.5), "empty": np.zeros((0, 4), np.int16), "f16": np.arange(7, dtype=np.float16), "c64": np.array([1 + 2j], np.complex64),
                   "strided": np.arange(24, dtype=np.int32).reshape(4, 6)[::2, ::-1], "big_endian": np.arange(5, dtype=">f8"), "bool": np.array([True, False]),
                   "a.b": {"c": np.ones(2)}, "a": {"b.c": np.zeros(3)}},
    }

    def test_come_back_as_they_were(self):
        want = {k: v for k, v in self.NEST.items()}
        want["arrays"] = dict(want["arrays"], big_endian=np.arange(5, dtype="=f8"), strided=np.ascontiguousarray(want["arrays"]["strided"]))
        ck = self.checkpointer()
        ck.save(3, dict(self.NEST)).wait()
        state = {k: None for k in self.NEST}
        self.assertEqual(ck.restore(state), 3)
        for k in want:
            self.assertTrue(same(state[k], want[k]), f"{k}: {state[k]!r}")

    def own(self):
        """Kinds that plain JSON has not, and the program's own."""
        return {"enum": Colour.BLUE, "mode": Mode.FAST, "point": Point(np.arange(3), [Colour.RED]), "text": Text("a"), "table": Table(b=Point(1, 2)), "row": Row([1, 2]), "pair": Pair((1, 2)),
                "lambda": collections.defaultdict(lambda: 7, k=[1]), "list": [Point(1, Point(2, 3))]}

    def test_kinds_of_the_programs_own(self):
        exact = {"bytes": bytearray(b"\x00\xff"), "ring": collections.deque([1, 2], 5), "lists": collections.defaultdict(list, a=[1]), "none": collections.defaultdict(None, a=1)}
        ck = self.checkpointer()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ck.save(1, {"own": self.own(), "exact": exact}).wait()
            state = {"own": self.own(), "exact": None}
            state["own"].update(enum=Colour.RED, text=Text("b"), row=Row(), table=Table(), point=Point(np.zeros(3), [Colour.BLUE]), **{"lambda": collections.defaultdict(lambda: 7)})
            table, row = state["own"]["table"], state["own"]["row"]
            state["own"]["table"]["b"] = Point(0, 0)
            ck.restore(state)
        self.assertTrue(same(state["own"], self.own()), state["own"])
        self.assertIs(type(state["own"]["point"].y[0]), Colour)
        self.assertIs(state["own"]["table"], table)
        self.assertIs(state["own"]["row"], row)
        self.assertEqual(state["own"]["lambda"]["new"], 7)
        self.assertTrue(same(state["exact"], exact))
        self.assertEqual(state["exact"]["ring"].maxlen, 5)
        self.assertEqual(state["exact"]["lists"]["new"], [])

    def test_where_the_state_has_none_of_the_kind_it_is_told(self):
        ck = self.checkpointer()
        ck.save(1, {"own": self.own()}).wait()
        state = {"own": None}
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            ck.restore(state)
        self.assertIn("'own/enum' was a", str(told[0].message))
        self.assertEqual(told[0].filename, __file__)
        self.assertEqual((state["own"]["enum"], state["own"]["list"], state["own"]["table"]), (2, [(1, (2, 3))], {"b": (1, 2)}))
        # Another kind than what was there, or other fields, is no place for it.
        Other = collections.namedtuple("Point", "x z")
        state = {"own": dict(self.own(), list=[Other(0, 0)])}
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            ck.restore(state)
        self.assertIn("'own/list/0' was a", str(told[0].message))
        self.assertIs(type(state["own"]["list"][0]), tuple)

    def test_what_an_object_gets_back_as_a_plain_kind_is_told_once(self):
        class Thing:
            def state_dict(self):
                return {"colour": Colour.RED, "at": Point(1, 2)}

            def load_state_dict(self, s):
                self.got = s
        ck = self.checkpointer()
        thing = Thing()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            ck.save(1, {"once": thing}).wait()
            ck.save(2, {"once": thing}).wait()
            ck.restore({"once": thing})
        told = [w for w in told if "come back as plain kinds" in str(w.message)]
        self.assertEqual(len(told), 1)
        self.assertIn("once/colour", str(told[0].message))
        self.assertEqual(told[0].filename, __file__)
        self.assertEqual(thing.got, {"colour": 1, "at": (1, 2)})

    def test_numpys_global_numbers_of_another_kind(self):
        if not hasattr(np.random, "set_bit_generator"):
            self.skipTest("this NumPy has no set_bit_generator")
        self.addCleanup(np.random.set_bit_generator, np.random.MT19937())
        ck = self.checkpointer()
        for step, kind in enumerate(("MT19937", "PCG64", "Philox", "SFC64"), 1):
            np.random.set_bit_generator(getattr(np.random, kind)(step))
            np.random.randn()
            ck.save(step, {"rng": ingot.rng()}).wait()
            want = (np.random.randn(3).tolist(), np.random.randint(1 << 30, size=5).tolist())
            for live in ("PCG64", "MT19937"):
                np.random.set_bit_generator(getattr(np.random, live)(9))
                self.checkpointer().restore({"rng": ingot.rng()}, which=step)
                self.assertEqual((np.random.randn(3).tolist(), np.random.randint(1 << 30, size=5).tolist()), want, (kind, live))

    def test_two_byte_orders_of_one_memory_are_two_arrays(self):
        a = np.arange(5, dtype="<i4")
        ck = self.checkpointer()
        ck.save(1, {"x": {"little": a, "big": a.view(">i4")}}).wait()
        state = {"x": None}
        ck.restore(state)
        self.assertEqual((state["x"]["little"].tolist(), state["x"]["big"].tolist()), (a.tolist(), a.view(">i4").tolist()))

    def test_one_array_named_twice_is_kept_once(self):
        a = np.arange(100_000, dtype=np.float32)
        ck = self.checkpointer()
        ck.save(1, {"x": {"a": a, "b": a, "c": a[:]}, "y": a.reshape(10, -1)}).wait()
        size = sum(e.stat().st_size for e in os.scandir(os.path.join(self.dir, "checkpoint-1")))
        self.assertLess(size, 3 * a.nbytes)

    def test_what_cannot_be_kept_is_named_by_its_place(self):
        ck = self.checkpointer()
        loop = []
        loop.append(loop)
        deep = []
        for _ in range(3000):
            deep = [deep]
        with self.assertRaises(ingot.StateError) as e:
            ck.save(1, {"x": deep})
        self.assertIn("more than 200 deep", str(e.exception))
        for bad, words in ((object(), "object"), ("\udcff", "lone surrogate"), ({"\udcff": 1}, "lone surrogate"), ({(1, "\udcff"): 1}, "lone surrogate"), (10**9000, "integer of 29898 bits"), (loop, "holds itself"), (np.array(["a"]), "<U1"), (lambda: 0, "function"), (np.array([1], np.longdouble), "128")):
            with self.assertRaises(TypeError) as e:
                ck.save(1, {"x": {"deep": [0, bad]}})
            self.assertIn("x/deep/1", str(e.exception))
            self.assertIn(words, str(e.exception))
        self.assertEqual(os.listdir(self.dir) if os.path.isdir(self.dir) else [], [])

    def test_generators_of_the_programs_own(self):
        def make(seed):
            return {"one": np.random.default_rng(seed), "rest": [np.random.RandomState(seed), np.random.Generator(np.random.Philox(seed))]}

        def draw(s):
            return [s["one"].random(), s["rest"][0].randn(), s["rest"][1].integers(1 << 60)]
        a, b = make(1), make(2)
        draw(a)
        ck = self.checkpointer()
        ck.save(1, a).wait()
        one = b["one"]
        ck.restore(b)
        self.assertIs(b["one"], one)
        self.assertEqual(draw(a), draw(b))
        with self.assertRaises(ingot.Mismatch):
            ck.restore({"one": np.random.Generator(np.random.MT19937(1)), "rest": make(1)["rest"]})

    def test_arrays_of_other_libraries_are_told(self):
        class Frame:
            def __array__(self, dtype=None, copy=None):
                return np.arange(4.0)
        ck = self.checkpointer()
        state = {"x": {"frame": Frame(), "matrix": np.matrix([[1.0, 2.0]])}}
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            ck.save(1, state).wait()
        self.assertIn("Frame), x/matrix (numpy.matrix)", str(told[0].message))

    def test_jax(self):
        try:
            import jax
            import jax.numpy as jnp
        except ImportError:
            self.skipTest("jax is not there")
        State = collections.namedtuple("ScaleByAdamState", "count mu nu")

        def make(n):
            w = {"w": jnp.full((3, 2), n), "b": jnp.full(3, n, jnp.bfloat16)}
            return {"params": w, "opt": (State(jnp.int32(n), w, dict(w)), ()), "key": jax.random.key_data(jax.random.key(n))}
        ck = self.checkpointer()
        ck.save(1, make(1)).wait()
        state = make(0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ck.restore(state)
        self.assertEqual(jax.tree.structure(state), jax.tree.structure(make(1)))
        for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(make(1))):
            self.assertIsInstance(a, jax.Array)
            self.assertEqual(a.dtype, b.dtype)
            self.assertTrue((a == b).all())
        with self.assertRaises(ingot.StateError) as e:
            ck.save(2, {"key": jax.random.key(0)})
        self.assertIn("key: a jax", str(e.exception))

    def test_names_that_meet_are_kept_apart(self):
        state = {"x/y": {"a": np.ones(1)}, "state": {"a": np.zeros(1)}, "model": np.full(1, 5.0), "weird name!": np.full(1, 6.0)}
        ck = self.checkpointer()
        ck.save(1, state).wait()
        back = dict.fromkeys(state)
        ck.restore(back)
        self.assertTrue(same(back, state))


class Checkpoints(Case):
    def test_restore_into_objects(self):
        ck = self.checkpointer()
        ck.save(5, {"c": Counter2(4), "n": 1}).wait()
        state = {"c": Counter2(), "n": None}
        self.assertEqual(ck.restore(state), 5)
        self.assertEqual((state["c"].n, state["c"].w.tolist(), state["n"]), (4, [0, 1, 2, 3], 1))
        self.assertEqual(ck.resumed_from, os.path.join(self.dir, "checkpoint-5"))

    def test_nothing_there_is_a_fresh_start(self):
        ck = self.checkpointer()
        self.assertEqual(ck.restore({"a": 1}), 0)
        self.assertIsNone(ck.resumed_from)
        self.assertIsNone(ingot.latest(self.dir))

    def test_a_damaged_one_is_put_aside(self):
        ck = self.checkpointer()
        for step in (1, 2):
            ck.save(step, {"a": np.full(1000, step)}).wait()
        path = os.path.join(self.dir, "checkpoint-2", "a.safetensors")
        flip(path, -500)
        state = {"a": None}
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            self.assertEqual(ck.restore(state), 1)
        self.assertIn("checkpoint-2", str(told[0].message))
        self.assertEqual(state["a"][0], 1)
        with open(os.path.join(self.dir, "checkpoint-2", "quarantine.json")) as f:
            self.assertIn("hash", json.load(f)["reason"])
        self.assertTrue(ingot.latest(self.dir).endswith("checkpoint-1"))
        with self.assertRaises(ingot.BadInput):
            ck.restore(state, which=2)

    def test_what_differs_is_told(self):
        ck = self.checkpointer()
        ck.save(1, {"a": 1, "b": 2}).wait()
        with self.assertRaises(ingot.Mismatch) as e:
            ck.restore({"a": 1, "c": 3})
        self.assertIn("'c' is in the state and not in the checkpoint", str(e.exception))
        self.assertIn("'b' is in the checkpoint and not in the state", str(e.exception))
        state = {"a": None, "c": 3}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.assertEqual(ck.restore(state, strict=False), 1)
        self.assertEqual(state, {"a": 1, "c": 3})

    def test_which(self):
        ck = self.checkpointer(keep=ingot.Keep(best=1, last=2, metric="loss"))
        for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0), (4, 5.0)):
            ck.save(step, {"n": step}, metrics={"loss": loss})
        ck.wait()
        steps = lambda: sorted(int(d.split("-")[1]) for d in os.listdir(self.dir) if d.startswith("checkpoint-"))
        ck.close()
        self.assertEqual(steps(), [2, 3, 4])
        ck = self.checkpointer(keep=ingot.Keep(best=1, last=2, metric="loss"))
        state = {"n": 0}
        for which, step in (("latest", 4), ("best", 2), (3, 3), (os.path.join(self.dir, "checkpoint-2"), 2)):
            self.assertEqual(ck.restore(state, which=which), step)
            self.assertEqual(state["n"], step)

    def test_an_empty_array_may_come_first(self):
        ck = self.checkpointer()
        ck.save(1, {"x": {"e": np.empty((0, 3)), "f": np.ones(2)}, "y": np.empty(0)}).wait()
        state = {"x": None, "y": None}
        ck.restore(state)
        self.assertEqual((state["x"]["e"].shape, state["x"]["f"].tolist(), state["y"].shape), ((0, 3), [1, 1], (0,)))

    def test_arrays_made_for_the_save_are_not_one(self):
        class Made:
            def __init__(self, n):
                self.n, self.got = n, None

            def state_dict(self):
                return {"w": np.full((30, 20), self.n).T}

            def load_state_dict(self, s):
                self.got = s["w"]
        ck = self.checkpointer()
        ck.save(1, {f"o{n}": Made(n) for n in range(6)}).wait()
        state = {f"o{n}": Made(-1) for n in range(6)}
        ck.restore(state)
        self.assertEqual([int(state[f"o{n}"].got[0, 0]) for n in range(6)], list(range(6)))

    def test_objects_in_lists_and_tuples(self):
        ck = self.checkpointer()
        ck.save(1, {"all": [Counter2(3), (Counter2(4), {"x": Counter2(5)})]}).wait()
        a, b, c = Counter2(), Counter2(), Counter2()
        state = {"all": [a, (b, {"x": c})]}
        ck.restore(state)
        self.assertEqual((a.n, b.n, c.n), (3, 4, 5))
        self.assertIs(state["all"][0], a)
        # One of another form is told before anything is touched, and without strict left as it is.
        d = Counter2(9)
        for form in ([d], {"x": d}):
            with self.assertRaises(ingot.Mismatch) as e:
                ck.restore({"all": form})
            self.assertIn("'all' holds objects", str(e.exception))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                state = {"all": form}
                ck.restore(state, strict=False)
            self.assertIs(state["all"], form)
            self.assertEqual(d.n, 9)

    def test_names_that_join_alike(self):
        ck = self.checkpointer()
        ck.save(1, {"x": {"a.b": np.ones(3), "a": {"b": np.zeros(3)}}}).wait()
        state = {"x": {"a.b": np.full(3, 7.0), "a": {"b": np.full(3, 7.0)}}}
        ck.restore(state)
        self.assertEqual((state["x"]["a.b"].tolist(), state["x"]["a"]["b"].tolist()), ([1, 1, 1], [0, 0, 0]))

    def damage(self, step, name):
        file = os.path.join(self.dir, f"checkpoint-{step}", name)
        with open(file, "r+b") as f:
            f.seek(os.path.getsize(file) // 2)
            b = f.read(1)
            f.seek(-1, 1)
            f.write(bytes([b[0] ^ 4]))

    def test_where_none_is_whole_nothing_starts_afresh(self):
        ck = self.checkpointer()
        ck.save(1, {"a": np.full(1000, 5.0), "n": 1}).wait()
        self.damage(1, "a.safetensors")
        state = {"a": np.zeros(1000), "n": 0}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with self.assertRaises(ingot.BadInput) as e:
                ck.restore(state)
        self.assertIn("none of its checkpoints can be taken", str(e.exception))
        self.assertEqual((state["a"].sum(), state["n"]), (0, 0))
        # The job is started again: it has been put aside by now.
        for which in ("latest", self.dir):
            with self.assertRaisesRegex(ingot.BadInput, "none of its checkpoints can be taken .1 put aside.*give another directory, or remove them"):
                self.checkpointer().restore(state, which=which)

    def test_torn_ones_alone_are_told_before_a_fresh_start(self):
        ck = self.checkpointer()
        ck.save(1, {"n": 1}).wait()
        os.truncate(os.path.join(self.dir, "checkpoint-1", "state.json"), 3)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            self.assertEqual(self.checkpointer().restore({"n": 0}), 0)
        self.assertRegex(str(told[0].message), "checkpoint-1 is torn.*state.json")

    def test_every_damaged_file_is_passed_over(self):
        for name in ("state.json", "manifest.json", "a.safetensors"):
            ck = self.checkpointer()
            for step in (1, 2):
                ck.save(step, {"a": np.full(1000, step), "n": step})
            ck.wait()
            self.damage(2, name)
            state = {"a": None, "n": 0}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.assertEqual(ck.restore(state), 1, name)
            self.assertEqual((state["n"], int(state["a"][0])), (1, 1))
            ck.close()
            import shutil
            shutil.rmtree(self.dir)

    def test_a_state_json_of_other_content_is_damage(self):
        from ingot import _ingot
        ck = self.checkpointer()
        ck.save(1, {"n": 1}).wait()
        ck.save(2, {"n": 2}).wait()
        real = ingot.reading._ingot.look_at(os.path.join(self.dir, "checkpoint-2"))

        class Found:
            def __init__(self, text):
                self.text = text

            def read_object(self, name):
                return self.text

            def __getattr__(self, name):
                return getattr(real, name)
        for text in ("{", "[]", "{}", '{"state":[]}', '{"state":{"n":{"$tensor":1}}}', '{"state":{"n":{"$tensor":["a"]}}}', '{"state":{"n":{"$set":[[1]]}}}', '{"state":{"n":{"$float":"x"}}}',
                     '{"state":{"n":{"$scalar":["O",1]}}}', '{"state":{"n":{"$peft":{}}}}', '{"state":{"n":{"$bytes":"A"}}}', '{"state":{"n":{"$dict":[1]}}}', '{"state":{"n":' + "[" * 3000 + "]" * 3000 + "}}",
                     "[" * 100000, '{"own":[["n"]],"state":{"n":{"$named":3}}}'):
            with self.assertRaisesRegex(ingot.BadInput, "checkpoint-2/state.json: it is no state"):
                ingot.reading.restore(Found(text), {"n": 0}, True, 0)
        with self.assertRaisesRegex(ingot.Error, "which this ingot does not know") as e:
            ingot.reading.restore(Found('{"state":{"n":{"$newest":1}}}'), {"n": 0}, True, 0)
        self.assertNotIsInstance(e.exception, ingot.BadInput)  # is not put aside

    def test_a_newer_format_is_not_a_fresh_start(self):
        ck = self.checkpointer()
        ck.save(1, {"n": 1}).wait()
        path = os.path.join(self.dir, "checkpoint-1", "manifest.json")
        with open(path) as f:
            text = f.read().replace('"version":1', '"version":2')
        body = text[:text.rindex(',"hash"')]
        try:
            import xxhash
        except ImportError:
            self.skipTest("xxhash is not there")
        with open(path, "w") as f:
            f.write(f'{body},"hash":"{xxhash.xxh3_128_hexdigest(body.encode())}"}}\n')
        with self.assertRaises(ingot.Error) as e:
            ck.restore({"n": 0})
        self.assertIn("version 2", str(e.exception))

    def test_going_back_is_a_newer_branch(self):
        ck = self.checkpointer(keep=ingot.Keep(last=2))
        for step in (2, 4, 6):
            ck.save(step, {"n": step}).wait()
        state = {"n": 0}
        self.assertEqual(ck.restore(state, which=4), 4)
        ck.save(5, {"n": 50}).wait()
        ck.close()
        self.assertTrue(ingot.latest(self.dir).endswith("checkpoint-5"))
        ck = self.checkpointer(keep=ingot.Keep(last=1))
        ck.save(9, {"n": 9}).wait()
        ck.save(3, {"n": 3}).wait()
        ck.close()
        self.assertTrue(ingot.latest(self.dir).endswith("checkpoint-3"))

    def test_one_that_was_taken_for_lost_does_not_take_the_directory_back(self):
        sleeper = self.checkpointer()
        sleeper.save(5, {"n": 5}).wait()
        successor = self.checkpointer()
        successor.save(6, {"n": 6}).wait()
        with self.assertRaises(ingot.Error):
            sleeper.save(3, {"n": 3}).wait()  # its step goes down
        successor.save(7, {"n": 7}).wait()
        self.assertTrue(ingot.latest(self.dir).endswith("checkpoint-7"))
        self.assertFalse(os.path.exists(os.path.join(self.dir, "checkpoint-3")))

    def test_a_skipped_save_is_told(self):
        a = np.zeros(20_000_000)
        with ingot.Checkpointer(self.dir, signals=False, overlap="skip") as ck:
            first = ck.save(1, {"a": a})
            second = ck.save(2, {"a": a})
            self.assertTrue(second is None or first.done)
        with ingot.Checkpointer(self.dir, ingot.Cadence(steps=1), signals=False, overlap="skip") as ck:
            for _ in ck.steps(4, {"a": a}):
                pass
        self.assertTrue(ingot.latest(self.dir).endswith("checkpoint-4"))

    def test_after_close_nothing_is_saved(self):
        ck = self.checkpointer()
        ck.save(1, {"n": 1})
        ck.close()
        with self.assertRaises(ValueError):
            ck.save(2, {"n": 2})
        ck.report(1, {"loss": 0.5})  # an evaluation's

    def test_metrics_of_a_step_without_a_checkpoint_end_nothing(self):
        ck = self.checkpointer(keep=ingot.Keep(last=1))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            ck.report(2, {"loss": 0.25})  # not saved yet
            ck.report(3, {"loss": 0.125})
            ck.save(2, {"n": 2}, {"other": 1.0}).wait()
            ck.save(4, {"n": 4}).wait()
            ck.wait()
            self.assertFalse(os.path.exists(os.path.join(self.dir, "checkpoint-2")))
            ck.report(1, {"loss": 0.5})  # never was
            ck.report(2, {"loss": 0.5})  # removed
        self.assertEqual([str(w.message).split(",")[0] for w in told], ["metrics of step 2", "metrics of step 1"])
        self.assertEqual(told[0].filename, __file__)
        ck.report(5, {"loss": 0.0625})
        ck.save(5, {"n": 5}, {"other": 2.0}).wait()
        from ingot import _ingot
        self.assertEqual(dict(_ingot.look_at(os.path.join(self.dir, "checkpoint-5")).metrics), {"loss": 0.0625, "other": 2.0})

    def test_a_skipped_save_stays_due(self):
        a = np.zeros(40_000_000)
        ck = self.checkpointer(cadence=ingot.Cadence(minutes=1e-6), overlap="skip")
        ck.save(1, {"a": a})
        before = ck._last_due
        if ck.save(2, {"a": a}) is None:
            self.assertEqual(ck._last_due, before)

    def test_a_handler_that_saves_while_the_first_save_opens(self):
        from ingot import _ingot
        for when in ("before", "after"):
            directory = os.path.join(self.dir, when)
            ck = ingot.Checkpointer(directory, signals=False)
            self.addCleanup(ck.close)
            real, inner = _ingot.Saver, []

            def opening(*args):
                if inner:
                    return real(*args)
                inner.append(None)
                if when == "after":
                    made = real(*args)
                inner[0] = ck.save(1, {"n": 1})
                return made if when == "after" else real(*args)

            def outer():
                with unittest.mock.patch.object(_ingot, "Saver", opening):
                    inner.append(ck.save(2, {"n": 2}))
            t = threading.Thread(target=outer, daemon=True)
            t.start()
            t.join(20)
            self.assertFalse(t.is_alive(), "it waits for itself")
            for handle in inner:
                handle.wait(20)
            ck.close()
            self.assertEqual(sorted(d for d in os.listdir(directory) if d.startswith("checkpoint-")), ["checkpoint-1", "checkpoint-2"])

    def test_after_close_a_step_below_zero(self):
        with self.assertRaises(ValueError):
            self.checkpointer().save(-1, {"n": 1})

    def test_late_metrics(self):
        ck = self.checkpointer(keep=ingot.Keep(best=1, last=1, metric="loss"))
        for step, loss in ((1, 0.5), (2, 0.7), (3, 0.9)):
            ck.save(step, {"n": step})
            ck.report(step, {"loss": loss})
        ck.close()
        self.assertEqual(sorted(d for d in os.listdir(self.dir) if d.startswith("checkpoint-")), ["checkpoint-1", "checkpoint-3"])

    def test_the_error_of_a_save_comes_out(self):
        ck = self.checkpointer()
        ck.save(1, {"n": np.zeros(10)}).wait()
        os.mkdir(os.path.join(self.dir, ".checkpoint-2.ingot-lock"))  # nobody can take that lock
        handle = ck.save(2, {"n": np.zeros(10)})
        with self.assertRaises(ingot.Error):
            handle.wait()
        self.assertIsInstance(handle.error, ingot.Error)
        ck.save(3, {"n": np.zeros(10)}).wait()  # the error has been told
        os.mkdir(os.path.join(self.dir, ".checkpoint-4.ingot-lock"))
        ck.save(4, {"n": np.zeros(10)})
        with self.assertRaises(ingot.Error):
            ck.save(5, {"n": np.zeros(10)})
        ck.save(6, {"n": np.zeros(10)}).wait()

    def test_a_step_already_saved_gives_its_handle(self):
        ck = self.checkpointer()
        h = ck.save(1, {"n": 1})
        self.assertIs(ck.save(1, {"n": 1}), h)

    def test_changes_after_save_are_not_seen(self):
        ck = self.checkpointer()
        a = np.ones(2_000_000)
        for step in range(1, 4):
            a[:] = step
            ck.save(step, {"a": a})
            a[:] = -1
        state = {"a": None}
        ck.wait()
        ck.restore(state)
        self.assertTrue((state["a"] == 3).all())

    def test_steps_and_cadence(self):
        seen = []
        with ingot.Checkpointer(self.dir, ingot.Cadence(steps=3), signals=False) as ck:
            for step in ck.steps(7, {"n": 1}):
                seen.append(step)
        self.assertEqual(seen, list(range(1, 8)))
        with ingot.Checkpointer(self.dir, ingot.Cadence(steps=3), signals=False) as ck:
            self.assertEqual(list(ck.steps(9, {"n": 1})), [8, 9])

    def test_the_models_files_travel(self):
        model = os.path.join(self.tmp.name, "model")
        os.mkdir(model)
        with self.assertRaises(ValueError):
            self.checkpointer(model_files=model)
        for name, data in (("config.json", b"{}"), ("tokenizer.model", b"\x00\xff"), ("vocab.txt", b"a"), ("tekken.json", b"{}"), ("other.txt", b"no")):
            with open(os.path.join(model, name), "wb") as f:
                f.write(data)
        ck = self.checkpointer(model_files=model)
        ck.save(1, {"n": 1}).wait()
        with open(os.path.join(self.dir, "checkpoint-1", "tokenizer.model"), "rb") as f:
            self.assertEqual(f.read(), b"\x00\xff")
        self.assertEqual(sorted(os.listdir(os.path.join(self.dir, "checkpoint-1"))), ["config.json", "manifest.json", "state.json", "tekken.json", "tokenizer.model", "vocab.txt"])

    def test_nemos_rules(self):
        rules = ingot.Keep.from_nemo({"exp_manager": {"checkpoint_callback_params": {"save_top_k": 5, "monitor": "acc", "mode": "max", "save_last": True}}})._rules
        self.assertEqual((rules["best"], rules["metric"], rules["greatest"], rules["last"]), (5, "acc", True, 1))
        self.assertIsNone(ingot.Keep.from_nemo({"checkpoint_callback_params": {"save_top_k": -1}})._rules["best"])
        with self.assertRaises(ValueError):
            ingot.Keep.from_nemo({"save_top_k": "many"})

    def test_nemos_cadence(self):
        def cadence(steps_per_epoch=None, **params):
            c = ingot.Cadence.from_nemo({"exp_manager": {"async_saving": True, "checkpoint_callback_params": params}}, steps_per_epoch)
            return c.steps, c.minutes
        self.assertEqual(cadence(every_n_train_steps=500, save_top_k=3, async_save=True), (500, None))
        self.assertEqual(cadence(train_time_interval={"hours": 1, "minutes": 30}), (None, 90.0))
        self.assertEqual(cadence(train_time_interval="00:00:30:00", every_n_train_steps=0), (None, 30.0))
        self.assertEqual(cadence(every_n_epochs=2, steps_per_epoch=40), (80, None))
        self.assertEqual(ingot.Cadence.from_nemo({"every_n_train_steps": 7}).steps, 7)
        for params, text in (({}, "after each validation"), ({"every_n_epochs": 1}, "steps_per_epoch=len"), ({"every_n_train_steps": 5, "every_n_epochs": 1}, "takes one"), ({"train_time_interval": 30}, "train_time_interval is 30"),
                             ({"train_time_interval": {"weaks": 1}}, "expected days"), ({"every_n_train_steps": 5, "async_save": "maybe"}, "async_save is 'maybe'")):
            with self.assertRaisesRegex(ValueError, text):
                cadence(**params)
        with self.assertRaises(TypeError):
            cadence(every_n_train_steps="often")
        if importlib.util.find_spec("yaml"):
            path = os.path.join(self.dir + "-nemo.yaml")
            with open(path, "w") as f:
                f.write("exp_manager:\n  checkpoint_callback_params:\n    every_n_train_steps: 100\n    save_top_k: 2\n    monitor: val_loss\n")
            self.addCleanup(os.remove, path)
            self.assertEqual((ingot.Cadence.from_nemo(path).steps, ingot.Keep.from_nemo(path)._rules["best"]), (100, 2))

    def test_paths(self):
        os.environ["INGOT_TEST_ID"] = "run7"
        self.assertEqual(ingot.expand("/a/${INGOT_TEST_ID}/${INGOT_UNSET_X:-b}"), "/a/run7/b")
        with self.assertRaises(ValueError) as e:
            ingot.expand("${INGOT_UNSET_X}")
        self.assertIn("INGOT_UNSET_X", str(e.exception))
        self.assertEqual(ingot.expand("~/a"), os.path.join(os.path.expanduser("~"), "a"))
        for text, words in (("$HOME/x", "write ${HOME} for"), ("/a/${HOME-b}", "a variable is ${NAME}"), ("/a/${HOME", "a variable is ${NAME}")):
            with self.assertRaisesRegex(ValueError, words.replace("$", r"\$").replace("{", r"\{")):
                ingot.expand(text)
        there = os.path.join(self.tmp.name, "$HOME")
        os.mkdir(there)
        self.assertEqual(ingot.expand(there), there)

    def test_a_relative_directory_stays_where_it_was(self):
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(self.tmp.name)
        ck = ingot.Checkpointer("run", signals=False)
        os.mkdir("elsewhere")
        os.chdir("elsewhere")
        ck.save(1, {"n": 1}).wait()
        ck.close()
        self.assertEqual(os.listdir("."), [])
        self.assertTrue(os.path.isdir(os.path.join(self.tmp.name, "run", "checkpoint-1")))
        os.chdir(self.tmp.name)
        self.assertTrue(os.path.isabs(ingot.latest("run")))

    def test_readable_without_ingot(self):
        ck = self.checkpointer()
        ck.save(1, {"opt": {"state": {0: {"m": np.arange(3, dtype=np.float32)}}, "lr": 0.5}}).wait()
        with open(os.path.join(self.dir, "checkpoint-1", "state.json")) as f:
            self.assertEqual(json.load(f)["state"]["opt"]["lr"], 0.5)
        with open(os.path.join(self.dir, "checkpoint-1", "opt.safetensors"), "rb") as f:
            n = int.from_bytes(f.read(8), "little")
            header = json.loads(f.read(n))
            begin, end = header["state.0.m"]["data_offsets"]
            f.seek(8 + n + begin)
            self.assertEqual(np.frombuffer(f.read(end - begin), np.float32).tolist(), [0, 1, 2])


class Bounds(Case):
    def test_numbers_that_are_too_large(self):
        ck = self.checkpointer()
        for call in (lambda: ck.save(2**63, {"n": 1}), lambda: ck.due(10**400), lambda: ck.report(2**64, {}), lambda: ingot.Checkpointer(self.dir, threads=2**31), lambda: ingot.Keep(last=2**40),
                     lambda: ingot.Keep(pinned=(2**63,)), lambda: ingot.Cadence(steps=2**63), lambda: ingot.Checkpointer(self.dir, max_shard_bytes=2**64), lambda: ingot.Checkpointer(self.dir, rank_timeout=float("inf")),
                     lambda: ingot.Checkpointer(self.dir, deadline=float("inf")), lambda: ck.save(1, {"n": 1}, {"loss": 10**400})):
            with self.assertRaisesRegex(ValueError, "expected at most|too large"):
                call()
        ck.save(2**63 - 1, {"n": 1}).wait()
        self.assertEqual(ck.restore({"n": 0}), 2**63 - 1)


class Arguments(Case):
    def refused(self, words, call, *args, **options):
        with self.assertRaises((TypeError, ValueError, ingot.Error)) as e:
            call(*args, **options)
        self.assertIn(words, str(e.exception))

    def test_steps(self):
        ck = self.checkpointer()
        self.assertEqual(ck.save(np.int32(2), {"n": 1}).wait().step, 2)
        self.assertEqual(ck.restore({"n": 0}, which=np.int64(2)), 2)
        for call in (ck.save, ck.report):
            for bad in (1.5, 3.0, "1", None, np.float32(1), [1]):
                self.refused("step is ", call, bad, {})
            self.refused("step is -1, expected at least 0", call, -1, {})
        self.refused("due: step is 1.5 (float), expected an integer", ck.due, 1.5)

    def test_metrics(self):
        ck = self.checkpointer()
        for bad, words in (({1: 2.0}, "the metric 1 is named by a int"), ({"loss": "0.5"}, "the metric 'loss' is '0.5' (str), expected a number"), ({"loss": None}, "expected a number"),
                           ({"\udcff": 1.0}, "no Unicode"), ([1], "metrics is a list"), ({"loss": np.ones(2)}, "expected a number")):
            self.refused(words, ck.save, 1, {"n": 1}, bad)
            self.refused(words, ck.report, 1, bad)
        ck.save(1, {"n": 1}, {"a": 1, "b": np.float32(2), "c": True}).wait()
        with open(os.path.join(self.dir, "checkpoint-1", "manifest.json")) as f:
            self.assertEqual(json.load(f)["metrics"], {"a": 1.0, "b": 2.0, "c": 1.0})

    def test_rules(self):
        for bad, words in ((dict(last="x"), "Keep: last is 'x' (str), expected an integer"), (dict(last=-1), "Keep: last is -1, expected at least 1"), (dict(best=1), "best by what"),
                           (dict(best=1.5, metric="a"), "best is 1.5"), (dict(every_steps=0), "every_steps"), (dict(max_age="1h"), "max_age is '1h'"), (dict(max_bytes=-5), "max_bytes"),
                           (dict(pinned=5), "pinned is 5"), (dict(pinned=(1, "a")), "pinned is 'a'"), (dict(metric=3), "metric is 3"), (dict(mode="most"), "mode")):
            self.refused(words, ingot.Keep, **bad)
        for bad, words in ((dict(steps="5"), "Cadence: steps is '5' (str), expected an integer"), (dict(steps=0), "at least 1"), (dict(minutes=0), "more than 0"), (dict(minutes="x"), "minutes is 'x'"),
                           (dict(minutes=float("nan")), "minutes")):
            self.refused(words, ingot.Cadence, **bad)
        self.refused("expected an ingot.Keep", ingot.Checkpointer, self.dir, keep=3)
        self.refused("expected an ingot.Cadence", ingot.Checkpointer, self.dir, cadence=500)
        self.refused("deadline is '5' (str)", ingot.Checkpointer, self.dir, deadline="5")

    def test_directories(self):
        for form in (os.fsencode(self.dir), pathlib.Path(self.dir)):
            with ingot.Checkpointer(form, signals=False) as ck:
                ck.save(1, {"n": 1})
            self.assertEqual(ck.directory, self.dir)
            self.assertEqual(ingot.latest(form), os.path.join(self.dir, "checkpoint-1"))
        self.refused("is empty", ingot.Checkpointer, "")
        self.refused("zero byte", ingot.Checkpointer, "a\0b")
        self.refused("no UTF-8", ingot.Checkpointer, b"/tmp/\xff")
        self.refused("is a checkpoint itself; give the directory that it is in, " + self.dir, ingot.Checkpointer, os.path.join(self.dir, "checkpoint-1"))

    def test_paths_of_a_checkpoint(self):
        ck = self.checkpointer()
        for step in (1, 2):
            ck.save(step, {"n": step}).wait()
        other = ingot.Checkpointer(os.path.join(self.tmp.name, "other"), signals=False)
        here = os.path.join(self.dir, "checkpoint-1")
        for which, step in ((here, 1), (here + "/", 1), (pathlib.Path(here), 1), (os.fsencode(here), 1), (os.path.join(self.dir, "latest"), 2), (self.dir, 2)):
            self.assertEqual(other.restore({"n": 0}, which=which), step, which)
        self.assertEqual(ck.restore({"n": 0}, which="checkpoint-1"), 1)
        self.refused("nowhere", other.restore, {"n": 0}, which=os.path.join(self.dir, "nowhere"))

    def test_a_state_json_that_is_too_large_names_the_place(self):
        most, ingot.nest.MOST_TEXT = ingot.nest.MOST_TEXT, 1000
        self.addCleanup(setattr, ingot.nest, "MOST_TEXT", most)
        self.refused("log/history: the plain values", self.checkpointer().save, 1, {"n": 1, "log": {"name": "x", "history": list(range(500))}})


class Runs(Case):
    def run_of(self, step):
        with open(os.path.join(self.dir, f"checkpoint-{step}", "manifest.json")) as f:
            return json.load(f).get("run")

    def test_all_checkpoints_of_a_run_carry_its_id(self):
        os.environ.pop("SKYPILOT_TASK_ID", None)
        with self.checkpointer() as ck:
            ck.restore({"n": 0})
            ck.save(1, {"n": 1}).wait()
            first = ck.run_id
        self.assertEqual((len(first), self.run_of(1)), (16, first))
        with self.checkpointer() as ck:
            ck.restore({"n": 0})
            ck.save(2, {"n": 1}).wait()
            self.assertEqual((ck.run_id, self.run_of(2)), (first, first))
        with self.checkpointer() as ck:  # asked before it resumes: for W&B
            self.assertEqual(ck.run_id, first)
            ck.restore({"n": 0})
            ck.save(3, {"n": 1}).wait()
        self.assertEqual(self.run_of(3), first)
        with self.checkpointer(run="mine") as ck:
            ck.restore({"n": 0})
            self.assertEqual(ck.run_id, "mine")
        with self.checkpointer() as ck:  # and one that resumes from nothing is another run
            ck.save(9, {"n": 1}).wait()
            self.assertNotEqual(ck.run_id, first)
        # What begins from another run's checkpoint is a run of its own.
        other = ingot.Checkpointer(os.path.join(self.tmp.name, "other"), signals=False)
        other.restore({"n": 0}, which=self.dir)
        self.assertNotEqual(other.run_id, first)

    def test_the_task_id_goes_first(self):
        os.environ["SKYPILOT_TASK_ID"] = "sky-1"
        self.addCleanup(os.environ.pop, "SKYPILOT_TASK_ID", None)
        with self.checkpointer() as ck:
            ck.save(1, {"n": 1}).wait()
        self.assertEqual((ck.run_id, self.run_of(1)), ("sky-1", "sky-1"))

    def test_poll_raises_the_error_of_a_save_once(self):
        ck = self.checkpointer()
        self.assertFalse(ck.poll())
        ck.save(1, {"n": 1}).wait()
        self.assertFalse(ck.poll())
        os.mkdir(os.path.join(self.dir, ".checkpoint-2.ingot-lock"))  # nobody can take that lock
        handle = ck.save(2, {"n": np.zeros(10)})
        while not handle.done:
            pass
        with self.assertRaises(ingot.Error) as e:
            ck.poll()
        self.assertIn("checkpoint-2", str(e.exception))
        self.assertFalse(ck.poll())
        ck.save(3, {"n": 1}).wait()


class WithoutIngot(Case):
    """docs/formats/read_checkpoint.py, which needs NumPy alone (and compares hashes where xxhash is there)."""

    def setUp(self):
        super().setUp()
        import importlib.util
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "formats", "read_checkpoint.py")
        spec = importlib.util.spec_from_file_location("read_checkpoint", path)
        self.reader = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.reader)

    def test_it_reads_what_was_saved(self):
        state = {"model": {"w": np.arange(700_000, dtype=np.float32), "b": np.ones(3, np.float16)}, "optimizer": {"state": {0: {"m": np.zeros(2)}}, "lr": 0.5, "betas": (0.9, 0.99)},
                 "nan": float("nan"), "bytes": b"x", "n": np.int64(3),
                 "kinds": [bytearray(b"y"), collections.defaultdict(list, a=[1]), Point(1, np.arange(2)), Colour.BLUE, collections.deque([1], 2), Table(a=1)]}
        ck = self.checkpointer()
        ck.save(12, state).wait()
        path = os.path.join(self.dir, "checkpoint-12")
        manifest, back = self.reader.read(path)
        self.assertEqual(manifest["step"], 12)
        self.assertTrue(same(back["model"], state["model"]))
        self.assertEqual(back["optimizer"]["state"][0]["m"].tolist(), [0, 0])
        self.assertEqual((back["optimizer"]["lr"], back["optimizer"]["betas"], back["bytes"], back["n"]), (0.5, (0.9, 0.99), b"x", 3))
        kinds = back["kinds"]
        self.assertEqual((kinds[0], kinds[1], kinds[2]["x"], kinds[2]["y"].tolist(), kinds[3:]), (b"y", {"a": [1]}, 1, [0, 1], [2, (1,), {"a": 1}]))
        file = os.path.join(path, "model.safetensors")
        os.truncate(file, os.path.getsize(file) - 1)
        with self.assertRaises(ValueError):
            self.reader.read(path)

    def test_it_reads_what_was_compressed(self):
        try:
            import zstandard  # noqa: F401
        except ImportError:
            self.skipTest("zstandard is not there")
        rng = np.random.default_rng(3)
        state = {"model": {"w": rng.standard_normal(5000).astype(np.float32)}, "optimizer": {"m": rng.standard_normal(700_000).astype(np.float32), "z": np.zeros(600_001, np.uint16), "s": np.ones(3)},
                 "noise": {"n": rng.integers(0, 256, 9, dtype=np.uint8)}}
        ck = self.checkpointer(compress="zstd")
        ck.save(12, state).wait()
        path = os.path.join(self.dir, "checkpoint-12")
        self.assertEqual([f for f in sorted(os.listdir(path)) if "safetensors" in f], ["model.safetensors", "noise.safetensors.frames", "optimizer.safetensors.frames"])
        self.assertLess(ck.stats["written_bytes"], 0.8 * ck.stats["bytes"])
        _, back = self.reader.read(path)
        self.assertTrue(same(back, state))
        into = {"model": {}, "optimizer": {}, "noise": {}}
        self.assertEqual(self.checkpointer().restore(into), 12)
        self.assertTrue(same(into, state))

    def test_it_finds_a_flipped_bit(self):
        try:
            import xxhash  # noqa: F401
        except ImportError:
            self.skipTest("xxhash is not there")
        ck = self.checkpointer()
        ck.save(1, {"a": np.zeros(500_000)}).wait()
        path = os.path.join(self.dir, "checkpoint-1")
        for name in os.listdir(path):
            file = os.path.join(path, name)
            with open(file, "r+b") as f:
                f.seek(os.path.getsize(file) * 2 // 3)
                b = f.read(1)
                f.seek(-1, 1)
                f.write(bytes([b[0] ^ 1]))
            with self.assertRaises(ValueError, msg=name):
                self.reader.check(path)
            with open(file, "r+b") as f:
                f.seek(os.path.getsize(file) * 2 // 3)
                f.write(b)
        self.reader.check(path)


class Files(Case):
    def test_a_state_in_one_file(self):
        path = os.path.join(self.tmp.name, "s.safetensors")
        state = {"a": {"x": np.arange(4.0), "n": 3, "t": (1, 2)}, "b": np.float32(2)}
        ingot.save(path, state)
        self.assertTrue(same(ingot.load(path), state))
        state["a"]["n"] = 4
        ingot.save(path, state)
        self.assertEqual(ingot.load(path)["a"]["n"], 4)

    def test_any_format_is_opened(self):
        path = os.path.join(self.tmp.name, "a.npz")
        np.savez(path, x=np.arange(6, dtype=np.int32).reshape(2, 3))
        f = ingot.open(path)
        self.assertEqual((list(f), f.format, f.shape("x"), f.dtype("x")), (["x"], "npz", (2, 3), "I32"))
        self.assertEqual(np.asarray(f["x"]).tolist(), [[0, 1, 2], [3, 4, 5]])
        with self.assertRaises(ingot.BadInput):
            ingot.open(os.path.join(self.tmp.name, "nothing.pt"))


class Names(Case):
    def test_what_a_killed_process_left_on_the_way_to_a_name_goes(self):
        os.makedirs(os.path.join(self.dir, "checkpoint-1"))
        for left in (".epoch=0.ckpt.ingot-link", ".other.ingot-new"):
            pathlib.Path(self.dir, left).write_text("x")
        pathlib.Path(self.dir, ".mine").write_text("x")
        names.point(os.path.join(self.dir, "last.ckpt"), os.path.join(self.dir, "checkpoint-1"))
        self.assertEqual(sorted(os.listdir(self.dir)), [".mine", "checkpoint-1", "last.ckpt"])
        self.assertEqual(names.target_of(os.path.join(self.dir, "last.ckpt")), os.path.realpath(os.path.join(self.dir, "checkpoint-1")))


class Processes(Case):
    SCRIPT = """
import os, signal, sys
import numpy as np
import ingot
with ingot.Checkpointer(sys.argv[1]) as ck:
    state = {"n": np.zeros(50_000), "i": 0}
    step = ck.restore(state)
    print("begin", step, flush=True)
    while True:
        step += 1
        state["n"] += 1
        state["i"] = step
        ck.save(step, state)
        print("saved", step, flush=True)
        if ck.preempted:
            ck.save(step, state).wait()
            sys.exit(ck.exit_code)
"""

    def start(self):
        return subprocess.Popen([sys.executable, "-c", self.SCRIPT, self.dir], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=WITH_PACKAGE)

    def test_killed_at_any_instant(self):
        least = 0
        for round_ in range(6):
            p = self.start()
            last = 0
            for line in p.stdout:
                word, step = line.split()
                if word == "begin":
                    self.assertGreaterEqual(int(step), least)
                last = int(step)
                if word == "saved" and last >= least + 4 + round_:
                    break
            p.kill()
            p.communicate()
            # Of two saves the first is over when the second has been taken.
            least = last - 2
            state = {"n": None, "i": 0}
            ck = ingot.Checkpointer(self.dir, signals=False)
            step = ck.restore(state)
            self.assertGreaterEqual(step, least)
            self.assertEqual(state["i"], step)
            self.assertTrue((state["n"] == step).all())

    def test_a_preemption_saves_and_exits_75(self):
        p = self.start()
        for line in p.stdout:
            if line.startswith("saved 3"):
                break
        p.terminate()
        self.addCleanup(p.stdout.close)
        self.addCleanup(p.stderr.close)
        last = [line for line in p.stdout][-1:] or [line]
        err = p.stderr.read()
        self.assertEqual(p.wait(60), 75, err)
        self.assertTrue(ingot.latest(self.dir).endswith("checkpoint-" + last[0].split()[1]))

    def test_a_step_that_is_too_long_ends_at_the_deadline(self):
        script = """
import sys, time, numpy as np, ingot
ck = ingot.Checkpointer(sys.argv[1], deadline=1.5)
ck.save(1, {"n": np.zeros(3_000_000)})
print("saving", flush=True)
time.sleep(60)  # a step
"""
        p = subprocess.Popen([sys.executable, "-c", script, self.dir], stdout=subprocess.PIPE, text=True, env=WITH_PACKAGE)
        self.addCleanup(p.stdout.close)
        p.stdout.readline()
        p.terminate()
        self.assertEqual(p.wait(30), 75)
        self.assertTrue(ingot.latest(self.dir).endswith("checkpoint-1"))

    def test_one_that_closes_leaves_the_signals_to_the_others(self):
        script = """
import os, signal, sys, ingot
one = ingot.Checkpointer(sys.argv[1] + "/one")
two = ingot.Checkpointer(sys.argv[1] + "/two")
one.close()
assert not two.poll()
os.kill(os.getpid(), signal.SIGTERM)
assert two.preempted and two.poll() and one.preempted
three = ingot.Checkpointer(sys.argv[1] + "/three")
assert three.preempted
three.close()
two.close()
os.kill(os.getpid(), signal.SIGTERM)
"""
        p = subprocess.run([sys.executable, "-c", script, self.dir], env=WITH_PACKAGE, timeout=60, capture_output=True, text=True)
        self.assertEqual(p.returncode, -signal.SIGTERM, p.stderr)

    def test_a_save_that_fails_at_the_end_is_seen_in_the_exit_code(self):
        script = """
import atexit, os, sys, ingot
atexit.register(lambda: print("the others end as they would", flush=True))
ck = ingot.Checkpointer(sys.argv[1], signals=False)
ck.save(1, {"n": 1}).wait()
os.mkdir(sys.argv[1] + "/.checkpoint-2.ingot-lock")
if sys.argv[2] == "fail":
    ck.save(2, {"n": 2})
print("done")
sys.exit(3 if sys.argv[2] == "exits" else 0)
"""
        for how, code in (("fail", 120), ("well", 0), ("exits", 3)):
            directory = os.path.join(self.dir, how)
            p = subprocess.run([sys.executable, "-c", script, directory, how], env=WITH_PACKAGE, timeout=60, capture_output=True, text=True)
            self.assertEqual((p.returncode, p.stdout), (code, "done\nthe others end as they would\n"), p.stderr)
            self.assertEqual("checkpoint-2" in p.stderr, how == "fail", p.stderr)

    def test_a_handler_set_after_the_checkpointer_is_told_once(self):
        script = """
import os, signal, sys, warnings, ingot
warnings.simplefilter("always")
signal.signal(signal.SIGUSR1, lambda *a: None)  # before: fine
ck = ingot.Checkpointer(sys.argv[1])
ck.due(1)
ck.save(1, {"n": 1}).wait()
print("so far", file=sys.stderr, flush=True)
signal.signal(signal.SIGTERM, eval(sys.argv[2]))
other = ingot.Checkpointer(sys.argv[1] + "/other")
if os.fork() == 0:
    ck.due(2)
    os._exit(0)
os.wait()
ck.due(2)
ck.due(3)
ck.save(3, {"n": 1}).wait()
"""
        for how in ("lambda *a: None", "signal.SIG_DFL", "signal.SIG_IGN"):
            p = subprocess.run([sys.executable, "-c", script, os.path.join(self.dir, how.split()[0]), how], env=WITH_PACKAGE, timeout=60, capture_output=True, text=True)
            self.assertEqual(p.returncode, 0, p.stderr)
            before, after = p.stderr.split("so far")
            self.assertNotIn("its own handler", before)
            self.assertEqual(after.count("<string>:15: RuntimeWarning: something has set its own handler for SIGTERM after"), 1, after)
            self.assertEqual(after.count("its own handler"), 1, after)

    def test_a_child_that_makes_its_own_saves(self):
        ck = self.checkpointer()
        ck.save(1, {"n": 1}).wait()
        pid = os.fork()
        if pid == 0:
            try:
                with ingot.Checkpointer(os.path.join(self.tmp.name, "child"), signals=False) as mine:
                    mine.save(1, {"n": 1}).wait()
                os._exit(7)
            except BaseException:
                os._exit(1)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 7)

    def test_a_child_can_be_terminated(self):
        script = """
import os, signal, sys, time, ingot
ck = ingot.Checkpointer(sys.argv[1])
pid = os.fork()
if pid == 0:
    time.sleep(60)
    os._exit(0)
os.kill(pid, signal.SIGTERM)
print(os.waitpid(pid, 0)[1], flush=True)
"""
        p = subprocess.run([sys.executable, "-c", script, self.dir], stdout=subprocess.PIPE, text=True, timeout=30, env=WITH_PACKAGE)
        self.assertEqual(p.stdout.strip(), "15")

    def test_a_forked_child_does_no_harm(self):
        ck = self.checkpointer()
        under_way = ck.save(1, {"n": np.zeros(20_000_000)})
        pid = os.fork()
        if pid == 0:
            try:
                under_way.wait()
                os._exit(1)
            except ingot.Error:
                pass
            try:
                ck.save(2, {"n": 2})
                os._exit(1)
            except ingot.Error:
                os._exit(7)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 7)
        ck.save(3, {"n": 3}).wait()
        self.assertTrue(ingot.latest(self.dir).endswith("checkpoint-3"))


if __name__ == "__main__":
    unittest.main()
