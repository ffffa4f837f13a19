// What the command-line tests share.
#include "program.h"

#include <stdlib.h>
#include <sys/xattr.h>

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace ingot::testing {

namespace fs = std::filesystem;

std::string example(const std::string& name) { return std::string(INGOT_SOURCE_DIR) + "/examples/" + name; }
std::string data_file(const std::string& name) {
  return std::string(INGOT_SOURCE_DIR) + "/tests/data/" + name;
}

TemporaryDirectory::TemporaryDirectory() {
  std::string path = (fs::temp_directory_path() / "ingot-cli-XXXXXX").string();
  path_ = ::mkdtemp(path.data()) ? path : "";
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code error;
  for (const auto& e : fs::recursive_directory_iterator(path_, error))
    if (e.is_directory(error)) fs::permissions(e, fs::perms::owner_all, fs::perm_options::add, error);
  fs::remove_all(path_, error);
}

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream s;
  s << in.rdbuf();
  return s.str();
}

void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream out(path, std::ios::binary);
  out << bytes;
}

bool exists(const std::string& path) { return fs::exists(path); }

bool same_bytes(const std::string& a, const std::string& b) {
  std::ifstream x(a, std::ios::binary), y(b, std::ios::binary);
  if (!x || !y) return false;
  std::vector<char> p(1 << 20), q(1 << 20);
  for (;;) {
    x.read(p.data(), static_cast<std::streamsize>(p.size()));
    y.read(q.data(), static_cast<std::streamsize>(q.size()));
    if (x.gcount() != y.gcount() || std::memcmp(p.data(), q.data(), static_cast<size_t>(x.gcount())) != 0)
      return false;
    if (x.gcount() == 0) return true;
  }
}

std::vector<std::string> entries(const std::string& directory) {
  std::vector<std::string> names;
  for (const auto& e : fs::directory_iterator(directory)) names.push_back(e.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

bool keeps_notes(const std::string& directory) {
  return ::setxattr(directory.c_str(), "user.ingot.test", "x", 1, 0) == 0;
}

bool empty_but_for(const std::string& directory, std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  const auto there = entries(directory);
  if (there == names) return true;
  for (const auto& n : there) ADD_FAILURE() << "in the directory: " << n;
  return false;
}

void make_many_shards(const std::string& directory, int layers) {
  constexpr int64_t kHidden = 32, kFfn = 64, kVocab = 4096;
  fs::create_directories(directory);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "generation_config.json"})
    fs::copy_file(example("tiny-llama-base") + "/" + name, directory + "/" + name, fs::copy_options::overwrite_existing);
  auto config = nlohmann::json::parse(read_file(example("tiny-llama-base") + "/config.json"));
  config.update({{"hidden_size", kHidden}, {"intermediate_size", kFfn}, {"num_attention_heads", 2}, {"num_key_value_heads", 1},
                 {"head_dim", 16}, {"num_hidden_layers", layers}, {"vocab_size", kVocab}});
  write_file(directory + "/config.json", config.dump(2));
  const int shards = 9 * layers + 3;
  int shard = 0;
  nlohmann::ordered_json map = nlohmann::ordered_json::object();
  const auto tensor = [&](const std::string& name, std::vector<int64_t> shape) {
    uint64_t elements = 1;
    for (const int64_t d : shape) elements *= static_cast<uint64_t>(d);
    std::string header = nlohmann::ordered_json({{name, {{"dtype", "BF16"}, {"shape", shape}, {"data_offsets", {0, 2 * elements}}}}}).dump();
    header.resize((header.size() + 7) / 8 * 8, ' ');
    const uint64_t n = header.size();
    std::string bytes(reinterpret_cast<const char*>(&n), 8);
    bytes += header;
    for (uint64_t i = 0; i < elements; ++i) {
      const auto v = static_cast<uint16_t>(0x3c00 + (i * 37 + static_cast<uint64_t>(shard) * 11) % 512);
      bytes.append(reinterpret_cast<const char*>(&v), 2);
    }
    const std::string file = fmt::format("model-{:05}-of-{:05}.safetensors", ++shard, shards);
    write_file(directory + "/" + file, bytes);
    map[name] = file;
  };
  tensor("model.embed_tokens.weight", {kVocab, kHidden});
  tensor("lm_head.weight", {kVocab, kHidden});
  tensor("model.norm.weight", {kHidden});
  for (int i = 0; i < layers; ++i) {
    const std::string p = fmt::format("model.layers.{}.", i);
    for (const char* square : {"self_attn.q_proj", "self_attn.o_proj"}) tensor(fmt::format("{}{}.weight", p, square), {kHidden, kHidden});
    for (const char* half : {"self_attn.k_proj", "self_attn.v_proj"}) tensor(fmt::format("{}{}.weight", p, half), {kHidden / 2, kHidden});
    for (const char* up : {"mlp.gate_proj", "mlp.up_proj"}) tensor(fmt::format("{}{}.weight", p, up), {kFfn, kHidden});
    tensor(p + "mlp.down_proj.weight", {kHidden, kFfn});
    for (const char* norm : {"input", "post_attention"}) tensor(fmt::format("{}{}_layernorm.weight", p, norm), {kHidden});
  }
  write_file(directory + "/model.safetensors.index.json", nlohmann::ordered_json({{"metadata", nlohmann::json::object()}, {"weight_map", map}}).dump());
}

void make_model(const std::string& directory, int megabytes) {
  constexpr int64_t kHidden = 1024, kFfn = 2816, kHeads = 16, kKvHeads = 4, kHeadDim = kHidden / kHeads,
                    kVocab = 4096;
  const int64_t kv = kKvHeads * kHeadDim;
  const int64_t per_layer = 2 * kHidden * kHidden + 2 * kv * kHidden + 3 * kFfn * kHidden + 2 * kHidden;
  const int64_t rest = 2 * kVocab * kHidden + kHidden;
  const int64_t layers = std::max<int64_t>(1, (int64_t{megabytes} * 1'000'000 / 2 - rest) / per_layer);

  fs::create_directories(directory);
  for (const char* name :
       {"tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"})
    fs::copy_file(example("tiny-llama-base") + "/" + name, directory + "/" + name,
                  fs::copy_options::overwrite_existing);
  auto config = nlohmann::json::parse(read_file(example("tiny-llama-base") + "/config.json"));
  config["hidden_size"] = kHidden;
  config["intermediate_size"] = kFfn;
  config["num_attention_heads"] = kHeads;
  config["num_key_value_heads"] = kKvHeads;
  config["head_dim"] = kHeadDim;
  config["num_hidden_layers"] = layers;
  config["vocab_size"] = kVocab;
  write_file(directory + "/config.json", config.dump(2));

  nlohmann::ordered_json header = {{"__metadata__", {{"format", "pt"}}}};
  uint64_t at = 0;
  const auto tensor = [&](const std::string& name, std::vector<int64_t> shape) {
    uint64_t bytes = 2;
    for (const int64_t d : shape) bytes *= static_cast<uint64_t>(d);
    header[name] = {{"dtype", "BF16"}, {"shape", shape}, {"data_offsets", {at, at + bytes}}};
    at += bytes;
  };
  tensor("model.embed_tokens.weight", {kVocab, kHidden});
  tensor("lm_head.weight", {kVocab, kHidden});
  tensor("model.norm.weight", {kHidden});
  for (int64_t i = 0; i < layers; ++i) {
    const std::string p = "model.layers." + std::to_string(i) + ".";
    tensor(p + "self_attn.q_proj.weight", {kHidden, kHidden});
    tensor(p + "self_attn.k_proj.weight", {kv, kHidden});
    tensor(p + "self_attn.v_proj.weight", {kv, kHidden});
    tensor(p + "self_attn.o_proj.weight", {kHidden, kHidden});
    tensor(p + "mlp.gate_proj.weight", {kFfn, kHidden});
    tensor(p + "mlp.up_proj.weight", {kFfn, kHidden});
    tensor(p + "mlp.down_proj.weight", {kHidden, kFfn});
    tensor(p + "input_layernorm.weight", {kHidden});
    tensor(p + "post_attention_layernorm.weight", {kHidden});
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::ofstream out(directory + "/model.safetensors", std::ios::binary);
  const uint64_t n = text.size();
  out.write(reinterpret_cast<const char*>(&n), 8);
  out << text;
  // 2 MB of values once, then rotated and shifted in exponent for each 2 MB.
  std::vector<uint16_t> values(1 << 20);
  uint64_t state = 42;
  for (uint64_t done = 0; done < at;) {
    if (done == 0) {
      for (uint16_t& v : values) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const uint32_t r = static_cast<uint32_t>(state >> 33);
        v = static_cast<uint16_t>((r & 0x8000) | (0x3c00 + (r & 0x1ff)));  // +-0.008 .. 0.03
      }
    } else {
      std::rotate(values.begin(), values.begin() + 4097, values.end());
      values[done % values.size()] ^= 0x40;
    }
    const uint64_t take = std::min<uint64_t>(values.size() * 2, at - done);
    out.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(take));
    done += take;
  }
}

nlohmann::json result_of(const Finished& f) {
  auto j = nlohmann::json::parse(f.out, nullptr, false);
  if (j.is_discarded()) {
    ADD_FAILURE() << "no JSON object on stdout: " << f.out << "\nstderr: " << f.err;
    return nullptr;
  }
  return j;
}

std::vector<nlohmann::json> events_of(const std::string& err) {
  std::vector<nlohmann::json> events;
  std::istringstream lines(err);
  for (std::string line; std::getline(lines, line);) {
    if (!lines.eof() || err.ends_with('\n')) {  // the last line may not be whole yet
      auto j = nlohmann::json::parse(line, nullptr, false);
      if (j.is_discarded() || !j.is_object() || !j.contains("event")) {
        ADD_FAILURE() << "not an event: " << line;
      } else {
        events.push_back(std::move(j));
      }
    }
  }
  return events;
}

std::vector<std::pair<std::string, std::string>> read_tsv(const std::string& path) {
  std::vector<std::pair<std::string, std::string>> rows;
  std::istringstream lines(read_file(path));
  const auto plain = [](const std::string& s) {
    std::string out;
    for (size_t i = 0; i < s.size(); ++i) {
      if (s[i] == '\\' && i + 1 < s.size()) {
        ++i;
        out += s[i] == 'n' ? '\n' : s[i] == 't' ? '\t' : s[i];
      } else {
        out += s[i];
      }
    }
    return out;
  };
  for (std::string line; std::getline(lines, line);) {
    const size_t tab = line.find('\t');
    if (tab != std::string::npos) rows.emplace_back(plain(line.substr(0, tab)), plain(line.substr(tab + 1)));
  }
  return rows;
}

std::vector<std::string> slow_job(const std::string& model, const std::string& out,
                                  std::vector<std::string> more) {
  std::vector<std::string> a = {
      INGOT_PROGRAM, "quantize", model,      "--type", "Q4_K_M,Q5_K_M,Q6_K", "--out", out + "-{type}.gguf",
      "--threads",   "1",        "--memory", "128M"};
  a.insert(a.end(), more.begin(), more.end());
  return a;
}

std::vector<std::string> slow_outputs(const std::string& out) {
  return {out + "-Q4_K_M.gguf", out + "-Q5_K_M.gguf", out + "-Q6_K.gguf"};
}

}  // namespace ingot::testing
