"""What a framework writes, caught; torch's archives made in memory."""
import importlib.util
import io
import os
import tempfile
import unittest
import zipfile
from unittest import mock

HAVE = all(importlib.util.find_spec(m) for m in ("torch", "safetensors"))
if HAVE:
    import safetensors.torch
    import torch
    from safetensors.torch import save_file as safe_save_file  # as transformers and PEFT have it

    import ingot
    from ingot import torchzip
    from ingot.capture import Catch


def state():
    torch.manual_seed(1)
    module = torch.nn.Linear(300, 200).bfloat16()
    optimizer = torch.optim.AdamW(module.parameters(), amsgrad=True)
    module(torch.randn(2, 300).bfloat16()).sum().backward()
    optimizer.step()
    whole = torch.randn(1000)
    return {"optimizer": optimizer.state_dict(), "view": whole[2:5], "same": whole[2:5], "turned": torch.randn(4, 6).T, "empty": torch.empty(0), "none": None, "text": "x", "big": 1 << 70}


@unittest.skipUnless(HAVE, "torch or safetensors is not there")
class Archives(unittest.TestCase):
    def check(self, data, given):
        theirs = io.BytesIO()
        torch.save(given, theirs)
        with zipfile.ZipFile(io.BytesIO(data)) as mine, zipfile.ZipFile(theirs) as other:
            self.assertIsNone(mine.testzip())
            records = {n.partition("/")[2] for n in other.namelist()} - {".data/serialization_id"}
            self.assertEqual({n.partition("/")[2] for n in mine.namelist()}, records)
            for n in mine.namelist():
                self.assertEqual(mine.read(n), other.read("archive/" + n.partition("/")[2]), n)
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "a.pt")
            with open(path, "wb") as f:
                f.write(data)
            for mmap in (False, True):
                back = torch.load(path, weights_only=True, mmap=mmap)
                self.assertEqual(repr(back), repr(given))
                self.assertEqual(back["view"].untyped_storage().data_ptr(), back["same"].untyped_storage().data_ptr())
                del back

    def test_the_records_of_torch_save(self):
        for threads in (0, 1, 3):
            self.check(torchzip.dumps(state(), "optimizer", threads), state())

    def test_wide_fields(self):
        """As of 4 GiB, tried from 1000 bytes on."""
        with mock.patch.object(torchzip, "_WIDE", 1000):
            self.check(torchzip.dumps(state(), "optimizer"), state())

    def test_another_torch(self):
        with mock.patch.object(torchzip._Records, "write_record", side_effect=TypeError("another signature")):
            self.assertEqual(repr(torch.load(io.BytesIO(torchzip.dumps({"a": torch.ones(2)})))), repr({"a": torch.ones(2)}))

    def test_what_cannot_be_pickled(self):
        with self.assertRaisesRegex(Exception, "lambda"):
            torchzip.dumps({"a": lambda: 1})


@unittest.skipUnless(HAVE, "torch or safetensors is not there")
class Catching(unittest.TestCase):
    def test_known_writers_and_others(self):
        torch_save, save_file = torch.save, safetensors.torch.save_file
        with tempfile.TemporaryDirectory() as elsewhere, Catch("checkpoint-1", leave_out=("out.bin",)) as catch:
            at = lambda name: os.path.join(catch.path, name)
            x = torch.ones(2)
            torch.save({"a": 1}, at("a.pt"))
            torch.save({"a": x}, at("legacy.pt"), _use_new_zipfile_serialization=False)
            with open(at("stream.pt"), "wb") as f:
                torch.save({"b": 2}, f)
            torch.save({"c": 3}, os.path.join(elsewhere, "else.pt"))
            torch.save({"d": 4}, at("out.bin"))
            safe_save_file({"x": x}, at("model.safetensors"), metadata={"format": "pt"})
            safetensors.torch.save_file({"x": x}, at("odd.safetensors"), metadata={"other": "pt"})
            with open(at("config.json"), "w") as f:
                f.write("{}")
            self.assertEqual(sorted(os.listdir(catch.path)), ["config.json", "legacy.pt", "odd.safetensors", "stream.pt"])
            self.assertEqual(torch.load(os.path.join(elsewhere, "else.pt")), {"c": 3})
            caught = catch.done()
        self.assertFalse(os.path.exists(catch.root))
        self.assertIs(torch.save, torch_save)
        self.assertIs(safetensors.torch.save_file, save_file)
        self.assertIs(safe_save_file, save_file)
        self.assertIs(caught.tensors["model"]["x"], x)
        self.assertEqual((list(caught.tensors), sorted(caught.files)), (["model"], ["a.pt", "config.json", "legacy.pt", "odd.safetensors", "stream.pt"]))
        self.assertEqual([torch.load(io.BytesIO(caught.files[n])) for n in ("a.pt", "stream.pt")], [{"a": 1}, {"b": 2}])

    def test_shards_are_put_together(self):
        with Catch("checkpoint-1") as catch:
            for i in (1, 2):
                safetensors.torch.save_file({f"x{i}": torch.ones(2)}, os.path.join(catch.path, f"model-0000{i}-of-00002.safetensors"), metadata={"format": "pt"})
            with open(os.path.join(catch.path, "model.safetensors.index.json"), "w") as f:
                f.write("{}")
            caught = catch.done()
        self.assertEqual(({k: list(v) for k, v in caught.tensors.items()}, caught.files), ({"model": ["x1", "x2"]}, {}))

    def test_directories_are_refused(self):
        with Catch("checkpoint-1") as catch:
            os.mkdir(os.path.join(catch.path, "second"))
            safetensors.torch.save_file({"x": torch.ones(2)}, os.path.join(catch.path, "second", "adapter_model.safetensors"), metadata={"format": "pt"})
            with self.assertRaisesRegex(ingot.Error, "second/adapter_model.safetensors would be in a directory of its own"):
                catch.done()

    def test_an_error_leaves_nothing(self):
        torch_save = torch.save
        with self.assertRaises(KeyError):
            with Catch("checkpoint-1") as catch:
                raise KeyError
        self.assertIs(torch.save, torch_save)
        self.assertFalse(os.path.exists(catch.root))


if __name__ == "__main__":
    unittest.main()
