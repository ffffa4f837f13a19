// Encodes many texts with a directory's tokenizer: tokenizer_bench DIRECTORY TEXTS [--special]. TEXTS has a JSON string a line. The
// ids go to standard output, a line for each text; the processor time of loading and of encoding, both on one thread, to standard error.
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tokenizer/tokenizer.h"

namespace {

std::string slurp(const std::filesystem::path& path) {
  std::ifstream f(path, std::ios::binary);
  std::stringstream s;
  s << f.rdbuf();
  return s.str();
}

// Of this process: other work on the machine does not count.
double processor_time() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return std::fputs("usage: tokenizer_bench DIRECTORY TEXTS [--special]\n", stderr), 2;
  const bool special = argc > 3 && std::strcmp(argv[3], "--special") == 0;
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1]))
    if (entry.is_regular_file() && !entry.path().string().ends_with(".safetensors"))
      files[entry.path().filename().string()] = slurp(entry.path());
  const double loading = processor_time();
  const auto tokenizer = ingot::Tokenizer::from_hf(ingot::HfTokenizerFiles::among(files));
  const double loaded = processor_time() - loading;
  if (!tokenizer.ok()) return std::fprintf(stderr, "%s\n", tokenizer.error().message.c_str()), 1;
  std::vector<std::string> texts;
  std::ifstream lines(argv[2]);
  for (std::string line; std::getline(lines, line);) texts.push_back(nlohmann::json::parse(line).get<std::string>());
  std::vector<std::vector<int32_t>> ids;
  size_t bytes = 0, tokens = 0;
  const double encoding = processor_time();
  for (const std::string& text : texts) {
    auto r = tokenizer->encode(text, special);
    if (!r.ok()) return std::fprintf(stderr, "%s\n", r.error().message.c_str()), 1;
    bytes += text.size();
    tokens += r->size();
    ids.push_back(std::move(*r));
  }
  const double encoded = processor_time() - encoding;
  std::string out;
  for (const auto& line : ids) {
    for (const int32_t id : line) out += std::to_string(id) += ' ';
    out += '\n';
  }
  std::fwrite(out.data(), 1, out.size(), stdout);
  std::fprintf(stderr, "load %.6f encode %.6f bytes %zu tokens %zu\n", loaded, encoded, bytes, tokens);
  return 0;
}
