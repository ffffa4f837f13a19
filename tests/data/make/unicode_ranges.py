#!/usr/bin/env python3
"""Writes src/tokenizer/unicode_ranges.h: characters that the tokenizers library (0.23.3) drops as combining marks and as control
characters, found by asking it of every character. Its crates know Unicode as of different years, and ids depend on that.

    python3 unicode_ranges.py      # needs: pip install tokenizers==0.23.3
"""
from pathlib import Path

from tokenizers import normalizers

BERT = normalizers.BertNormalizer
TABLES = [("kMarks", "Categories M*, as StripAccents has them (Unicode 9).", normalizers.StripAccents()),
          ("kNonspacingMarks", "Category Mn, as BertNormalizer has it (Unicode 8).", BERT(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False)),
          ("kOther", "Categories Cc, Cf, Co, as BertNormalizer has them (Unicode 8).", BERT(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False))]
LEFT_OUT = {0xFFFD}  # which BertNormalizer drops by a rule of its own


def ranges(normalizer):
    out = []
    for c in range(1, 0x110000):
        if 0xD800 <= c < 0xE000 or c in LEFT_OUT or normalizer.normalize_str("a" + chr(c) + "b") != "ab":
            continue
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


text = """// Characters by the categories that the tokenizers library gives them; made by tests/data/make/unicode_ranges.py.
#pragma once

namespace ingot::unicode {

struct Range {
  char32_t first, last;
};

"""
for name, what, normalizer in TABLES:
    text += f"// {what}\ninline constexpr Range {name}[] = {{\n"
    line = "   "
    for first, last in ranges(normalizer):
        item = f" {{0x{first:X}, 0x{last:X}}},"
        if len(line) + len(item) > 138:
            text, line = text + line + "\n", "   "
        line += item
    text += line.rstrip(",") + "};\n\n"
text += "}  // namespace ingot::unicode\n"
(Path(__file__).resolve().parents[3] / "src/tokenizer/unicode_ranges.h").write_text(text)
