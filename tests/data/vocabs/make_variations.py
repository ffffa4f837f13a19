#!/usr/bin/env python3
"""Writes variations.jsonl beside this file: 300 random variations of a byte-level BPE tokenizer.json, and the ids that the
tokenizers library (0.23.3) gives for texts that hit what is varied. The first line is the base file; each other line has a
merge patch (RFC 7396) that makes the variation of it, the tokenizer_config.json, and the texts with their ids: without
special tokens, and of the first text also with them.

    python3 make_variations.py [--seed 9] [--count 300]     # needs: pip install tokenizers==0.23.3
"""
import argparse
import copy
import json
import pathlib
import random
import re

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent
CORPUS = """The quick brown fox jumps over the lazy dog. It's what they've said: don't, we'll, I'd, you're, I'm.
HelloWorld helloWORLD iPhone camelCase snake_case; for (int i = 0; i < 100; ++i) { return 12345 + 67890; }
  if (a == b) {\n\t\tprint("x");\n    }\n\n\nNaïve café, Ångström, Ünïcödé, ÀÉÎ; Привет, мир! Ελληνικά. 中文字符。日本語かな 한국어
the theme then there other mother weather feather foo foobar barfoo abc abcd bcde https://example.com/a/b?c=d
nai\u0308ve cafe\u0301 \U0001F468\u200D\U0001F469 \U0001F600 1 22 333 4444 55555 666666 7777777"""
TEXTS = ["Hello World", " Hello  World ", "the theme, then 12345 foos", "don't DON'T we'll WE'LL I'M 'S", "\tx\n\n  y \r\n z  ",
         "   ", "\n", "trailing   ", "1234567 1.5 12 333", "cafe\u0301 café nai\u0308ve", "\u00C5ngstr\u00F6m A\u030Angstro\u0308m \u212B",
         "HelloWorld helloWORLD iPhone", "éÉ ÉÉab ЖЖжЖ", "中文字。日本語かな カタ", "한국어 \u1112\u1161\u11AB", "\U0001F468\u200D\U0001F469\u200D\U0001F467 \U0001F600\U0001F3FD",
         "\uFB01 \u2460 \u00BD \u216B \u00B2 \uFF21\uFF42\uFF11", "नमस्ते 123", "مرحبا ١٢٣", "a_b-c+d=e(f)[g]{h}!?...", "“curly” ‘x’ — …",
         "\u00A0x\u2003y\u3000z\u2028", "x\u0007\u001B\u007F\u0085\u200B", "\u2581Hello\u2581 World", "q\u0323\u0307 q\u0307\u0323", "http://a.b/c?d=e&f#g",
         "x                    y\n\n\n\n", "foobar barfoo abcde", "//\n/*x*/\n", ""]
CONTENTS = ["<tool>", "<a>", "<ab>", "b>c", "foo", "Foo", " foo", "é", "e\u0301", "\u2581x", "<|im_end|>", "<|x|>", "</s>", "<mask>",
            "the", "a\nb", "  ", "\uFB01", "abc", "bcd", "cde", "<s>", "\n\n", "123", "'s", "<unk>", "[END]", "\u00C5", "x y", "HELLO",
            "<|start|>", "<eos>", "[PAD]", "中文", "ab", "bc"]
UNKNOWN = [[("regex", r"\w+|[^\w\s]+|\s+")], [("regex", r"\p{L}{1,4}|[^\p{L}]")], [("regex", r"[aeiou]|[^aeiou]+")], [("digits", True)],
           [("digits", False)], [("whitespace",)], [("whitespace_split",)], [("punctuation", "isolated")], [("string", " ")], [("string", "o")]]


def known_rules():
    """The entries of pretokenizers.def that are proposed for rules: name -> steps."""
    text = (HERE / "../../../src/tokenizer/pretokenizers.def").read_text(encoding="utf-8")
    rows = []
    for row in re.split(r"\n(?=PRE_TOKENIZER)", text)[1:]:
        name, flags = re.match(r'PRE_TOKENIZER\("([^"]*)", ([^,]*),', row).groups()
        if "kReadOnly" in flags:
            continue
        steps = []
        for step in re.finditer(r'regex\(R"~\((.*?)\)~"\)|bytes\((kGpt2)?\)|digits\((\w+)\)|punctuation\(\w+\)', row):
            word = step.group(0)
            if word.startswith("regex"):
                steps.append(("regex", step.group(1)))
            elif word.startswith("bytes"):
                steps.append(("bytes", step.group(2) is not None))
            elif word.startswith("digits"):
                steps.append(("digits", step.group(3) == "kIndividual"))
            else:
                steps.append(("punctuation", "contiguous"))
        rows.append((name, "kIgnoreMerges" in flags, steps))
    return rows


def step_json(step, prefix_space, rng):
    kind = step[0]
    if kind == "regex":
        if step[1].endswith(r"|\s+") and rng.random() < 0.2:  # the same in other words
            return {"type": "Split", "pattern": {"Regex": step[1]}, "behavior": "Removed", "invert": True}
        return {"type": "Split", "pattern": {"Regex": step[1]}, "behavior": "Isolated", "invert": False}
    if kind == "string":
        behavior = rng.choice(["Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"])
        return {"type": "Split", "pattern": {"String": step[1]}, "behavior": behavior, "invert": rng.random() < 0.2}
    if kind == "bytes":
        return {"type": "ByteLevel", "add_prefix_space": prefix_space, "trim_offsets": rng.random() < 0.5, "use_regex": step[1]}
    if kind == "digits":
        return {"type": "Digits", "individual_digits": step[1]}
    if kind == "punctuation":
        return {"type": "Punctuation", "behavior": {"contiguous": "Contiguous", "isolated": "Isolated"}[step[1]]}
    return {"type": {"whitespace": "Whitespace", "whitespace_split": "WhitespaceSplit"}[kind]}


def normalizer(rng):
    one = lambda: rng.choice([
        {"type": "NFC"}, {"type": "NFC"}, {"type": "NFD"}, {"type": "NFKC"}, {"type": "NFKD"}, {"type": "Lowercase"}, {"type": "StripAccents"},
        {"type": "Strip", "strip_left": rng.random() < 0.5, "strip_right": rng.random() < 0.5},
        {"type": "Prepend", "prepend": rng.choice([" ", "\u2581", "x"])},
        {"type": "Replace", "pattern": {"String": rng.choice([" ", "  ", "foo", "“"])}, "content": rng.choice(["\u2581", "", "the", " "])},
        {"type": "Replace", "pattern": {"Regex": rng.choice([" {2,}", r"\d+", "[“”]", "[aeiou]+"])}, "content": rng.choice([" ", "#", '"'])}])
    many = rng.random() < 0.3
    return {"type": "Sequence", "normalizers": [one() for _ in range(rng.randint(0, 3))]} if many else one()


def post_processor(rng, tokens):
    """`tokens`: (content, id) of those that may stand around a text."""
    def template():
        before = [rng.choice(tokens) for _ in range(rng.choice([0, 1, 1, 1, 2, 3]))]
        after = [rng.choice(tokens) for _ in range(rng.choice([0, 0, 1, 2]))]
        special = lambda t: {"SpecialToken": {"id": t[0], "type_id": 0}}
        single = [special(t) for t in before] + [{"Sequence": {"id": "A", "type_id": 0}}] + [special(t) for t in after]
        return {"type": "TemplateProcessing", "single": single, "pair": single + [{"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {c: {"id": c, "ids": [i], "tokens": [c]} for c, i in before + after}}

    def one():
        kind = rng.choice(["template", "template", "template", "bytes", "roberta", "bert"]) if tokens else "bytes"
        if kind == "template":
            return template()
        if kind == "bytes":
            return {"type": "ByteLevel", "add_prefix_space": rng.random() < 0.5, "trim_offsets": True, "use_regex": True}
        pair = {"sep": list(rng.choice(tokens)), "cls": list(rng.choice(tokens))}
        if kind == "bert":
            return {"type": "BertProcessing", **pair}
        return {"type": "RobertaProcessing", **pair, "trim_offsets": True, "add_prefix_space": rng.random() < 0.5}
    if rng.random() < 0.25:
        # The library takes one template, not two.
        processors = [one(), {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}]
        return {"type": "Sequence", "processors": rng.sample(processors, rng.randint(1, 2))}
    return one()


def merged(base, patch):
    if not isinstance(patch, dict):
        return patch
    base = copy.copy(base) if isinstance(base, dict) else {}
    for key, value in patch.items():
        if value is None:
            base.pop(key, None)
        else:
            base[key] = merged(base.get(key), value)
    return base


def base_file():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=640, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False, min_frequency=1)
    t.train_from_iterator(CORPUS.split("\n") * 2, trainer)
    return json.loads(t.to_str())


def variation(rng, base, known):
    odd = rng.random
    patch, model, config = {}, {}, {}
    vocab = base["model"]["vocab"]
    # Few features at once, so that most differences have one cause.
    chance = rng.choice([0.08, 0.2, 0.45])
    name, ignore_merges, steps = rng.choice(known)
    prefix_space = odd() < chance
    if odd() < 0.1:
        steps, ignore_merges = rng.choice(UNKNOWN) + [("bytes", odd() < 0.5)], odd() < 0.3
    if odd() < chance / 2:
        ignore_merges = not ignore_merges
    listed = [step_json(s, prefix_space, rng) for s in steps]
    patch["pre_tokenizer"] = listed[0] if len(listed) == 1 else {"type": "Sequence", "pretokenizers": listed}
    if odd() < chance:
        patch["normalizer"] = normalizer(rng)
    if ignore_merges:
        model["ignore_merges"] = True
    if odd() < chance:  # tokens that merges do not make
        free = max(vocab.values()) + 1
        words = rng.sample(["\u0120weather", "Hello", "World", "\u0120feathers", "123456", "</s>", "<|im_end|>", "theory"], 3)
        model["vocab"] = {w: free + i for i, w in enumerate(w for w in words if w not in vocab)}
    gone = []
    if odd() < chance:  # bytes without a token
        gone = rng.sample(["#", "~", "\u00c3", "\u010a", "Z", "\u00f0", "q"], rng.randint(1, 3))
        gone = [g for g in gone if not any(g in m[0] or g in m[1] for m in base["model"]["merges"])]
        model.setdefault("vocab", {}).update({g: None for g in gone})
    if odd() < (0.5 if gone else chance / 3):
        model["byte_fallback"] = True
        if odd() < 0.5:
            free = max([*vocab.values(), *[v for v in model.get("vocab", {}).values() if v]]) + 1
            model.setdefault("vocab", {}).update({f"<0x{b:02X}>": free + i for i, b in enumerate([0x23, 0x7E, 0xC3, 0x83])})
    if odd() < (0.5 if gone else chance / 3):
        model["unk_token"] = rng.choice(["<unk>", "a", "nowhere"])
        model["fuse_unk"] = odd() < 0.5
    if odd() < 0.3:
        model["merges"] = [" ".join(m) if isinstance(m, list) else m.split(" ") for m in base["model"]["merges"]]
    if odd() < chance / 3:  # one listed twice
        merges = list(model.get("merges", base["model"]["merges"]))
        at = rng.randrange(len(merges) // 4)
        merges.insert(rng.randrange(len(merges) // 2, len(merges)), merges[at])
        model["merges"] = merges
    if model:
        patch["model"] = model
    all_vocab = merged(base, patch)["model"]["vocab"]
    free = max(all_vocab.values()) + 1
    added = []
    for content in rng.sample(CONTENTS, rng.choice([0, 1, 2, 3, 4, 6])):
        token = {"id": all_vocab.get(content, free), "content": content}
        for flag in ("single_word", "lstrip", "rstrip", "normalized"):
            token[flag] = odd() < chance * 0.6
        token["special"] = odd() < 0.5
        free += token["id"] == free
        added.append(token)
    patch["added_tokens"] = sorted(added, key=lambda t: t["id"])
    around = [(t["content"], t["id"]) for t in patch["added_tokens"] if t["special"]] + ([("the", vocab["the"])] if odd() < 0.1 else [])
    if odd() < 0.6:
        patch["post_processor"] = post_processor(rng, around)
    if odd() < 0.3:
        patch["decoder"] = rng.choice([None, {"type": "Sequence", "decoders": [{"type": "ByteLevel"}, {"type": "Fuse"}]}])
    for role in ("bos", "eos", "unk", "pad"):
        if around and odd() < 0.6:
            config[role + "_token"] = rng.choice(around)[0]
    return patch, config


def texts_for(rng, patch):
    made = []
    for t in patch["added_tokens"]:
        c = t["content"]
        made += [f"a{c}b", f"the {c} end", f" {c}\n{c}", f"x  {c}  {c}{c}y", c.upper(), c.lower() + " " + c, f"\u00A0{c}\u3000."]
    contents = [t["content"] for t in patch["added_tokens"]]
    for a in contents:
        for b in contents:
            made += [f"{a}{b}", f"{a} {b} {a}"] + [a[:k] + b for k in range(1, len(a)) if b.startswith(a[k:])] * 3
    for word, number in patch.get("model", {}).get("vocab", {}).items():
        made.append(word.replace("\u0120", " ") + " " + word.replace("\u0120", " "))
        made += ["x##~~Z q", "é ÃÃ", "\U0001F600 \n"] if number is None else []
    made = rng.sample(made, min(6, len(made)))
    return made + rng.sample(TEXTS, 12 - len(made))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=9)
    p.add_argument("--count", type=int, default=300)
    a = p.parse_args()
    rng = random.Random(a.seed)
    base, known = base_file(), known_rules()
    lines = [base]
    while len(lines) <= a.count:
        patch, config = variation(rng, base, known)
        try:
            t = Tokenizer.from_str(json.dumps(merged(base, patch)))
        except Exception:  # what the library refuses is no tokenizer
            continue
        if any(t.token_to_id(x["content"]) != x["id"] for x in patch["added_tokens"]):
            continue  # the library numbers some tokens itself
        encoded = {}
        for text in texts_for(rng, patch):
            try:
                encoded[text] = t.encode(text, add_special_tokens=False).ids
            except BaseException:  # the library panics where two tokens claim the same white space
                continue
        texts = list(encoded)
        lines.append({"patch": patch, "config": config, "texts": texts, "ids": list(encoded.values()), "special": t.encode(texts[0]).ids})
    with open(HERE / "variations.jsonl", "w", encoding="utf-8") as f:
        for line in lines:
            f.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")


main()
