#!/usr/bin/env python3
"""Does ingot encode as the tokenizers library does, and as fast? Trains small tokenizers of every kind, makes random mixed text from a
seed (tokenizer_texts.py), and compares all ids; ./run check-tokenizers sets it up. The outcome is appended to docs/logs/tokenizers.txt.

    python3 tokenizers_check.py --bench build/release/bench/tokenizer_bench [--megabytes 10] [--seed 10] [--only NAME]
"""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import tokenizer_texts

ROOT = Path(__file__).resolve().parents[2]
SPECIAL = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{b:02X}>" for b in range(256)]


def corpus():
    rng = random.Random(1)
    lines = [line for p in sorted(ROOT.glob("docs/**/*.md")) + sorted(ROOT.glob("src/tokenizer/*.cc"))
             for line in p.read_text(encoding="utf-8").splitlines() if line]
    lines += [tokenizer_texts.text(rng, 200) for _ in range(3000)]
    return lines


LINES = corpus()


def char_bpe(normalizer, pre, decoder, train_pre=None, fallback=True, size=3000, unk="<unk>", **options):
    """A BPE over characters; trained behind a pre-tokenizer that cuts words, used behind `pre`."""
    t = Tokenizer(models.BPE(unk_token="<unk>"))
    t.normalizer, t.pre_tokenizer = normalizer, train_pre or pre_tokenizers.Metaspace()
    t.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=size, special_tokens=SPECIAL + (BYTES if fallback else []), limit_alphabet=400))
    j = json.loads(t.to_str())
    j["model"].update({"byte_fallback": fallback, "fuse_unk": True, "unk_token": unk, **options})
    j["added_tokens"] = [a for a in j["added_tokens"] if a["content"] in SPECIAL]
    t = Tokenizer.from_str(json.dumps(j))
    if pre is not None:
        t.pre_tokenizer = pre
    j = json.loads(t.to_str())
    if pre is None:
        j["pre_tokenizer"] = None
    t = Tokenizer.from_str(json.dumps(j))
    t.decoder = decoder
    return t


METASPACE = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]


def llama():
    t = char_bpe(normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None, decoders.Sequence(METASPACE + [decoders.Strip(" ", 1, 0)]),
                 train_pre=pre_tokenizers.Split("▁", "merged_with_next"))
    t.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s> $B", [("<s>", 1)])
    return t


def llama5():
    return char_bpe(None, pre_tokenizers.Metaspace("▁", "first", False), decoders.Sequence(METASPACE + [decoders.Strip(" ", 1, 0)]), unk=None)


def gemma():
    t = char_bpe(normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous"), decoders.Sequence(METASPACE),
                 train_pre=pre_tokenizers.Split("▁", "merged_with_next"))
    t.add_tokens(["<mask>", "\n\n", "▁▁▁▁"])
    return t


def no_fallback():
    return char_bpe(None, pre_tokenizers.Metaspace("▁", "always", False), decoders.Metaspace(), fallback=False, ignore_merges=True)


def some_fallback():
    """Half of the bytes have no token, and unknown ones are not fused."""
    t = char_bpe(None, pre_tokenizers.Metaspace("▁", "first", True), decoders.Metaspace())
    j = json.loads(t.to_str())
    names = {f"<0x{b:02X}>": f"<gone{b}>" for b in range(0xE1, 0x100)}
    j["model"]["vocab"] = {names.get(k, k): v for k, v in j["model"]["vocab"].items()}
    j["model"]["fuse_unk"] = False
    return Tokenizer.from_str(json.dumps(j))


def unigram(normalizer, pre, decoder, fallback=False, trained=None):
    t = Tokenizer(models.Unigram())
    t.normalizer, t.pre_tokenizer = normalizer, trained or pre
    t.train_from_iterator(LINES, trainers.UnigramTrainer(vocab_size=8000, special_tokens=SPECIAL, unk_token="<unk>"))
    t.pre_tokenizer = pre
    if fallback:
        j = json.loads(t.to_str())
        j["model"]["vocab"] += [[b, 0.0] for b in BYTES]
        j["model"]["byte_fallback"] = True
        t = Tokenizer.from_str(json.dumps(j))
    t.decoder = decoder
    return t


def charsmap():
    """The normalizer of SentencePiece's nmt_nfkc, if that library is there."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2
    with tempfile.TemporaryDirectory() as d:
        (Path(d) / "c.txt").write_text("\n".join(LINES))
        sentencepiece.SentencePieceTrainer.train(input=f"{d}/c.txt", model_prefix=f"{d}/m", vocab_size=1000, character_coverage=0.98, hard_vocab_limit=False, minloglevel=2)
        proto = sentencepiece_model_pb2.ModelProto()
        proto.ParseFromString((Path(d) / "m.model").read_bytes())
    return proto.normalizer_spec.precompiled_charsmap


def t5():
    return unigram(normalizers.Sequence([normalizers.Precompiled(charsmap()), normalizers.Strip(False, True), normalizers.Replace(Regex(" {2,}"), "▁")]),
                   pre_tokenizers.Metaspace(), decoders.Metaspace())


def albert():
    return unigram(normalizers.Sequence([normalizers.Replace("``", '"'), normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Nmt()]),
                   pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]), decoders.Metaspace())


def unigram_bytes():
    return unigram(normalizers.NFC(), pre_tokenizers.Metaspace("▁", "first", False), decoders.Sequence(METASPACE), fallback=True, trained=pre_tokenizers.Metaspace())


def word_piece(normalizer, pre):
    t = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=40))
    t.normalizer, t.pre_tokenizer = normalizer, pre
    t.train_from_iterator(LINES, trainers.WordPieceTrainer(vocab_size=3000, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    t.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    t.decoder = decoders.WordPiece()
    return t


def byte_bpe(pre, ignore_merges=False):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre
    t.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=3000, special_tokens=["<|end|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.model.ignore_merges = ignore_merges
    t.decoder = decoders.ByteLevel()
    return t


GPT4 = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""


def bytes_normalized():
    """The normalizer spells bytes, and the pre-tokenizer cuts what is spelled."""
    t = Tokenizer(models.BPE())
    t.normalizer, t.pre_tokenizer = normalizers.ByteLevel(), pre_tokenizers.Split(Regex("Ġ?[^Ġ]+|Ġ+"), "isolated")
    t.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=2000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.decoder = decoders.ByteLevel()
    return t


def odd_pieces(*steps):
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    t.pre_tokenizer = pre_tokenizers.Sequence(list(steps))
    t.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=2000, special_tokens=SPECIAL, limit_alphabet=300))
    t.add_tokens([AddedToken("Hello World", lstrip=True, rstrip=True, normalized=False), AddedToken("foo", single_word=True, normalized=True)])
    return t


KINDS = {
    "bpe-llama-2": llama, "bpe-llama-5": llama5, "bpe-gemma": gemma, "bpe-no-fallback": no_fallback, "bpe-some-fallback": some_fallback,
    "unigram-t5": t5, "unigram-albert": albert, "unigram-bytes": unigram_bytes,
    "wordpiece-bert": lambda: word_piece(normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()),
    "wordpiece-cased": lambda: word_piece(normalizers.BertNormalizer(lowercase=False, handle_chinese_chars=False, strip_accents=True), pre_tokenizers.BertPreTokenizer()),
    "wordpiece-whitespace": lambda: word_piece(normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()]), pre_tokenizers.Whitespace()),
    "byte-gpt-2": lambda: byte_bpe(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "byte-llama-3": lambda: byte_bpe(pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(GPT4), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]), True),
    "byte-normalized": bytes_normalized,
    "pieces-digits": lambda: odd_pieces(pre_tokenizers.Digits(True), pre_tokenizers.Metaspace("▁", "first")),
    "pieces-punctuation": lambda: odd_pieces(pre_tokenizers.Punctuation("merged_with_previous"), pre_tokenizers.CharDelimiterSplit(" ")),
    "pieces-fixed": lambda: odd_pieces(pre_tokenizers.Digits(False), pre_tokenizers.Split("e", "merged_with_next"), pre_tokenizers.FixedLength(7)),
}
EXTRA = SPECIAL + ["Hello World", "foo", "food", "[MASK]", "[UNK]", "<|end|>", "<mask>", "<0x41>", "##a", "``"]


def first_difference(text, ours, theirs, tokenizer):
    i = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    show = lambda ids: [tokenizer.id_to_token(x) for x in ids[max(0, i - 3):i + 6]]
    return f"{len(text)} characters; at token {i}: ours {show(ours)}, the library's {show(theirs)}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bench", type=Path, default=ROOT / "build/release/bench/tokenizer_bench")
    parser.add_argument("--megabytes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=10)
    parser.add_argument("--only", action="append", help="of these kinds alone")
    parser.add_argument("--keep", type=Path, help="leave the tokenizers and texts here")
    args = parser.parse_args()
    bad, lines = 0, []
    texts = list(tokenizer_texts.texts(args.seed, int(args.megabytes * 1e6), EXTRA))
    with tempfile.TemporaryDirectory() as temporary:
        work = args.keep or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        (work / "texts.jsonl").write_text("".join(json.dumps(t) + "\n" for t in texts))
        for name, make in KINDS.items():
            if args.only and name not in args.only:
                continue
            tokenizer = make()
            folder = work / name
            folder.mkdir(exist_ok=True)
            tokenizer.save(str(folder / "tokenizer.json"))
            p = subprocess.run([args.bench, folder, work / "texts.jsonl"], capture_output=True, text=True)
            if p.returncode:
                print(f"{name}: {p.stderr.strip()}")
                bad += 1
                continue
            start = time.process_time()
            theirs = [tokenizer.encode(t, add_special_tokens=False).ids for t in texts]
            their_time = time.process_time() - start
            ours = [[int(x) for x in line.split()] for line in p.stdout.splitlines()]
            our_time = float(p.stderr.split()[3])
            differing = [i for i in range(len(texts)) if ours[i] != theirs[i]]
            size = sum(len(t.encode()) for t in texts) / 1e6
            line = (f"{name}: {len(texts)} texts, {size:.1f} MB, {sum(map(len, theirs))} tokens, {len(differing)} differ; "
                    f"ingot {size / our_time:.1f} MB/s, tokenizers {size / their_time:.1f} MB/s, ratio {their_time / our_time:.1f} (of processor time)")
            print(line, flush=True)
            lines.append(line)
            for i in sorted(differing, key=lambda i: len(texts[i]))[:3]:
                print("   ", first_difference(texts[i], ours[i], theirs[i], tokenizer))
            bad += bool(differing)
    if not args.only:
        log = ROOT / "docs/logs/tokenizers.txt"
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
        with log.open("a") as f:
            f.write(f"\n{time.strftime('%FT%TZ', time.gmtime())} ./run check-tokenizers (seed {args.seed}, {commit}, tokenizers {tokenizers.__version__})\n")
            f.writelines(f"  {line}\n" for line in lines)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
