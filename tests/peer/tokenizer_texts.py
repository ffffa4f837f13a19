"""Random mixed text from a seed: words of many scripts, code, numbers, emoji, combining marks, odd spaces, control characters,
and invalid bytes as the replacement character. Written for comparing tokenizers: tokenizers_check.py."""
import random

LATIN = "the quick brown fox jumps over lazy dog hello world it's don't we'll naïve café Ångström über straße señor façade ﬁnance ①② Ⅻ ½".split()
WORDS = [LATIN, "Привет мир модель данные Ёлка ЖЖ съешь".split(), "Ελληνικά κόσμος Σίσυφος ὀξύς ΑΣ".split(), "中文字符模型数据处理自然语言".split(),
         list("中文字符模型数据处理自然语言的一是不了人我在有他这"), "日本語 かな カタカナ ｶﾀｶﾅ ー トークン".split(), "한국어 모델 데이터 각 힣".split(),
         "مرحبا العالم نموذج لغة ١٢٣ لاَ".split(), "नमस्ते दुनिया क्षत्रिय हिन्दी ३४".split(), "שָׁלוֹם עולם עברית".split(), "สวัสดี ภาษาไทย น้ำ ๕".split(),
         "தமிழ் ខ្មែរ ကမ္ဘာ ქართული հայերեն አማርኛ ᏣᎳᎩ".split()]
CODE = ["for (int i = 0; i < n; ++i) {", "    return a[i] != b->c;", "}", "def f(x: int) -> str:", "\tprint(f\"{x!r}\")", "#include <vector>", "x_1 += 0x1F;",
        "// TODO(me): fix", "SELECT * FROM t WHERE a='b';", "<div class=\"x\">&amp;</div>", "https://example.com/a/b?c=d&e=%20#f", "a.b_c-d@e.org", "\\begin{x}$\\alpha^2$"]
EMOJI = ["😀", "🚀", "👨‍👩‍👧", "🏽", "👍🏿", "🇩🇪", "❤️", "✈", "🫠", "\U0001F9D1\u200D\U0001F4BB"]
MARKS = ["\u0301", "\u0308", "\u0327", "\u0323\u0307", "\u200D", "\uFE0F", "\u093F", "\u0E49", "\u064E", "\u05B8", "\u20DD"]
SPACES = [" ", " ", " ", " ", " ", " ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", " \n ", "\u00A0", "\u2003", "\u3000", "\u2028", "\u200B", "▁", "▁▁", "        "]
CONTROL = ["\x00", "\x01", "\x07", "\x1B", "\x7F", "\x85", "\xAD", "\uFEFF", "\uFFFD", "\uE000", "\u202E", "\u0600", "\uFFFF"]


def character(rng):
    while True:
        c = rng.choice([rng.randrange(0x20, 0x250), rng.randrange(0x250, 0x3000), rng.randrange(0x3000, 0x10000), rng.randrange(0x10000, 0x20000)])
        if not 0xD800 <= c < 0xE000:
            return chr(c)


def word(rng, extra):
    kind = rng.random()
    if kind < 0.5:
        w = rng.choice(LATIN)
        return w if kind < 0.35 else w.capitalize() if kind < 0.42 else w.upper() if kind < 0.46 else w + rng.choice(["ing", "s", "ed", "!", ",", ".", "...", "?"])
    if kind < 0.75:
        return rng.choice(rng.choice(WORDS))
    if kind < 0.80:
        return str(rng.randrange(10 ** rng.randrange(1, 12)))
    if kind < 0.86:
        return rng.choice(CODE)
    if kind < 0.89:
        return rng.choice(EMOJI) * rng.randrange(1, 3)
    if kind < 0.92:
        return rng.choice(LATIN)[:3] + rng.choice(MARKS) * rng.randrange(1, 3) + rng.choice("abe中")
    if kind < 0.94:
        return rng.choice(CONTROL)
    if kind < 0.96:
        return "".join(character(rng) for _ in range(rng.randrange(1, 6)))
    if kind < 0.98 and extra:
        return rng.choice(extra)
    return rng.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~“”‘’—…¿¡«»、。「」") * rng.randrange(1, 4)


def text(rng, size, extra=()):
    """About `size` characters; `extra` has words that the tokenizer treats in a way of its own."""
    out, n = [], 0
    while n < size:
        out.append(word(rng, extra))
        out.append("" if rng.random() < 0.08 else rng.choice(SPACES))
        n += len(out[-2]) + len(out[-1])
    return "".join(out)


def texts(seed, size, extra=()):
    """Texts of about `size` bytes together: many short ones and some long ones."""
    rng = random.Random(seed)
    while size > 0:
        t = text(rng, rng.choices([5, 20, 60, 200, 1000, 5000, 60000, 300000], [400, 400, 200, 100, 40, 20, 3, 1])[0], extra)
        if rng.random() < 0.02:  # bytes that are no UTF-8
            raw = bytearray(t.encode())
            for _ in range(3):
                raw[rng.randrange(len(raw))] = rng.randrange(256)
            t = raw.decode(errors="replace")
        size -= len(t.encode())
        yield t
