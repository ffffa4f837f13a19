// ingot tokenize: text to ids and back, with the model's own tokenizer.
#include <charconv>
#include <cstdio>
#include <iterator>

#include "cli/command.h"
#include "cli/generation.h"
#include "cli/job.h"
#include "cli/model_args.h"
#include "cli/output.h"
#include "cli/paths.h"
#include "cli/text.h"
#include "formats/tokenizer_files.h"
#include "transform/gguf_check.h"
#include "transform/lora_base.h"

namespace ingot::cli {

namespace {

// Numbers apart by anything that is no digit: "[1, 2]", "1 2", one a line.
Result<std::vector<int32_t>> parse_ids(const std::string& text, const Tokenizer& tokenizer) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (c == ' ' || c == ',' || c == '\n' || c == '\r' || c == '\t' || c == '[' || c == ']') {
      ++i;
      continue;
    }
    int32_t id = -1;
    auto [p, ec] = std::from_chars(text.data() + i, text.data() + text.size(), id);
    const size_t end = text.find_first_of(" ,\n\r\t[]", i);
    const std::string word = text.substr(i, std::min<size_t>(end - i, 40));
    if (ec != std::errc() || id < 0 || static_cast<size_t>(id) >= tokenizer.size())
      return bad_input("--decode: '{}' is no token id of this model (0 to {})", word, tokenizer.size() - 1);
    ids.push_back(id);
    i = static_cast<size_t>(p - text.data());
  }
  return ids;
}

}  // namespace

Status command_tokenize(Context& c) {
  std::string path, text, file;
  bool as_ids = false, as_pieces = false, decode = false, no_special = false;
  c.args.usage("tokenize MODEL --text TEXT | --file FILE [--ids | --pieces | --decode] [--no-special]");
  c.args.positional("MODEL|-m,--model", &path, "a GGUF file, a Hugging Face directory, the tokenizer's file, or a name like org/model");
  c.args.section("Options");
  c.args.text("-p,--text|--prompt", "TEXT", &text, "the text (or, with --decode, the ids)", true);
  c.args.text("-f,--file", "FILE", &file, "read it from a file; - is standard input");
  c.args.flag("--ids", &as_ids, "print ids on one line (this is the default)");
  c.args.flag("--pieces", &as_pieces, "print one token a line: id, TAB, its text");
  c.args.flag("--decode", &decode, "ids in, text out");
  c.args.flag("--no-special", &no_special,
              "without the tokens that the model adds (BOS); with --decode, leave special tokens out");
  c.args.example("ingot tokenize model.gguf --text 'Hello world' --pieces");
  c.args.example("ingot tokenize base/ --text '0 614 1840' --decode");
  c.args.unused(kForWriters);
  c.args.too_many("a text is --text TEXT");
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  if (c.args.has("--text") && c.args.has("--file")) return usage("'ingot tokenize' takes --text or --file, not both");
  if (!c.args.has("--text") && !c.args.has("--file"))
    return usage("'ingot tokenize' needs a text: --text TEXT or --file FILE (- is standard input)");
  if (as_ids + as_pieces + decode > 1) return usage("--ids, --pieces and --decode exclude each other");

  INGOT_ASSIGN(const Located at, input_path(path));
  INGOT_ASSIGN(auto files, open_tokenizer_files(*at.store, at.path));
  INGOT_ASSIGN(const Artifact artifact, files ? Result<Artifact>(std::move(*files)) : open_told(c, at));
  INGOT_TRY(check_is_model(artifact));
  if (artifact.naming == "gguf") INGOT_TRY(transform::check_gguf(artifact, transform::GgufUse::kTokenizer));
  INGOT_TRY(go_on(c));
  auto tokenizer_of = open_tokenizer(c, artifact);
  if (!tokenizer_of.ok() && artifact.naming == "peft") {
    const auto base = transform::find_base(artifact);
    return bad_input("{}; or, as '{}' is an adapter, take its base's: ingot tokenize {}", tokenizer_of.error().message, at.path,
                     base.ok() ? shell_word(base->path) : "BASE");
  }
  INGOT_ASSIGN(const Tokenizer tokenizer, std::move(tokenizer_of));
  INGOT_TRY(go_on(c));
  if (c.args.has("--file")) {
    INGOT_ASSIGN(text, read_text_input(file, c.cancel));
  }
  if (decode) {
    INGOT_ASSIGN(const std::vector<int32_t> ids, parse_ids(text, tokenizer));
    const std::string out = tokenizer.decode(ids, no_special);
    return c.report.result({{"ids", ids}, {"text", out}}, stdout_is_terminal() ? printable(out, true) + "\n" : out);
  }
  INGOT_ASSIGN(const std::vector<int32_t> ids, no_special ? tokenizer.encode(text, false) : encode_whole(c, tokenizer, text));
  if (c.report.json()) {
    OrderedJson pieces = OrderedJson::array();
    for (const int32_t id : ids) pieces.push_back(tokenizer.token_piece(id));
    return c.report.result({{"ids", ids}, {"pieces", pieces}, {"tokens", ids.size()}}, "");
  }
  std::string out;
  for (const int32_t id : ids) {
    if (as_pieces)
      out += fmt::format("{}\t{}\n", id, printable(tokenizer.token_piece(id)));
    else
      out += fmt::format("{}{}", out.empty() ? "" : " ", id);
  }
  return print(as_pieces ? out : out + "\n");
}

}  // namespace ingot::cli
