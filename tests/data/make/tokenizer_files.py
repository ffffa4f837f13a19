"""Writes tests/data/tokenizer_files.json: directories of a tokenizer in many forms, and what transformers makes of each (its
PreTrainedTokenizerFast): added tokens, special tokens, ids of texts, chat templates. Needs transformers (5.24) alone.
usage: python3 tests/data/make/tokenizer_files.py tests/data/tokenizer_files.json"""
import json, os, sys, tempfile

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode


def token(id, content, **flags):
    return {**dict(id=id, content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True), **flags}


def listed(*items):
    """added_tokens_decoder"""
    return {str(t.pop("id")): t for t in (dict(t) for t in items)}


VOCAB = {c: i for i, c in enumerate(list(bytes_to_unicode().values()) + ["th", "the", "hi"])}
N = len(VOCAB) + 4  # the next id
BASE = {
    "version": "1.0", "truncation": None, "padding": None,
    "added_tokens": [token(N - 4, "<s>"), token(N - 3, "</s>"), token(N - 2, "<fill>"), token(N - 1, "<tool>", special=False)],
    "normalizer": {"type": "Lowercase"},
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                       "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
                       "special_tokens": {"<s>": {"id": "<s>", "ids": [N - 4], "tokens": ["<s>"]}}},
    "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
              "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": VOCAB, "merges": [["t", "h"], ["th", "e"], ["h", "i"]]},
}
CONFIG = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
SITUATIONS = []


def situation(name, config=None, added=None, patch=None, **files):
    """config: over CONFIG (False: no such file); added: tokens more in tokenizer.json; patch: over BASE; files: with __ for /."""
    tokenizer = dict(patch or {})
    if added: tokenizer["added_tokens"] = BASE["added_tokens"] + added
    out = {"tokenizer_config.json": json.dumps({**CONFIG, **(config or {})})} if config is not False else {}
    for key, value in files.items():
        key = key.replace("__", "/")
        key += ".jinja" if isinstance(value, str) else ".json"
        out[key] = value if isinstance(value, str) else json.dumps(value)
    SITUATIONS.append(dict(name=name, tokenizer=tokenizer, files=out))


typed = lambda content, **flags: {"__type": "AddedToken", "content": content, **flags}
situation("as it is")
situation("no other file", config=False)
situation("a token in added_tokens_decoder alone", config=dict(added_tokens_decoder=listed(token(N, "<|im_end|>")), eos_token="<|im_end|>"))
situation("its id leaves a hole", config=dict(added_tokens_decoder=listed(token(N + 3, "<|im_end|>"))))
situation("its id is another's", config=dict(added_tokens_decoder=listed(token(3, "<|im_end|>"))))
situation("ids out of order", config=dict(added_tokens_decoder=listed(token(N + 2, "<c>"), token(N + 1, "<b>"), token(N, "<a>"))))
situation("flags of added_tokens_decoder win", config=dict(added_tokens_decoder=listed(token(N - 1, "<tool>", lstrip=True, special=True), token(N - 2, "<fill>", rstrip=True, special=False))))
situation("a listed token of the model", config=dict(added_tokens_decoder=listed(token(257, "the", special=False, single_word=True))))
situation("a listed token of the model under another id", config=dict(added_tokens_decoder=listed(token(N, "the", normalized=True, special=False))))
situation("few fields", config=dict(added_tokens_decoder={str(N): {"content": "<New>"}}))
situation("one token listed twice", config=dict(added_tokens_decoder=listed(token(N, "<a>"), token(N + 1, "<a>", lstrip=True), token(N + 2, "<b>"))))
situation("special tokens that are listed", config=dict(added_tokens_decoder=listed(token(N, "<e>", special=False, rstrip=True)), eos_token="<e>"))
situation("added_tokens.json alone", added_tokens={"<y>": N + 1, "<x>": N, "</s>": N - 3})
situation("added_tokens.json with a special token", config=dict(eos_token="<x>", extra_special_tokens=["<Z>"]), added_tokens={"<x>": N, "<Y>": N + 1, "<Z>": N + 2})
situation("added_tokens.json with ids that are taken", added=[token(N, "<b>")], added_tokens={"<x>": N, "<y>": N + 1})
situation("added_tokens.json beside added_tokens_decoder", config=dict(added_tokens_decoder=listed(token(N, "<a>"))), added_tokens={"<x>": N + 1})
situation("special_tokens_map.json alone names eos", config=False, special_tokens_map={"eos_token": "<|im_end|>", "bos_token": "<s>"})
situation("special_tokens_map.json against tokenizer_config.json", special_tokens_map={"eos_token": "<fill>"})
situation("special_tokens_map.json with null", special_tokens_map={"eos_token": None})
situation("special_tokens_map.json with objects", special_tokens_map={"eos_token": {"content": "<e>", "lstrip": True, "rstrip": False, "normalized": False, "single_word": False}, "pad_token": {"content": "<fill>", "lstrip": True, "rstrip": False, "normalized": True, "single_word": False}})
situation("special_tokens_map.json beside added_tokens_decoder", config=dict(added_tokens_decoder={}), special_tokens_map={"eos_token": "<e>", "additional_special_tokens": ["<x>"]})
situation("special_tokens_map.json with more tokens", special_tokens_map={"additional_special_tokens": ["<x>", "the"], "image_token": "<img>"}, config=dict(boi_token="<boi>"))
situation("special_tokens_map.json adds to a list", config=dict(extra_special_tokens=["<r>"]), special_tokens_map={"extra_special_tokens": [{"content": "<q>", "lstrip": True}, "<r>"]})
situation("special_tokens_map.json with a second list", config=dict(additional_special_tokens=["<r>"]), special_tokens_map={"additional_special_tokens": ["<q>"]})
situation("special_tokens_map.json with named tokens", special_tokens_map={"extra_special_tokens": {"k": "<m>"}})
situation("special_tokens_map.json with added_tokens.json", special_tokens_map={"eos_token": {"content": "<X>", "normalized": True}}, added_tokens={"<X>": N, "<Y>": N + 1})
situation("eos as an object", config=dict(eos_token=typed("<E>", lstrip=True, normalized=True)))
situation("eos as an object that tokenizer.json knows", config=dict(eos_token=typed("<tool>", lstrip=True)))
situation("eos null", config=dict(eos_token=None))
situation("eos empty", config=dict(eos_token=""))
situation("special tokens that nobody knows", config=dict(unk_token="<u>", pad_token="<p>", eos_token="<e>", bos_token="<b>", cls_token="<e>"))
situation("a special token of the model", config=dict(unk_token="the"))
situation("a special token that is none in tokenizer.json", config=dict(pad_token="<tool>"))
situation("tokens with names of their own", config=dict(zz_token="<z>", extra_special_tokens={"image_token": "<img>"}, aa_token="<a>", count_token=7, obj_token=typed("<o>", special=True)))
situation("additional_special_tokens", config=dict(additional_special_tokens=["<Q>", "the", typed("<t>", lstrip=True, special=False)]))
situation("additional and extra tokens", config=dict(additional_special_tokens=["<q>"], extra_special_tokens=["<r>"]))
situation("additional beside empty extra tokens", config=dict(additional_special_tokens=["<q>"], extra_special_tokens=[]))
situation("extra tokens repeated", config=dict(eos_token="<n>", extra_special_tokens=["<n>", "<o>", "<o>"]))
situation("one token with several sets of flags", config=dict(pad_token="<n>", unk_token=typed("<p>", lstrip=True), extra_special_tokens=[typed("<n>", rstrip=True, special=True), "<n>", "<p>"]))
situation("an object that does not say whether it is normalized", config=dict(unk_token=typed("<P>"), extra_special_tokens=[typed("<Q>"), typed("<P>")]))
situation("model_specific_special_tokens", config=dict(model_specific_special_tokens={"image_token": "<img>", "eot_token": "the"}))
situation("model_specific_special_tokens beside tokens with names", config=dict(model_specific_special_tokens={"image_token": "<img>"}, zz_token="<z>"))
situation("model_specific_special_tokens beside named extra tokens", config=dict(model_specific_special_tokens={"image_token": "<img>"}, extra_special_tokens={"k": "<m>"}))
situation("model_specific_special_tokens beside a list", config=dict(model_specific_special_tokens={"image_token": "<img>"}, extra_special_tokens=["<r>"]))
situation("split_special_tokens", config=dict(split_special_tokens=True))
situation("split_special_tokens with tokens more", config=dict(split_special_tokens=True, extra_special_tokens=["<r>"]), added=[token(N, "<b>", special=False, lstrip=True), token(N + 1, "<c>", normalized=True)])
situation("split_special_tokens false", config=dict(split_special_tokens=False))
situation("padding names a token", patch=dict(padding=dict(strategy="BatchLongest", direction="Right", pad_to_multiple_of=None, pad_id=9, pad_type_id=0, pad_token="<pd>")))
situation("padding beside a pad token", config=dict(pad_token="<fill>"), patch=dict(padding=dict(strategy="BatchLongest", direction="Right", pad_to_multiple_of=None, pad_id=9, pad_type_id=0, pad_token="<pd>")))
situation("add_bos_token false", config=dict(add_bos_token=False))
situation("add_eos_token true", config=dict(add_eos_token=True))
situation("add_bos_token without a post-processor", config=dict(add_bos_token=True), patch=dict(post_processor=None))
situation("tokenizer.json: ids with a hole", added=[token(N + 7, "<x>")])
situation("tokenizer.json: ids out of order", added=[token(N + 1, "<b>"), token(N, "<a>")])
situation("tokenizer.json: an id of the model", added=[token(3, "<x>")])
situation("tokenizer.json: a token of the model", added=[token(N, "the")])
situation("tokenizer.json: a token twice", added=[token(N, "<b>"), token(N + 1, "<b>", lstrip=True), token(N + 1, "<c>", special=False)])
situation("template as a text", config=dict(chat_template="C"))
situation("template as a list", config=dict(chat_template=[dict(name="default", template="D"), dict(name="tool_use", template="T")]))
situation("template as a list without default", config=dict(chat_template=[dict(name="tool_use", template="T"), dict(name="rag", template="R")]))
situation("template as an object", config=dict(chat_template=dict(default="D", tool_use="T")))
situation("chat_template.jinja beside a template", config=dict(chat_template="C"), chat_template="J")
situation("chat_template.jinja beside a list", config=dict(chat_template=[dict(name="default", template="D"), dict(name="tool_use", template="T")]), chat_template="J")
situation("a folder of templates", chat_template="J", additional_chat_templates__rag="R", additional_chat_templates__tool_use="T")
situation("a folder of templates beside a template", config=dict(chat_template="C"), additional_chat_templates__rag="R")
situation("default in the folder of templates", chat_template="J", additional_chat_templates__default="D")

with tempfile.TemporaryDirectory() as root:
    for i, s in enumerate(SITUATIONS):
        d = f"{root}/{i}/"
        for name, text in {"tokenizer.json": json.dumps({**BASE, **s["tokenizer"]}), **s["files"]}.items():
            os.makedirs(os.path.dirname(d + name), exist_ok=True)
            with open(d + name, "w") as f: f.write(text)
        t = PreTrainedTokenizerFast.from_pretrained(d)
        added = t.added_tokens_decoder
        texts = ["hi the other"] + [f"the {x.content} hi{x.content.upper()}the{x.content}{x.content.lower()} {x.content}" for x in added.values()]
        claims = [(x["content"], x["id"]) for x in s["tokenizer"].get("added_tokens", [])]
        config = json.loads(s["files"].get("tokenizer_config.json", "{}"))
        if "added_tokens_decoder" in config: claims += [(x["content"], int(k)) for k, x in config["added_tokens_decoder"].items()]
        else: claims += json.loads(s["files"].get("added_tokens.json", "{}")).items()
        template = t.chat_template
        s["expected"] = dict(
            size=len(t),
            tokens={k: v.content for k, v in added.items()},
            special=[k for k, v in added.items() if v.special],
            ids={role: t.convert_tokens_to_ids(text) for role in ("bos", "eos", "unk", "pad") if (text := getattr(t, role + "_token"))},
            encodings=[[x, t(x).input_ids, t(x, add_special_tokens=False).input_ids] for x in texts],
            other_ids=sorted({x for x, k in claims if t.convert_tokens_to_ids(x) != k}),
            templates={} if template is None else template if isinstance(template, dict) else {"default": template})

with open(sys.argv[1], "w") as f:
    f.write('{"tokenizer": ' + json.dumps(BASE) + ',\n"situations": [\n' + ",\n".join(json.dumps(s) for s in SITUATIONS) + "\n]}\n")
