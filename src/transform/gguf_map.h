// A Hugging Face model as a GGUF one: names, row permutations, metadata and tokenizer. Types stay as they are, but for
// norms and 1-D tensors, which are F32 (quantize.h chooses others).
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "tensor/artifact.h"
#include "transform/cast.h"

namespace ingot::transform {

struct ToGgufOptions {
  std::string pre_tokenizer;  // --pre-tokenizer: instead of the one that the tokenizer's rules match
  std::string name;           // general.name; empty: by config.json, else by the directory
  bool to_run = false;  // no file is made of it: what GGUF cannot say of the model is not told
  bool strict = false;  // what GGUF cannot say of the model is an error, not a notice
  std::shared_ptr<CastCounts> counts;
  std::function<void(const std::string&)> on_notice;
  std::function<void(const std::string&)> on_warning;  // what was asked for is likely not what is meant
};

// The metadata and its order are those of llama.cpp's converter, but for what it guesses from a model's name and card
// (general.basename, .finetune, .license ...).
Result<Artifact> to_gguf(const Artifact& hf, const ToGgufOptions& options = {});

}  // namespace ingot::transform
