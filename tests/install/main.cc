// A user's program against the installed package (run.sh): opens a model, transforms it, writes it in one pass.
#include <cstdio>
#include <string>

#include "ingot/ingot.h"

namespace {

// Prints an error as a user would and gives the exit code for its kind.
int fail(const ingot::Error& error) {
  std::fprintf(stderr, "user: %s\n", error.message.c_str());
  return static_cast<int>(error.kind);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: user BASE ADAPTER OUT.gguf\n");
    return 2;
  }
  auto base = ingot::open(argv[1]);
  if (!base.ok()) return fail(base.error());
  auto merged = ingot::lora_merge(*base, {{argv[2]}});
  if (!merged.ok()) return fail(merged.error());
  auto gguf = ingot::to_gguf(*merged);
  if (!gguf.ok()) return fail(gguf.error());
  auto small = ingot::quantize(*gguf, "Q4_K_M");
  if (!small.ok()) return fail(small.error());

  ingot::WriteOptions options;
  options.memory = 256 << 20;
  auto report = ingot::write(*small, argv[3], options);
  if (!report.ok()) return fail(report.error());

  auto written = ingot::open(argv[3]);
  if (!written.ok()) return fail(written.error());
  auto norm = written->read("output_norm.weight");
  if (!norm.ok()) return fail(norm.error());
  std::printf("ingot %s: %zu tensors, %llu bytes, hash %s, %zu norms\n", ingot::version(), written->tensors().size(),
              static_cast<unsigned long long>(report->outputs[0].bytes), report->outputs[0].hash.c_str(), norm->size());

  // An error is a value, not an exception: nothing is at this path.
  auto nothing = ingot::open(std::string(argv[3]) + ".missing");
  return !nothing.ok() && nothing.error().kind == ingot::ErrorKind::kBadInput ? 0 : 1;
}
