// What the arguments of --calibrate and --text name.
#include "calibrate/texts.h"

#include <algorithm>
#include <iterator>
#include <string_view>

#include "calibrate/builtin_texts.h"
#include "calibrate/json_lines.h"
#include "formats/placeholder.h"
#include "storage/given_path.h"
#include "storage/text_input.h"
#include "tokenizer/unicode.h"

namespace ingot::calibrate {
namespace {

constexpr std::string_view kMark = "\xEF\xBB\xBF", kStandardInput = "-", kBuiltin = "builtin";

struct Argument {
  std::string category, path;
};

bool is_file(const std::string& given) {
  const auto path = expand_variables(given);
  const auto at = path.ok() ? locate(*path) : Result<Located>(path.error());
  return at.ok() && is_there(*at->store, at->path);
}

Argument parse(const std::string& given) {
  const size_t equals = given.find('=');
  if (equals == std::string::npos || equals == 0 || given.find('/') < equals || is_file(given)) return {"", given};
  return {given.substr(0, equals), given.substr(equals + 1)};
}

bool is_json_lines(const std::string& path) {
  const size_t dot = path.rfind('.');
  std::string end = dot == std::string::npos ? "" : path.substr(dot);
  std::transform(end.begin(), end.end(), end.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return end == ".jsonl" || end == ".ndjson";
}

// Files that are often taken for text, by what they begin with.
struct Kind {
  std::string_view magic, what;
};
constexpr Kind kKinds[] = {
    {"PAR1\x15", "a parquet file, which is not read; make jsonl of it: python -c \"import pandas as pd; pd.read_parquet('{0}').to_json('{0}.jsonl', orient='records', lines=True)\""},
    {{"ARROW1\0", 7}, "an Arrow file, which is not read; make jsonl of it: python -c \"import pandas as pd; pd.read_feather('{0}').to_json('{0}.jsonl', orient='records', lines=True)\""},
    {"\x1F\x8B", "compressed; unpack it first: gzip -dk '{0}'"},
    {"\x28\xB5\x2F\xFD", "compressed; unpack it first: zstd -d '{0}'"},
    {"\xFD" "7zXZ", "compressed; unpack it first: xz -dk '{0}'"},
    {"PK\x03\x04", "a ZIP archive; unpack it first and give the texts in it"},
    {"\xFF\xFE", "UTF-16; make UTF-8 of it: iconv -f UTF-16 -t UTF-8 '{0}'"},
    {"\xFE\xFF", "UTF-16; make UTF-8 of it: iconv -f UTF-16 -t UTF-8 '{0}'"},
};

Status check_beginning(std::string_view head, const std::string& name) {
  for (const Kind& k : kKinds)
    if (head.starts_with(k.magic)) return bad_input("reading '{}': it is {}", name, fmt::format(fmt::runtime(k.what), name));
  if (const auto other = placeholder(head); other.find("pointer") != std::string_view::npos) return bad_input("reading '{}': it {}", name, other);
  return {};
}

Result<Text> plain_text(Argument a, const std::string& name, std::string text) {
  INGOT_TRY(check_beginning(text, name));
  if (!unicode::is_valid_utf8(text)) {
    const size_t good = unicode::well_formed_prefix(text);
    return bad_input("reading '{}', line {}: {}", name, 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(good), '\n'),
                     no_utf8(good + 1, text[good]));
  }
  if (text.starts_with(kMark)) text.erase(0, kMark.size());
  if (text.ends_with('\n')) text.pop_back();
  if (text.empty()) return bad_input("reading '{}': it is empty; give a file with text in it", name);
  return Text{name, std::move(a.category), std::move(text)};
}

Status read_json_lines(const Argument& a, const Located& at, const CancelToken& cancel, std::vector<Text>* out) {
  INGOT_ASSIGN(const auto there, at.store->stat(at.path));
  JsonLines lines(at.path, a.category, there ? std::min<uint64_t>(there->size, kMaxTextInput) : 0);
  bool first = true;
  INGOT_TRY(read_text_blocks(at, kMaxTextInput, cancel, [&](std::string_view block) -> Status {
    if (first) INGOT_TRY(check_beginning(block, at.path));
    first = false;
    return lines.add(block);
  }));
  INGOT_ASSIGN(auto texts, lines.finish());
  std::move(texts.begin(), texts.end(), std::back_inserter(*out));
  return {};
}

Status read_argument(const std::string& given, BuiltinHalf half, const CancelToken& cancel, std::vector<Text>* out) {
  if (given == kBuiltin) {
    auto texts = builtin_texts(half);
    std::move(texts.begin(), texts.end(), std::back_inserter(*out));
    return {};
  }
  Argument a = parse(given);
  if (a.path == kStandardInput) {
    INGOT_ASSIGN(std::string text, read_text_input(a.path, cancel));
    INGOT_ASSIGN(out->emplace_back(), plain_text(std::move(a), "standard input", std::move(text)));
    return {};
  }
  INGOT_ASSIGN(const Located at, text_path(a.path));
  INGOT_ASSIGN(const auto there, at.store->stat(at.path));
  if (there && there->directory()) return bad_input("'{}' is a directory; give the files of text in it", at.path);
  if (is_json_lines(at.path)) return read_json_lines(a, at, cancel, out);
  INGOT_ASSIGN(std::string text, read_text_at(at, kMaxTextInput, cancel));
  INGOT_ASSIGN(out->emplace_back(), plain_text(std::move(a), at.path, std::move(text)));
  return {};
}

}  // namespace

std::string path_of_text(const std::string& argument) { return parse(argument).path; }

Result<std::vector<Text>> read_texts(const std::vector<std::string>& arguments, BuiltinHalf half, const CancelToken* cancel) {
  const CancelToken never;
  std::vector<Text> texts;
  for (const std::string& given : arguments) INGOT_TRY(read_argument(given, half, cancel ? *cancel : never, &texts));
  if (texts.empty()) return usage("no text was given: a file, or 'builtin' for the mix that ships with ingot");
  return texts;
}

}  // namespace ingot::calibrate
