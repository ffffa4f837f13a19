#!/usr/bin/env python3
"""Takes each small model of tests/data/make/architectures.py to GGUF (F32) and back to a directory with ingot, and has transformers load both: tensors, logits and
the ids of a few texts must be the same. Of those that transformers reads from GGUF itself (gguf_file=), its tensors and logits, too.

    gguf_to_hf_check.py INGOT [CASE ...]        needs torch, transformers, gguf"""
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/data/make"))
import architectures as a  # noqa: E402

TEXTS = ["Hello world", " def f(x):\n\treturn x  # \u00fc\u00f1 \U0001F600", "<|begin_of_text|> a<|eot_id|>b", "   ", "12345 'll DON'T", "e\u0301 \ufb01"]


def run(*words):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return [line for line in done.stderr.splitlines() if line]


def worst(one, other):
    one, other = one.state_dict(), other.state_dict()
    assert one.keys() == other.keys(), sorted(one.keys() ^ other.keys())
    return max(float((one[k].float() - other[k].float()).abs().max()) for k in one)


def main():
    import transformers
    ingot, cases = sys.argv[1], {**a.CASES, **a.VARIANTS}
    failed = 0
    for case in sys.argv[2:] or cases:
        cls, config = cases[case]
        with tempfile.TemporaryDirectory() as folder:
            base, gguf, back = Path(folder) / "base", Path(folder) / "m.gguf", Path(folder) / "back"
            a.make_model(cls, config, case.split("-")[0] in a.SHIFTED, base)
            run(ingot, "convert", base, "--type", "F32", "--out", gguf)
            notices = run(ingot, "convert", gguf, "--out", back)
            tokens = a.tokens_of(case)
            one, other = a.transformers_model(base), a.transformers_model(back)
            logits = a.logits_of(one, tokens)
            tensors, difference = worst(one, other), float(abs(logits - a.logits_of(other, tokens)).max()) / float(logits.std())
            here, there = (transformers.AutoTokenizer.from_pretrained(d) for d in (base, back))
            ids = all(here(t)["input_ids"] == there(t)["input_ids"] for t in TEXTS)
            try:
                own = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file="m.gguf", dtype=one.dtype, attn_implementation="eager").eval()
                own = f"{worst(own, other):.1e} {float(abs(a.logits_of(own, tokens) - a.logits_of(other, tokens)).max()) / float(logits.std()):.1e}"
            except Exception as e:
                own = f"not read: {type(e).__name__} {str(e)[:60]!r}"
            ok = tensors < 1e-6 and difference < 1e-5 and ids
            failed += not ok
            print(f"{case:22} {'ok ' if ok else 'BAD'} tensors {tensors:.1e} logits {difference:.1e} ids {'same' if ids else 'DIFFER'}; gguf_file: {own}"
                  + "".join(f"\n    {n}" for n in notices if "hash" not in n), flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
