"""containers/: tensors in every container that a pickle may have, a state whose keys and kinds are odd, NumPy's arrays, whole modules, what getattr names, an archive
of NumPy's with what are no tensors. Usage: containers.py OUT (torch 2.14, numpy 2)."""
import collections, enum, functools, os, sys, warnings
import numpy as np, torch

out = sys.argv[1]
os.makedirs(out, exist_ok=True)
warnings.simplefilter("ignore")
Pair = collections.namedtuple("Pair", "a b")


class Made:
    def __init__(self, *a): pass
    def __reduce__(self): return Made, (torch.tensor([4.0]),)


class Slots:
    __slots__ = ("t", "__dict__")


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.l = torch.nn.Linear(2, 1)
        torch.nn.init.ones_(self.l.weight), torch.nn.init.zeros_(self.l.bias)


class Rotary(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("passing", torch.tensor([9.0]), persistent=False)


class Outer:
    class Inner:
        def __init__(self): self.lr = 0.5
    class Mode(enum.Enum):
        A = "a"

        def __reduce_ex__(self, protocol): return getattr, (self.__class__, self._name_)  # as Python 3.11's own


def slots():
    s = Slots()
    s.t, s.x = torch.tensor([8.0]), torch.tensor([9.0])
    return s


def f(x): return x


t = lambda v: torch.tensor([float(v)])
torch.save({"named": Pair(1, t(1)), "set": {t(2)}, "deque": collections.deque([t(3)]), "made": Made(), "partial": functools.partial(f, t(5), k=t(6)),
            "objects": np.array([t(7), None], dtype=object), "slots": slots(), "plain": {1, 2}, "w": t(0)}, out + "/containers.pt")
F = np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3))
torch.save({"w": np.arange(3, dtype="f4"), "F": F, "c": np.array([1 + 2j]), "scalar": np.float32(2.5), "zero": np.array(5.0), "text": np.array(["ab"])}, out + "/numpy.pt")
torch.save({"model": {"a/b": t(1), "c": t(2)}, "0": t(3), "milestones": collections.Counter({3: 1, 6: 2}), "betas": (0.9, 0.99), "rng": (3, (1, 2), None), "by": b"\0\xff",
            "digits": {"0": t(4), "1": t(5)}, "ints": {0: t(6), 1: {"x": t(7)}}, "tuple": (t(8), [t(9), ()]), "seen": {1, 2}, "none": {}, "": {"e": t(10)}}, out + "/kinds.pt")
def schedule(optimizer):
    scheduler = torch.optim.lr_scheduler
    return scheduler.SequentialLR(optimizer, [scheduler.ConstantLR(optimizer), scheduler.MultiStepLR(optimizer, [2, 4, 4])], [3])


optimizer = torch.optim.SGD([torch.nn.Parameter(t(0))])
torch.save({"schedule": schedule(optimizer).state_dict(), "model": collections.OrderedDict(w=t(1)), "by": collections.OrderedDict({7: t(2)}), "words": collections.Counter("aab"),
            "none": collections.Counter()}, out + "/collections.pt")
torch.save({"model": {"w": t(1)}, "ema": {"w": t(2)}}, out + "/nested.pt")
whole = torch.nn.Sequential(Net(), torch.nn.SiLU(), Rotary())
whole.register_buffer("kept", t(3))
torch.save(torch.nn.DataParallel(whole), out + "/module.pt")
torch.save(torch.compile(whole, backend="eager"), out + "/module-compiled.pt")
torch.save({"model": {"w": t(1)}, "cfg": Outer.Inner(), "mode": Outer.Mode.A, "loss": torch.nn.MSELoss().forward, "join": ",".join}, out + "/getattr.pt")
torch.serialization.get_source_lines_and_file = lambda *a, **k: (["class Net: ...\n"], 1, "net.py")
torch.save(Net(), out + "/module-legacy.pt", _use_new_zipfile_serialization=False)
np.savez(out + "/odd.npz", a=np.arange(3, dtype="f4"), names=np.array(["x"]), o=np.array([None], dtype=object), r=np.zeros(2, dtype=[("x", "i4")]),
         c=np.asfortranarray(np.array([[1 + 2j, 3], [4, 5j]])))
np.savez(out + "/none.npz", names=np.array(["x"]), more=np.array(["y"]))
np.savez_compressed(out + "/packed.npz", f=np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3)))
