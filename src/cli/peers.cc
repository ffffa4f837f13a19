// What users of llama.cpp's and mergekit's programs write, and what stands for it here.
#include "cli/peers.h"

#include <algorithm>

#include "cli/text.h"

namespace ingot::cli {

namespace {

// Names with commas between them, and what is said of any.
struct Row {
  const char *names, *text;
};

constexpr Row kOptions[] = {
    {"-ngl,--gpu-layers,--n-gpu-layers,-dev,--device,-sm,--split-mode,-mg,--main-gpu,-ts,--tensor-split", "the CPU does it all; leave it out"},
    {"-c,--ctx-size", "a text may have as many tokens as the model's context; leave it out"},
    {"-fa,--flash-attn,-b,--batch-size,-ub,--ubatch-size,-tb,--threads-batch,-ctk,--cache-type-k,-ctv,--cache-type-v", "there is nothing to choose; leave it out"},
    {"-cnv,--conversation,-i,--interactive", "a conversation is --chat"},
    {"-no-cnv,--no-conversation", "without --chat a text is gone on from; leave it out"},
    {"-st,--single-turn", "--chat with --prompt gives one answer"},
    {"-sys", "it is --system"},
    {"--chat-template-file", "it is --chat-template FILE"},
    {"-e,--escape,--no-escape", "a text is taken as it stands; leave it out (in bash, $'a\\nb' holds the end of a line)"},
    {"-hf,-hfr,--hf-repo,-hff,--hf-file,-mu,--model-url,--remote", "download the model with 'hf download org/model', then give org/model"},
    {"--lora-scaled", "it is --adapter DIR --weight W"},
    {"--kl-divergence-base,--save-all-logits", "no file of logits is needed: give the reference itself, --against MODEL"},
    {"--hellaswag,--hellaswag-tasks,--winogrande,--winogrande-tasks,--multiple-choice,--multiple-choice-tasks,--ppl-stride,--ppl-output-type", "it is not there"},
    {"--repeat-last-n", "the last 64 tokens count; leave it out"},
    {"--no-bos", "it is --no-special"},
    {"--stdin", "it is --file -"},
    {"--print-supported-architectures", "'ingot list architectures' tells them"},
    {"--split-max-tensors,--no-tensor-first-split", "'ingot gguf split IN.gguf PREFIX' has it; elsewhere --max-shard-size limits a file's size"},
    {"--split", "it is 'ingot gguf split IN.gguf PREFIX'"},
    {"--merge", "it is 'ingot gguf merge FIRST OUT.gguf'"},
};

constexpr Row kPrograms[] = {
    {"convert_hf_to_gguf.py,convert-hf-to-gguf.py,convert_hf_to_gguf,convert.py", "'ingot convert DIR model-f16.gguf F16'"},
    {"convert_lora_to_gguf.py", "'ingot ship ADAPTER', folded into its base (a GGUF of its own is not there yet)"},
    {"llama-quantize,llama-quantise", "'ingot quantize IN.gguf OUT.gguf Q4_K_M'"},
    {"llama-cli,llama-completion,llama-run,llama-simple,generate", "'ingot run MODEL --prompt TEXT'"},
    {"chat", "'ingot run MODEL --chat'"},
    {"llama-tokenize", "'ingot tokenize MODEL --text TEXT'"},
    {"gguf-dump,gguf_dump,gguf_dump.py,gguf-dump.py,dump,show", "'ingot inspect PATH'"},
    {"llama-gguf-split,gguf-split,split", "'ingot gguf split IN.gguf PREFIX --split-max-size 2G', and 'ingot gguf merge FIRST OUT.gguf' (every command reads split files as one)"},
    {"gguf-merge", "'ingot gguf merge FIRST OUT.gguf'"},
    {"gguf-set-metadata,gguf_set_metadata.py,gguf_set_metadata,gguf-new-metadata,gguf_new_metadata.py,gguf_new_metadata,gguf-edit,edit",
     "'ingot gguf edit FILE --set KEY=VALUE' (a copy with --out OUT.gguf)"},
    {"mergekit-yaml,mergekit", "not there yet (merging models)"},
    {"llama-imatrix", "'ingot imatrix MODEL --calibrate TEXT --out imatrix.gguf'"},
    {"llama-perplexity", "'ingot eval MODEL... --against REFERENCE --text FILE'"},
    {"llama-server", "not there"},
    {"version", "'ingot --version'"},
};

template <size_t n>
std::string find(const Row (&rows)[n], std::string_view name) {
  for (const Row& row : rows) {
    const auto names = split(row.names, ',');
    if (std::find(names.begin(), names.end(), name) != names.end()) return row.text;
  }
  return "";
}

}  // namespace

std::string instead_of_option(std::string_view name) { return find(kOptions, name); }
std::string instead_of_program(std::string_view name) { return find(kPrograms, name); }

}  // namespace ingot::cli
