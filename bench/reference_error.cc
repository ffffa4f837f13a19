// Asks llama.cpp's quantizers for their error on the tensors of src/quant/test_tensors.h (the constants in
// src/quant/error_test.cc) and for their single-thread speed. Not part of the build, as it links the peer:
//   ./run bench --small   # puts the peer into .peers/
//   llama=.peers/src/llama_cpp_python-0.3.36/vendor/llama.cpp
//   g++ -O2 -std=c++20 -Isrc -I$llama/ggml/include bench/reference_error.cc .peers/build/ggml/src/libggml-base.a \
//     -lpthread -fopenmp -o build/reference_error && build/reference_error
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "ggml.h"
#include "quant/test_tensors.h"

int main() {
  using namespace ingot::testing;
  const struct {
    const char* name;
    ggml_type type;
  } types[] = {{"Q8_0", GGML_TYPE_Q8_0},
               {"Q4_0", GGML_TYPE_Q4_0},
               {"Q4_K", GGML_TYPE_Q4_K},
               {"Q5_K", GGML_TYPE_Q5_K},
               {"Q6_K", GGML_TYPE_Q6_K}};
  const int64_t row = 1024, n = 64 * row;
  const std::vector<float> w = importance(row);
  for (const char* kind : kKinds)
    for (const auto& t : types) {
      const std::vector<float> x = tensor(kind, n, row);
      std::vector<char> q(ggml_row_size(t.type, n));
      std::vector<float> y(x.size());
      double plain = 0, weighted = 0;
      for (const float* im : {static_cast<const float*>(nullptr), w.data()}) {
        ggml_quantize_chunk(t.type, x.data(), q.data(), 0, n / row, row, im);
        ggml_get_type_traits(t.type)->to_float(q.data(), y.data(), n);
        (im ? weighted : plain) = im ? relative_error(x, y, w) : relative_error(x, y);
      }
      std::printf("    {\"%s\", \"%s\", %.6e, %.6e},\n", kind, t.name, plain, weighted);
    }
  const std::vector<float> x = tensor("gaussian", 1 << 20, 2048);
  for (const auto& t : types) {
    std::vector<char> q(ggml_row_size(t.type, 1 << 20));
    double best = 1e9;
    for (int i = 0; i < 3; ++i) {
      const auto t0 = std::chrono::steady_clock::now();
      ggml_quantize_chunk(t.type, x.data(), q.data(), 0, 512, 2048, nullptr);
      const double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - t0).count();
      best = s < best ? s : best;
    }
    std::printf("// speed %s %.1f M elements/s\n", t.name, (1 << 20) / best / 1e6);
  }
}
