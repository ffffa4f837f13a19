// llama_greedy MODEL N TEXT: what llama.cpp makes of a GGUF file, as ids, for architectures_check.py. Three lines: the prompt's ids, those of the N most
// likely tokens after it, and by how much the best logit led in each. All in F32: llama.cpp's own tools keep keys and values in F16.
#include <llama.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

static int fail(const char* what) {
  fprintf(stderr, "llama_greedy: %s\n", what);
  return 1;
}

int main(int argc, char** argv) {
  if (argc != 4) return fail("MODEL N TEXT");
  const int n = atoi(argv[2]);
  llama_backend_init();
  llama_model* model = llama_model_load_from_file(argv[1], llama_model_default_params());
  if (!model) return fail("the model was not loaded");
  const llama_vocab* vocab = llama_model_get_vocab(model);
  std::vector<llama_token> prompt(strlen(argv[3]) + 8);
  const int count = llama_tokenize(vocab, argv[3], static_cast<int32_t>(strlen(argv[3])), prompt.data(), static_cast<int32_t>(prompt.size()), true, true);
  if (count <= 0) return fail("the text was not tokenized");
  prompt.resize(static_cast<size_t>(count));

  llama_context_params params = llama_context_default_params();
  params.n_ctx = 256;
  params.n_batch = params.n_ubatch = 256;
  params.n_threads = params.n_threads_batch = 1;
  params.type_k = params.type_v = GGML_TYPE_F32;
  params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  llama_context* context = llama_init_from_model(model, params);
  if (!context) return fail("no context");

  std::vector<llama_token> made;
  std::vector<float> leads;
  const int vocab_size = llama_vocab_n_tokens(vocab);
  llama_batch batch = llama_batch_get_one(prompt.data(), count);
  for (int i = 0; i < n; ++i) {
    if (llama_decode(context, batch)) return fail("llama_decode failed");
    const float* logits = llama_get_logits_ith(context, -1);
    llama_token best = static_cast<llama_token>(std::max_element(logits, logits + vocab_size) - logits);
    float second = -INFINITY;
    for (int t = 0; t < vocab_size; ++t)
      if (t != best) second = std::max(second, logits[t]);
    if (llama_vocab_is_eog(vocab, best)) break;
    made.push_back(best), leads.push_back(logits[best] - second);
    batch = llama_batch_get_one(&made.back(), 1);
  }
  for (llama_token t : prompt) printf("%d ", t);
  printf("\n");
  for (llama_token t : made) printf("%d ", t);
  printf("\n");
  for (float f : leads) printf("%g ", static_cast<double>(f));
  printf("\n");
  llama_free(context);
  llama_model_free(model);
  return 0;
}
