// ingot doctor: it says what ship says, and is refused where ship is. And what inspect tells of a directory.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "program.h"

namespace ingot::testing {
namespace {

namespace fs = std::filesystem;

class Doctor : public CliTest {
 protected:
  std::string copy(const std::string& name) {
    const std::string to = dir_ / name;
    fs::remove_all(to);
    fs::copy(example(name), to);
    return to;
  }
  std::string sharded() {
    const std::string to = dir_ / "sharded";
    const Finished f = ingot({"convert", example("tiny-llama-base"), "--out", to, "--max-shard-size", "4MB", "--force"});
    EXPECT_EQ(f.exit_code, 0) << f.err;
    EXPECT_TRUE(exists(to + "/model.safetensors.index.json"));
    return to;
  }
  static std::vector<std::string> shards(const std::string& dir) {
    auto names = entries(dir);
    std::erase_if(names, [](const std::string& n) { return !n.ends_with(".safetensors"); });
    return names;
  }
  static void replace(const std::string& path, const std::string& from, const std::string& to) {
    std::string text = read_file(path);
    const auto at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    write_file(path, text.replace(at, from.size(), to));
  }
  // A safetensors file of tensors without values.
  static void write_empty(const std::string& path, const std::vector<std::string>& names) {
    nlohmann::json tensors;
    for (const auto& n : names) tensors[n] = {{"dtype", "BF16"}, {"shape", {0}}, {"data_offsets", {0, 0}}};
    const std::string header = tensors.dump();
    std::string size(8, '\0');
    for (size_t i = 0; i < 8; ++i) size[i] = static_cast<char>(header.size() >> (8 * i));
    write_file(path, size + header);
  }

  // What the doctor says of the directory is what ship says and does; gives the doctor's result.
  nlohmann::json agrees(const std::string& base, const std::string& adapter = "") {
    std::vector<std::string> ship = {"ship", base, "--type", "Q4_K_M", "--out", dir_ / "out.gguf", "--dry-run", "--json"};
    std::vector<std::string> doctor = {"doctor", base, "--json"};
    if (!adapter.empty()) {
      ship.insert(ship.end(), {"--adapter", adapter});
      doctor = {"doctor", adapter, "--base", base, "--json"};
    }
    const Finished s = ingot(ship), d = ingot(doctor);
    EXPECT_EQ(d.exit_code, s.exit_code) << s.err << d.err;
    std::multiset<std::string> said, odd;
    for (const auto& e : events_of(s.err))
      if (e["event"] == "notice" || e["event"] == "warning") said.insert(e["event"].get<std::string>() + ": " + e["message"].get<std::string>());
    const auto j = nlohmann::json::parse(d.out, nullptr, false);
    if (j.is_discarded()) {
      ADD_FAILURE() << d.out;
      return nullptr;
    }
    for (const auto& o : j["odd"]) odd.insert(o["kind"].get<std::string>() + ": " + o["message"].get<std::string>());
    EXPECT_EQ(odd, said);
    EXPECT_EQ(j["ok"], s.exit_code == 0);
    EXPECT_EQ(j["ship"]["ok"], s.exit_code == 0);
    if (s.exit_code) {
      EXPECT_EQ(j["ship"]["reason"], nlohmann::json::parse(s.out)["error"]["message"]) << d.out;
    }
    EXPECT_FALSE(exists(dir_ / "out.gguf"));
    return j;
  }
};

TEST_F(Doctor, TellsWhatAModelIs) {
  const auto j = agrees(example("tiny-llama-base"));
  EXPECT_EQ(j["kind"], "model");
  EXPECT_EQ(j["format"], "safetensors");
  EXPECT_EQ(j["architecture"], "LlamaForCausalLM");
  EXPECT_EQ(j["files"], 1);
  EXPECT_EQ(j["tokenizer"]["tokens"], 4096);
  EXPECT_EQ(j["tokenizer"]["chat_templates"], nlohmann::json({"default"}));
  EXPECT_EQ(j["tokenizer"]["end"][0]["id"], 1);
  EXPECT_EQ(j["tokenizer"]["end"][0]["text"], "<|end_of_text|>");
  EXPECT_TRUE(j["odd"].empty()) << j["odd"];

  SpawnOptions options;
  options.terminal = true;
  for (const std::string& path : {example("tiny-llama-base"), sharded(), example("lora-code")}) {
    const Finished f = ingot({"doctor", path}, options);
    EXPECT_EQ(f.exit_code, 0) << f.err;
    const Screen screen = render(f.err, 80);
    EXPECT_FALSE(screen.wrapped) << f.err;
    EXPECT_LE(screen.lines.size(), 16u) << f.err;
  }
  const Finished inspected = ingot({"inspect", example("tiny-llama-base")}, options);
  EXPECT_FALSE(render(inspected.err, 80).wrapped) << inspected.err;
  const Finished f = ingot({"doctor", example("tiny-llama-base")});
  for (const char* part : {"LlamaForCausalLM, 6 layers of width 256, 8 heads", "vocabulary 4096", "gpt2", "1 '<|end_of_text|>'", "odd           nothing",
                           "would convert it: Q4_K_M", "ingot ship "})
    EXPECT_NE(f.out.find(part), std::string::npos) << part << " in " << f.out;
  EXPECT_EQ(f.err, "");
}

TEST_F(Doctor, TellsWhatShipTells) {
  // Nothing names the set, rows are left over, and an adapter lies beside.
  const std::string base = sharded();
  fs::remove(base + "/model.safetensors.index.json");
  fs::copy(example("lora-code") + "/adapter_model.safetensors", base);
  const auto j = agrees(base);
  EXPECT_EQ(j["odd"].size(), 2u) << j["odd"];
  EXPECT_EQ(j["files"], shards(base).size() - 1);
  // A stale single file.
  fs::copy(example("tiny-llama-base") + "/model.safetensors", base);
  EXPECT_EQ(agrees(base)["files"], 1);
  // Beside --quiet, which only means less talk.
  EXPECT_NE(ingot({"doctor", base, "--quiet"}).out.find("notice: "), std::string::npos);
}

TEST_F(Doctor, IsRefusedWhereShipIsAndForTheSameReason) {
  const auto refused = [&](const std::string& part, const std::string& base, const std::string& adapter = "") {
    const auto j = agrees(base, adapter);
    const std::string reason = j["ship"].value("reason", "");
    EXPECT_NE(reason.find(part), std::string::npos) << part << " in " << reason;
    const Finished f = adapter.empty() ? ingot({"doctor", base}) : ingot({"doctor", adapter, "--base", base});
    EXPECT_EQ(f.exit_code, 3);
    EXPECT_NE(f.out.find("would refuse it"), std::string::npos) << f.out;
    EXPECT_NE(f.err.find("for the reason above"), std::string::npos) << f.err;
  };
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 17209920\n";
  std::string base = sharded();
  const std::string gone = shards(base)[1];
  fs::remove(base + "/" + gone);
  refused("files that the index names is not there: " + gone, base);
  base = copy("tiny-llama-base");
  write_file(base + "/model.safetensors", pointer);
  refused("git lfs pull", base);
  for (const char* name : {"tokenizer.json", "config.json"}) {
    base = copy("tiny-llama-base");
    write_file(base + "/" + name, pointer);
    refused("git-lfs pointer", base);
    write_file(base + "/" + name, "<!doctype html><html>");
    refused("a web page", base);
    write_file(base + "/" + name, "");
    refused("empty", base);
  }
  base = copy("tiny-llama-base");
  replace(base + "/config.json", "\"num_hidden_layers\": 6", "\"num_hidden_layers\": 7");
  refused("missing", base);
  base = copy("tiny-llama-base");
  replace(base + "/config.json", "LlamaForCausalLM", "NoSuchForCausalLM");
  replace(base + "/config.json", "\"model_type\": \"llama\"", "\"model_type\": \"nosuch\"");
  EXPECT_NE(agrees(base)["odd"].dump().find("NoSuchForCausalLM is unknown"), std::string::npos);  // its tensors are a Llama's
  // Saved without gathering what ZeRO-3 had spread.
  base = copy("tiny-llama-base");
  write_empty(base + "/model.safetensors", {"model.embed_tokens.weight", "model.norm.weight"});
  refused("2 of 2 tensors are empty", base);
  const std::string adapter = copy("lora-code");
  write_empty(adapter + "/adapter_model.safetensors", {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
                                                       "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"});
  refused("stage3_gather_16bit_weights_on_model_save", example("tiny-llama-base"), adapter);
  EXPECT_EQ(ingot({"doctor", adapter}).exit_code, 3);
}

TEST_F(Doctor, TellsWhatAnAdapterIs) {
  const std::string adapter = copy("lora-code");
  replace(adapter + "/adapter_config.json", "\"base_model_name_or_path\": \"../tiny-llama-base\"", "\"base_model_name_or_path\": \"org/base-1b\"");
  const Finished alone = ingot({"doctor", adapter});
  EXPECT_EQ(alone.exit_code, 0) << alone.err;
  for (const char* part : {"an adapter", "org/base-1b", "LORA of rank 16, alpha 32, 42 modules: down_proj, gate_proj, k_proj", "with --base DIR"})
    EXPECT_NE(alone.out.find(part), std::string::npos) << part << " in " << alone.out;
  const auto j = agrees(example("tiny-llama-base"), adapter);
  EXPECT_EQ(j["kind"], "adapter");
  EXPECT_EQ(j["base"], "org/base-1b");
  EXPECT_EQ(j["modules"], 42);
  EXPECT_EQ(j["tokenizer"]["end"][0]["id"], 1);
  // What stands on its own is told without the base.
  replace(adapter + "/adapter_config.json", "\"use_dora\": false", "\"use_dora\": true");
  const auto refused = nlohmann::json::parse(ingot({"doctor", adapter, "--json"}).out);
  EXPECT_EQ(refused["ok"], false);
  EXPECT_NE(refused["error"]["message"].get<std::string>().find("use_dora"), std::string::npos) << refused;
  EXPECT_EQ(refused["modules"], 42);
}

TEST_F(Doctor, WhatCannotBeOpenedIsSaidToo) {
  fs::create_directories(dir_ / "run/step-20");
  fs::create_directories(dir_ / "run/step-100");
  for (const char* step : {"20", "100"}) fs::copy(example("lora-code"), dir_ / (std::string("run/step-") + step));
  const Finished f = ingot({"doctor", dir_ / "run"});
  EXPECT_EQ(f.exit_code, 3);
  EXPECT_NE(f.out.find("step-100"), std::string::npos) << f.out;
  EXPECT_EQ(ingot({"doctor", dir_ / "nowhere"}).exit_code, 3);
  EXPECT_EQ(ingot({"doctor", example("tiny-llama-base"), "--base", dir_ / "run"}).exit_code, 2);
  EXPECT_EQ(ingot({"doctor", example("lora-code"), "--base", example("lora-code")}).exit_code, 3);
}

TEST_F(Doctor, AnEmptyFileOfTheTokenizerIsRefusedByName) {
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}) {
    const std::string base = copy("tiny-llama-base");
    write_file(base + "/" + name, "");
    const auto j = agrees(base);
    EXPECT_NE(j["ship"]["reason"].get<std::string>().find(std::string(name) + ": "), std::string::npos) << j["ship"];
    const Finished merge = ingot({"lora", "merge", base, "--adapter", example("lora-code"), "--out", dir_ / "merged"});
    EXPECT_EQ(merge.exit_code, 3) << merge.err;
    EXPECT_NE(merge.err.find("the file is empty"), std::string::npos) << merge.err;
    const std::string adapter = copy("lora-code");
    write_file(adapter + "/" + name, "");
    EXPECT_NE(agrees(example("tiny-llama-base"), adapter)["ship"]["reason"].get<std::string>().find(name), std::string::npos);
  }
  const std::string base = copy("tiny-llama-base");
  write_file(base + "/generation_config.json", "");
  EXPECT_EQ(agrees(base)["odd"].size(), 1u);
}

TEST_F(Doctor, CommandsAreWrittenAsAShellReadsThem) {
  const std::string name = " $HOME and a name that is much longer than a line of what the doctor says is wide";
  const std::string base = dir_ / ("it's" + name), adapter = dir_ / "a\nb";
  fs::copy(example("tiny-llama-base"), base);
  fs::copy(example("lora-code"), adapter);
  const std::string word = fmt::format("'{}/it'\\''s{}'", dir_.path(), name), other = fmt::format("$'{}/a\\x0ab'", dir_.path());
  const auto says = [](const Finished& f, const std::string& command) {
    std::string out = f.out;
    for (size_t at; (at = out.find(" \\\n")) != std::string::npos;) out.erase(at, out.find_first_not_of(' ', at + 3) - at - 1);
    EXPECT_NE(out.find(command + "\n"), std::string::npos) << command << " in " << f.out;
  };
  says(ingot({"doctor", base}), "ingot ship " + word);
  says(ingot({"doctor", adapter}), fmt::format("ingot doctor {} --base DIR", other));
  says(ingot({"doctor", adapter, "--base", base}), fmt::format("ingot ship {} --adapter {}", word, other));
}

TEST_F(Doctor, ALinkThatLeadsNowhereIsCalledOne) {
  fs::create_symlink("gone", dir_ / "link");
  for (const char* command : {"doctor", "inspect"}) {
    const Finished f = ingot({command, dir_ / "link"});
    EXPECT_EQ(f.exit_code, 3);
    EXPECT_NE(f.err.find(fmt::format("'{}/link' is a link to 'gone', which is not there", dir_.path())), std::string::npos) << f.err;
  }
}

TEST_F(Doctor, AnAdapterTellsWhatItsConfigurationHasThatNobodyReads) {
  const std::string adapter = copy("lora-code");
  replace(adapter + "/adapter_config.json", "\"base_model_name_or_path\": \"../tiny-llama-base\"", R"("of_the_future": 1, "base_model_name_or_path": ")" + std::string(5000, 'b') + "\"");
  const Finished f = ingot({"doctor", adapter});
  EXPECT_EQ(f.exit_code, 0) << f.err;
  EXPECT_NE(f.out.find("of_the_future"), std::string::npos) << f.out;
  EXPECT_LT(f.out.size(), 2000u) << f.out;
  // Its file by itself.
  const Finished file = ingot({"doctor", adapter + "/adapter_model.safetensors"});
  EXPECT_EQ(file.exit_code, 3);
  EXPECT_NE(file.out.find("adapter, not of a model"), std::string::npos) << file.out;
}

TEST_F(Doctor, WhatIsRefusedHasNothingOddOnlyWhereNothingIs) {
  const std::string base = copy("tiny-llama-base");
  write_file(base + "/tokenizer.json", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4976698672\n");
  const Finished f = ingot({"doctor", base});
  EXPECT_EQ(f.exit_code, 3);
  EXPECT_EQ(f.out.find("nothing"), std::string::npos) << f.out;
  EXPECT_EQ(f.out.find("damaged"), std::string::npos) << f.out;
  EXPECT_NE(f.out.find("error tokenizer.json: it is a git-lfs pointer"), std::string::npos) << f.out;
}

TEST_F(Doctor, ATokenWithoutARowIsToldOnce) {
  const std::string base = copy("tiny-llama-base");
  write_file(base + "/added_tokens.json", R"({"<|more|>": 4096})");
  const auto j = agrees(base);
  EXPECT_EQ(j["odd"].size(), 1u) << j["odd"];
  const Finished strict = ingot({"ship", base, "--type", "Q8_0", "--out", dir_ / "a.gguf", "--strict", "--dry-run"});
  EXPECT_EQ(strict.exit_code, 0) << strict.err;
}

TEST_F(Doctor, InspectOfADirectoryThatShipRefuses) {
  const std::string base = copy("tiny-llama-base");
  fs::remove(base + "/config.json");
  const Finished f = ingot({"inspect", base});
  EXPECT_EQ(f.exit_code, 0) << f.err;
  EXPECT_NE(f.out.find("'ingot ship' would refuse it: "), std::string::npos) << f.out;
  EXPECT_EQ(ingot({"inspect", base + "/model.safetensors"}).out.find("odd"), std::string::npos);
}

TEST_F(Doctor, InspectShortensWhatIsLong) {
  const std::string base = copy("tiny-llama-base");
  const std::string key(1 << 20, 'k'), before = ingot({"inspect", base}).out;
  replace(base + "/config.json", "{", "{\"" + key + "\": \"" + key + "\",");
  const Finished f = ingot({"inspect", base});
  EXPECT_EQ(f.exit_code, 0) << f.err;
  EXPECT_LT(f.out.size(), before.size() + 20000) << f.out.substr(0, 20000);
}

TEST_F(Doctor, InspectTellsTheSameOfADirectory) {
  const std::string base = sharded();
  fs::remove(base + "/model.safetensors.index.json");
  const Finished f = ingot({"inspect", base});
  EXPECT_EQ(f.exit_code, 0) << f.err;
  for (const char* part : {"odd: ", "prove them whole", "pre tokenizer", "chat templates default", "ends a text: 1 '<|end_of_text|>'"})
    EXPECT_NE(f.out.find(part), std::string::npos) << part << " in " << f.out;
  EXPECT_EQ(f.err, "");
  write_file(base + "/tokenizer.json", "{}");
  const auto j = result_of(ingot({"inspect", base, "--json"}));
  EXPECT_EQ(j["odd"].size(), 2u) << j["odd"];
  EXPECT_NE(j["odd"][1].get<std::string>().find("'ingot ship' would refuse it"), std::string::npos);
}

}  // namespace
}  // namespace ingot::testing
