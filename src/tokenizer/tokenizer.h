// Tokenizer: text <-> token ids, from a Hugging Face tokenizer.json or from the vocabulary of a GGUF file,
// and from the one to the other. The steps are those of the tokenizers library: added tokens, normalizer,
// pre-tokenizer (pretokenizer.h), model (model.h), post-processor; decoder (decoder.h).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace ingot {

struct TokenizerParts;

// The texts of a Hugging Face directory that describe its tokenizer. A file that is there and empty is damaged, not missing.
struct HfTokenizerFiles {
  using File = std::optional<std::string_view>;
  std::string_view tokenizer_json;  // or tekken.json
  File tokenizer_config_json;
  File config_json;  // for special ids that no file of the tokenizer names
  File chat_template_jinja;
  File special_tokens_map_json = {};
  File added_tokens_json = {};
  File generation_config_json = {};  // for the tokens that end a text
  File chat_template_json = {};      // used where there is no other template
  std::vector<std::pair<std::string_view, std::string_view>> additional_chat_templates = {};  // name and text
  std::string_view tokenizer_model = {};  // SentencePiece: where there is no tokenizer.json, and for a GGUF's scores
  File vocab_json = {}, merges_txt = {};  // where there is none of both (vocab_files.h)
  size_t behind_json = 0;  // bytes of memory behind tokenizer_json that may be read, which saves a copy of it

  // Views into the files of a directory by their names ("additional_chat_templates/rag.jinja").
  static HfTokenizerFiles among(const std::map<std::string, std::string>& files);
};

// The values of tokenizer.ggml.token_type.
enum class TokenType : int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

// The tokenizer.* metadata of a GGUF file. Fields are named as the keys: tokenizer.ggml.<field>, with bos for
// bos_token_id (unk: unknown_token_id, sep: seperator_token_id, pad: padding_token_id), add_bos for
// add_bos_token.
struct GgufVocab {
  std::string name;   // general.name: llama.cpp knows some models' tokens by it
  std::string model;  // "gpt2", "llama", "bert" or "t5"
  std::string pre;
  std::vector<std::string> tokens;
  std::vector<float> scores;         // "llama" and "t5"; empty: all 0
  std::vector<int32_t> token_types;  // empty: all normal
  std::vector<std::string> merges;   // "left right"
  std::optional<int32_t> bos, eos, unk, sep, pad, mask, eot, eom;
  std::optional<bool> add_bos, add_eos, add_sep;
  std::optional<int32_t> fim_pad, fim_rep, fim_sep;
  std::optional<bool> add_space_prefix;  // add_prefix_space of tokenizer_config.json; of "llama" and "t5" what is done
  std::optional<bool> remove_extra_whitespaces;
  std::string charsmap;                                // precompiled_charsmap
  std::optional<bool> lowercase, strip_accents;        // normalizer.lowercase, normalizer.strip_accents
  std::optional<std::string> chat_template;  // tokenizer.chat_template
  std::vector<std::pair<std::string, std::string>> chat_templates;  // tokenizer.chat_template.NAME
  std::vector<std::string> warnings;  // no metadata: what of the tokenizer the file could not be given
};

// Immutable but for override_pre_tokenizer; any number of threads may encode and decode with one.
class Tokenizer {
 public:
  // Fails on damaged files and on parts that are not supported, each named.
  static Result<Tokenizer> from_hf(const HfTokenizerFiles& files);
  // Encodes as llama.cpp does with such a file, which is not always what the model's own tokenizer does.
  static Result<Tokenizer> from_gguf(const GgufVocab& vocab);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // What a GGUF file of this tokenizer holds. `n_vocab` is the number of embedding rows: rows without a token
  // are named [PADi], type unused; an added token without a row is left out with a warning, a piece of the vocabulary without one is
  // an error. 0: as many as there are tokens. Fails when llama.cpp has no pre-tokenizer or model for this tokenizer; what else it cannot say, gguf_gaps.h finds.
  Result<GgufVocab> to_gguf_vocab(size_t n_vocab = 0) const;
  // The name (tokenizer.ggml.pre) of this tokenizer's rules: the one overridden, that of the GGUF file, or
  // the one that the rules match. Rules that match none are named in the error, which proposes
  // --pre-tokenizer.
  Result<std::string> pre_tokenizer_name() const;
  // Uses `name` instead of looking for one; an unknown name is a usage error that lists the known ones.
  // What encode does is not changed.
  Status override_pre_tokenizer(std::string_view name);

  // The ids of `text`; ill-formed UTF-8 is replaced by U+FFFD first. `add_special` adds what the
  // post-processor adds (BOS). `parse_special`: control tokens written in the text become those tokens, as in
  // the tokenizers library; else, and where the files say split_special_tokens, they are plain text. Fails only where a pattern of the file does.
  Result<std::vector<int32_t>> encode(std::string_view text, bool add_special,
                                      bool parse_special = true) const;

  // The text of `ids`, ill-formed UTF-8 replaced by U+FFFD. Ids that are no token are passed over.
  std::string decode(const std::vector<int32_t>& ids, bool skip_special) const;

  // Decodes a stream: returns what can be shown after each token, whole characters only.
  class Stream {
   public:
    Stream(const Tokenizer& tokenizer, bool skip_special)
        : tokenizer_(&tokenizer), skip_special_(skip_special) {}
    std::string next(int32_t id);
    // What is left at the end: an unfinished character becomes U+FFFD.
    std::string finish();

   private:
    const Tokenizer* tokenizer_;
    bool skip_special_;
    bool first_ = true;
    std::string pending_;
  };

  // The bytes a token stands for (" the"); empty for ids that are no token.
  std::string token_piece(int32_t id) const;
  // One past the largest id.
  size_t size() const;
  // The same of tokenizer.json alone.
  size_t own_size() const;

  std::optional<int32_t> bos() const;
  // Texts of the special tokens by the names that chat templates know: "bos_token", "eos_token" ...
  std::map<std::string, std::string> special_tokens() const;
  // Ids after which generation stops: every eos, eot and eom that the files name, and what llama.cpp knows by its text.
  std::vector<int32_t> end_ids() const;
  // By name: the one without a name of its own is "default".
  std::map<std::string, std::string> chat_templates() const;
  // What is odd about the files, though they can be read: for people.
  const std::vector<std::string>& warnings() const;

 private:
  struct Impl;
  friend class Stream;
  friend class GgufGapFinder;
  const TokenizerParts& parts() const;
  static Result<Tokenizer> build(std::unique_ptr<TokenizerParts> parts);
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  // What the token adds to a stream; nothing where it is not shown.
  std::optional<std::string> stream_piece(int32_t id, bool skip_special, bool first) const;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ingot
