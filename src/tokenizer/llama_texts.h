// Texts that llama.cpp knows tokens by, whatever the file says of them (llama-vocab.cpp). Their order is that of its lists.
#pragma once

#include <string_view>

namespace ingot::llama_texts {

// End-of-generation.
inline constexpr std::string_view kEnds[] = {
    "<|eot_id|>", "<|im_end|>",    "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>",       "<end_of_turn>",
    "<|endoftext|>", "</s>",       "<|eom_id|>", "<EOT>",   "_<EOT>",   "[EOT]",     "[EOS]",           "<|end_of_text|>",
    "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", "<\uFF5Cend\u2581of\u2581sentence\uFF5C>", "[e~["};
// Those that end nothing in their company: <|end|> beside the tokens of calls ends a message only (gpt-oss, Solar); </s> beside Gemma 4's
// response of a tool, or where the eos is PLaMo's own, is plain text. `has` is asked for texts of the vocabulary.
template <class Has>
bool ends_nothing(std::string_view text, const Has& has, std::string_view eos) {
  if (text == "<|end|>") return (has("<|call|>") || has("<|calls|>")) && (has("<|return|>") || has("<|flush|>"));
  return text == "</s>" && (has("<|tool_response>") || eos == "<|plamo:eos|>");
}
// Each is one token. Where the GGUF does not name it, llama.cpp takes one that is there: of several the one that its hash table lists
// first, so that a file with several has to name it (gguf_roles.cc), and here the first of these is taken.
inline constexpr std::string_view kFimPad[] = {"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"};
inline constexpr std::string_view kFimRep[] = {"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"};
inline constexpr std::string_view kFimSep[] = {"<|file_sep|>"};
// Of filling in the middle: what comes before, after and between.
inline constexpr std::string_view kFim[] = {
    "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<\uFF5Cfim\u2581begin\uFF5C>", "<PRE>", "\u2581<PRE>", "<|code_prefix|>", "<|prefix|>",
    "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<\uFF5Cfim\u2581hole\uFF5C>", "<SUF>", "\u2581<SUF>", "<|code_suffix|>", "<|suffix|>",
    "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<\uFF5Cfim\u2581end\uFF5C>", "<MID>", "\u2581<MID>", "<|code_middle|>", "<|middle|>"};

}  // namespace ingot::llama_texts
