#!/usr/bin/env python3
"""Writes ../token_models.jsonl: small tokenizers of every kind and what others make of them. A line has the files of a directory
(tokenizer.model in base64), texts, and for each text: the ids of the tokenizers library (0.23.3, through transformers 5.24 where there is a
tokenizer.model) without and with special tokens, and their text again; for some also the tokens, scores and types that the converter
of llama.cpp (its folder in $LLAMA_CPP_DIR) writes for them.

    LLAMA_CPP_DIR=... python3 token_models.py      # needs: pip install transformers==5.24.0 tokenizers==0.23.3 sentencepiece protobuf
"""
import ast
import base64
import json
import logging
import os
import random
import sys
import tempfile
import types
from pathlib import Path

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(ROOT / "tests/peer"))
sys.dont_write_bytecode = True
import tokenizer_texts  # noqa: E402

SPECIAL = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{b:02X}>" for b in range(256)]
TEXTS = ["Hello World", " Hello  World ", "", " ", "   ", "\n", "the model's tokens, don't", "\tx\n\n  y \r\n z  ", "café cafe\u0301 Ångström naïve",
         "SEÑOR Straße ΑΣ İ", "中文字符 日本語かな 한국어", "Привет мир", "مرحبا ١٢٣", "नमस्ते 12", "😀 👨‍👩‍👧 🏽", "1234567 1.5", "for (int i = 0; i < n; ++i) {\n    x;\n}",
         "▁x ▁▁ y▁", "<s>a</s> <unk>", "a<s>b", "<s> a", "ﬁ ① ½ Ａｂ", "x\u0000\u0007\u00AD\uFEFFy\u200B z\u00A0w\u3000", "~~~ $x^2$ `` ''", "<tag>x <tag> y foo_bar",
         "\ufffd \ufffd", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa b",
         "[CLS] hello [MASK] UNK", "\n\n\n\n a", "<0x41> <0x0A>"]
RULES = [("ﬁ", "fi"), ("①", "1"), ("½", "1/2"), ("Ａ", "A"), ("ｂ", "b"), ("\u3000", " "), ("\u00A0", " "), ("\u200B", " "), ("\u0007", ""), ("\u00AD", ""), ("\uFEFF", ""),
         ("e\u0301", "é"), ("\r\n", " "), ("\t", " "), ("\n", " ")]


def corpus():
    rng = random.Random(3)
    lines = [line for p in sorted(ROOT.glob("docs/howto/*.md")) for line in p.read_text(encoding="utf-8").splitlines() if line.strip()]
    return lines[:900] + [tokenizer_texts.text(rng, 60) for _ in range(150)]


LINES = corpus()


def case(name, files, encode, decode, **more):
    ids = [encode(t, False) for t in TEXTS]
    return {"name": name, "files": files, "ids": ids, "special": [encode(t, True) for t in TEXTS[:3]], "texts": [decode(i) for i in ids], **more}


def of_library(name, tokenizer):
    return case(name, {"tokenizer.json": tokenizer.to_str()}, lambda t, special: tokenizer.encode(t, add_special_tokens=special).ids,
                lambda ids: tokenizer.decode(ids, skip_special_tokens=False))


def char_bpe(normalizer, pre, decoder, train_pre, fallback=True, unk="<unk>", **options):
    t = Tokenizer(models.BPE(unk_token="<unk>"))
    t.normalizer, t.pre_tokenizer = normalizer, train_pre
    t.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=600, special_tokens=SPECIAL + (BYTES if fallback else []), limit_alphabet=90))
    j = json.loads(t.to_str())
    j["model"].update({"byte_fallback": fallback, "fuse_unk": True, "unk_token": unk, **options})
    j["added_tokens"] = [a for a in j["added_tokens"] if a["content"] in SPECIAL]
    j["pre_tokenizer"] = None
    t = Tokenizer.from_str(json.dumps(j))
    if pre is not None:
        t.pre_tokenizer = pre
    t.decoder = decoder
    t.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", 1)])
    return t


def unigram(normalizer, pre, decoder, fallback=False):
    t = Tokenizer(models.Unigram())
    t.normalizer, t.pre_tokenizer = normalizer, pre
    alphabet = sorted(set("".join(LINES)))
    t.train_from_iterator([line for line in LINES if line.isascii()], trainers.UnigramTrainer(vocab_size=400, special_tokens=SPECIAL, unk_token="<unk>"))
    if fallback:
        j = json.loads(t.to_str())
        j["model"]["vocab"] += [[b, 0.0] for b in BYTES]
        j["model"]["byte_fallback"] = True
        t = Tokenizer.from_str(json.dumps(j))
    t.decoder = decoder
    return t


def word_piece(normalizer, cleanup):
    t = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    t.normalizer, t.pre_tokenizer = normalizer, pre_tokenizers.BertPreTokenizer()
    t.train_from_iterator([line.replace("▁", "") for line in LINES], trainers.WordPieceTrainer(vocab_size=500, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], limit_alphabet=120))
    t.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", [("[CLS]", 2), ("[SEP]", 3)])
    t.decoder = decoders.WordPiece(cleanup=cleanup)
    return t


def spm(folder, **options):
    """A tokenizer.model of few tokens, with a small map of characters where it has one."""
    (folder / "c.txt").write_text("\n".join(LINES), encoding="utf-8")
    (folder / "rules.tsv").write_text("".join(" ".join(f"{ord(c):X}" for c in a) + "\t" + " ".join(f"{ord(c):X}" for c in b) + "\n" for a, b in RULES))
    normal = {"normalization_rule_name": "identity"} if options.pop("identity", False) else {"normalization_rule_tsv": str(folder / "rules.tsv")}
    sentencepiece.SentencePieceTrainer.train(input=str(folder / "c.txt"), model_prefix=str(folder / "m"), vocab_size=450, character_coverage=0.98, num_threads=1,
                                             split_digits=True, allow_whitespace_only_pieces=True, minloglevel=2, **normal, **options)
    from sentencepiece import sentencepiece_model_pb2
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString((folder / "m.model").read_bytes())
    proto.trainer_spec.ClearField("input")
    proto.trainer_spec.ClearField("model_prefix")
    return proto.SerializeToString(deterministic=True)


def tekken(folder):
    """A tekken.json, read by transformers' own converter; mistral-common puts BOS first."""
    from transformers.integrations.mistral.tokenizer import MistralConverter
    pattern = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in printable]
    as_bytes = {**{chr(b): bytes([b]) for b in printable}, **{chr(256 + i): bytes([b]) for i, b in enumerate(rest)}}
    tokens = [b"".join(as_bytes[c] for c in text) for text, _ in sorted(t.get_vocab().items(), key=lambda x: x[1])]
    tokens = [bytes([b]) for b in range(256)] + [b for b in tokens if len(b) > 1]
    special = [{"rank": i, "token_str": text, "is_control": True} for i, text in enumerate(["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "<pad>"])]
    text = json.dumps({"config": {"pattern": pattern, "default_vocab_size": 10 + len(tokens) - 3, "default_num_special_tokens": 10, "version": "v11"},
                       "vocab": [{"rank": i, "token_bytes": base64.b64encode(b).decode(), "token_str": None} for i, b in enumerate(tokens)], "special_tokens": special})
    (folder / "tekken.json").write_text(text)
    made = MistralConverter(str(folder / "tekken.json")).converted()
    return case("tekken", {"tekken.json": text}, lambda t, special: [1] * special + made.encode(t).ids, lambda ids: made.decode(ids, skip_special_tokens=False))


def converter():
    """The functions of llama.cpp's converter that make tokens, scores and types of a directory."""
    base = Path(os.environ["LLAMA_CPP_DIR"])
    found = {}
    for path, names in (("conversion/base.py", ("_create_vocab_sentencepiece", "does_token_look_special", "find_hparam")), ("conversion/phi.py", ("set_vocab",))):
        for node in ast.walk(ast.parse((base / path).read_text())):
            if isinstance(node, ast.ClassDef) and (path.endswith("base.py") or node.name == "Phi3MiniModel"):
                for f in node.body:
                    if isinstance(f, ast.FunctionDef) and f.name in names:
                        f.decorator_list, f.returns = [], None
                        for a in f.args.args:
                            a.annotation = None
                        found.setdefault(f.name, f)
    kinds = types.SimpleNamespace(NORMAL=1, UNKNOWN=2, CONTROL=3, USER_DEFINED=4, UNUSED=5, BYTE=6)
    space = {"json": json, "logger": logging.getLogger("converter"), "SentencePieceTokenTypes": kinds, "Iterable": list, "Any": object,
             "gguf": types.SimpleNamespace(SpecialVocab=lambda *a, **k: types.SimpleNamespace(add_to_gguf=lambda w: None))}
    exec(compile(ast.Module(list(found.values()), []), "converter", "exec"), space)
    return space


def convert(folder, config):
    space = converter()
    kept = {}
    writer = types.SimpleNamespace(add_tokenizer_model=lambda x: None, add_tokenizer_pre=lambda x: None, add_token_list=lambda x: kept.update(tokens=x),
                                   add_token_scores=lambda x: kept.update(scores=x), add_token_types=lambda x: kept.update(types=x))
    model = types.SimpleNamespace(dir_model=folder, hparams=config, gguf_writer=writer)
    model.find_hparam = lambda keys, optional=False: next((config[k] for k in keys if k in config), None)
    model.does_token_look_special = lambda t: space["does_token_look_special"](model, t)
    if "Phi3ForCausalLM" in config.get("architectures", []):
        space["set_vocab"](model)
    else:
        kept["tokens"], kept["scores"], kept["types"] = space["_create_vocab_sentencepiece"](model)
    return {"tokens": [t.decode() for t in kept["tokens"]], "scores": kept["scores"], "types": [int(t) for t in kept["types"]]}


def of_transformers(name, folder, model, model_type, config=None, tokenizer_config=None, added=None):
    """As AutoTokenizer loads the directory."""
    for old in folder.iterdir():
        old.unlink()
    files = {"config.json": json.dumps({"model_type": model_type, **(config or {})})}
    if tokenizer_config is not None:
        files["tokenizer_config.json"] = json.dumps(tokenizer_config)
    if added is not None:
        files["added_tokens.json"] = json.dumps(added)
    for file, text in files.items():
        (folder / file).write_text(text)
    (folder / "tokenizer.model").write_bytes(model)
    t = AutoTokenizer.from_pretrained(folder)
    converted = convert(folder, json.loads(files["config.json"]))
    files["tokenizer.model"] = base64.b64encode(model).decode()
    return case(name, files, lambda text, special: t.encode(text, add_special_tokens=special), lambda ids: t._tokenizer.decode(ids, skip_special_tokens=False),
                converted=converted)


def main():
    metaspace = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    strip = [decoders.Strip(" ", 1, 0)]
    by_mark = pre_tokenizers.Split("▁", "merged_with_next")
    cases = [
        of_library("json: Llama 2", char_bpe(normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None, decoders.Sequence(metaspace + strip), by_mark)),
        of_library("json: Llama 2 as transformers 5 saves it", char_bpe(None, pre_tokenizers.Metaspace("▁", "first", False), decoders.Sequence(metaspace + strip), pre_tokenizers.Metaspace(), unk=None)),
        of_library("json: Gemma", char_bpe(normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous"), decoders.Sequence(metaspace), by_mark)),
        of_library("json: characters without bytes", char_bpe(None, pre_tokenizers.Metaspace("▁", "always", True), decoders.Metaspace(), pre_tokenizers.Metaspace(), fallback=False, ignore_merges=True)),
        of_library("json: WordPiece", word_piece(normalizers.BertNormalizer(), True)),
        of_library("json: WordPiece, cased", word_piece(normalizers.BertNormalizer(clean_text=False, lowercase=False, handle_chinese_chars=False), False)),
    ]
    with tempfile.TemporaryDirectory() as d:
        folder, scratch = Path(d) / "d", Path(d) / "s"
        folder.mkdir()
        scratch.mkdir()
        unigram_model = spm(scratch, model_type="unigram", user_defined_symbols=["<tag>", "foo_"])
        from sentencepiece import sentencepiece_model_pb2
        proto = sentencepiece_model_pb2.ModelProto()
        proto.ParseFromString(unigram_model)
        charsmap = normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)
        cases += [
            of_library("json: Unigram", unigram(normalizers.Sequence([charsmap, normalizers.Strip(False, True), normalizers.Replace(Regex(" {2,}"), "▁")]), pre_tokenizers.Metaspace(), decoders.Metaspace())),
            of_library("json: Unigram with bytes", unigram(normalizers.NFKC(), pre_tokenizers.Metaspace("▁", "first", False), decoders.Sequence(metaspace), True)),
        ]
        bpe = spm(scratch, model_type="bpe", byte_fallback=True, identity=True, remove_extra_whitespaces=False)
        gemma = spm(scratch, model_type="bpe", byte_fallback=True, identity=True, remove_extra_whitespaces=False, add_dummy_prefix=False, pad_id=0, eos_id=1, bos_id=2, unk_id=3,
                    user_defined_symbols=["<mask>", "\n\n", "<tag>"])
        plain = spm(scratch, model_type="bpe", user_defined_symbols=["<tag>", "foo_"])
        bytes_model = spm(scratch, model_type="unigram", byte_fallback=True)
        token = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
        listed = {"0": {"content": "<unk>", "special": True, **token}, "1": {"content": "<s>", "special": True, **token}, "2": {"content": "</s>", "special": True, **token},
                  "450": {"content": "<tag>", "special": False, **token}, "451": {"content": "▁▁x", "special": False, **token}, "452": {"content": "<|end|>", "special": False, **token}}
        llama = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
        cases += [
            of_transformers("model: Llama", folder, bpe, "llama", {"vocab_size": 456}, {**llama, "legacy": False}),
            of_transformers("model: Llama, legacy", folder, bpe, "llama", {}, {**llama, "legacy": True, "add_eos_token": True}),
            of_transformers("model: Llama, listed tokens", folder, bpe, "llama", {"vocab_size": 460}, {**llama, "added_tokens_decoder": listed}),
            of_transformers("model: Llama, added tokens", folder, bpe, "llama", {"vocab_size": 452}, llama, {"<tag>": 450, "<pad>": 451}),
            of_transformers("model: Mistral", folder, bpe, "mistral", {}, {**llama, "legacy": True}),
            of_transformers("model: Phi-3", folder, bpe, "phi3", {"architectures": ["Phi3ForCausalLM"], "vocab_size": 460}, {**llama, "added_tokens_decoder": listed}),
            of_transformers("model: alone", folder, bpe, "llama"),
            of_transformers("model: Gemma", folder, gemma, "gemma2", {"vocab_size": 460}, {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True, "bos_token": "<s>", "eos_token": "</s>"}),
            of_transformers("model: Gemma, alone", folder, gemma, "gemma3_text"),
            of_transformers("model: BPE with characters mapped", folder, plain, "llama"),
            of_transformers("model: unigram", folder, unigram_model, "llama"),
            of_transformers("model: unigram with bytes", folder, bytes_model, "mistral", {}, {**llama, "legacy": False}),
        ]
        cases.append(tekken(scratch))
    with (HERE.parent / "token_models.jsonl").open("w", encoding="utf-8") as out:
        for c in [{"texts": TEXTS}] + cases:
            out.write(json.dumps(c, ensure_ascii=False, separators=(",", ":")) + "\n")


main()
