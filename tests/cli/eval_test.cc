// ingot eval: figures, tables, drawings, and what it refuses.
#include <gtest/gtest.h>
#include <signal.h>

#include <cmath>
#include <filesystem>

#include "cli/svg_chart.h"
#include "cli/text.h"
#include "program.h"

namespace ingot::testing {
namespace {

using nlohmann::json;

const std::string kBase = example("tiny-llama-base");

class Eval : public CliTest {
 protected:
  void SetUp() override {
    // Sentences of a few words each in another order: text that a model finds neither certain nor hopeless.
    const std::vector<std::string> words = {"the", "function", "returns", "a", "value", "list", "of", "names", "and", "then", "prints", "it", "for", "each", "line", "in", "file", "is"};
    uint32_t x = 7;
    std::string prose;
    while (prose.size() < 6000) {
      for (int i = 0; i < 9; ++i) prose += (i ? " " : "") + words[(x = x * 1664525 + 1013904223) / 7 % words.size()];
      prose += ".\n";
    }
    write_file(dir_ / "prose.txt", prose);
    std::string code;
    for (int i = 0; i < 120; ++i) code += "def f" + std::to_string(i) + "(x):\n    return x * " + std::to_string(i * 7 % 13) + "\n\n";
    write_file(dir_ / "code.txt", code);
  }
  void make(const std::string& types) {
    const Finished f = ingot({"quantize", kBase, "--type", types, "--out", dir_ / "{type}.gguf", "--quiet"});
    ASSERT_EQ(f.exit_code, 0) << f.err;
  }
  Finished eval(std::vector<std::string> words, bool text = true) const {
    words.insert(words.begin(), "eval");
    if (text) words.insert(words.end(), {"--text", dir_ / "prose.txt", "-c", "64"});
    return ingot(words);
  }
};

void expect_said(const Finished& f, int exit_code, const std::vector<std::string>& parts) {
  EXPECT_EQ(f.exit_code, exit_code) << f.err;
  for (const std::string& part : parts) EXPECT_NE(f.err.find(part), std::string::npos) << part << "\n" << f.err;
}

TEST_F(Eval, APerplexityIsThatOfTheSameModelInEveryForm) {
  ASSERT_EQ(ingot({"convert", kBase, "--type", "BF16", "--out", dir_ / "base.gguf", "--quiet"}).exit_code, 0);
  const json a = result_of(eval({kBase, "--json"})), b = result_of(eval({dir_ / "base.gguf", "--json"}));
  EXPECT_EQ(a["models"][0]["perplexity"], b["models"][0]["perplexity"]);
  EXPECT_GT(a["models"][0]["perplexity"]["value"], 2);
  EXPECT_LT(a["models"][0]["perplexity"]["value"], 4096);
  EXPECT_EQ(a["scored"], a["windows"].get<int64_t>() * 31);
  EXPECT_EQ(a["models"][0]["tokens"], a["scored"]);
  EXPECT_FALSE(a["models"][0].contains("kl"));
  EXPECT_NEAR(b["models"][0]["bytes"].get<double>(), static_cast<double>(std::filesystem::file_size(dir_ / "base.gguf")), 0);
  EXPECT_NEAR(std::exp(a["models"][0]["nll"]["value"].get<double>()), a["models"][0]["perplexity"]["value"].get<double>(), 1e-9);
}

TEST_F(Eval, AgainstItselfNothingDiffers) {
  make("Q4_0");
  const json j = result_of(eval({dir_ / "Q4_0.gguf", dir_ / "Q4_0.gguf", "--against", dir_ / "Q4_0.gguf", "--json"}));
  ASSERT_EQ(j["models"].size(), 2u);
  const json& m = j["models"][0];
  EXPECT_EQ(m["kl"]["mean"], (json{{"value", 0}, {"error", 0}}));
  EXPECT_EQ(m["kl"]["max"], 0);
  EXPECT_EQ(m["same_top"]["value"], 1);
  EXPECT_EQ(m["ratio"], (json{{"value", 1}, {"error", 0}}));
  EXPECT_EQ(m["difference"]["value"], 0);
  EXPECT_EQ(m["correlation"], 1);
  EXPECT_EQ(m["rms_dp"]["value"], 0);
  EXPECT_EQ(j["paired"][0]["kl"], (json{{"value", 0}, {"error", 0}}));
}

TEST_F(Eval, ALargerFileIsNearer) {
  make("Q8_0,Q4_K_M,Q2_K");
  const json j = result_of(eval({dir_ / "Q8_0.gguf", dir_ / "Q4_K_M.gguf", dir_ / "Q2_K.gguf", "--against", kBase, "--json"}));
  double last = 0;
  for (const json& m : j["models"]) {
    const double kl = m["kl"]["mean"]["value"];
    EXPECT_GT(kl, 3 * last) << m;
    last = kl;
    EXPECT_GT(m["kl"]["min"], 0);
    EXPECT_LE(m["kl"]["median"], m["kl"]["percentile_99"]);
    EXPECT_LE(m["kl"]["percentile_99"], m["kl"]["percentile_99_9"]);
    EXPECT_LE(m["kl"]["percentile_99_9"], m["kl"]["max"]);
  }
  EXPECT_LT(j["models"][0]["kl"]["mean"]["value"], 0.001);
  ASSERT_EQ(j["paired"].size(), 2u);
  EXPECT_NEAR(j["paired"][1]["kl"]["value"].get<double>(), j["models"][2]["kl"]["mean"]["value"].get<double>() - j["models"][1]["kl"]["mean"]["value"].get<double>(), 1e-9);
  EXPECT_GT(j["paired"][1]["kl"]["error"], 0);
}

TEST_F(Eval, ThreadsAndMemoryChangeNoFigure) {
  make("Q8_0,Q4_0");
  const std::vector<std::string> words = {dir_ / "Q8_0.gguf", dir_ / "Q4_0.gguf", "--against", kBase, "--json"};
  const json one = result_of(eval(words));
  const auto floor = [&] {
    std::vector<std::string> all = words;
    all.push_back("--dry-run");
    return result_of(eval(all));
  }();
  EXPECT_EQ(floor["dry_run"], true);
  EXPECT_EQ(floor["together"], true);
  for (const std::vector<std::string>& more : {std::vector<std::string>{"--threads", "1"}, {"--threads", "7"}, {"--memory", std::to_string(floor["memory_floor"].get<uint64_t>())},
                                               {"--memory", std::to_string((floor["memory_floor"].get<uint64_t>() + floor["memory"].get<uint64_t>()) / 2)}}) {
    std::vector<std::string> all = words;
    all.insert(all.end(), more.begin(), more.end());
    EXPECT_EQ(result_of(eval(all)), one) << more[1];
  }
  std::vector<std::string> all = words;
  all.insert(all.end(), {"--memory", std::to_string(floor["memory_floor"].get<uint64_t>() - 1)});
  expect_said(eval(all), 2, {"--memory", "too small"});
}

TEST_F(Eval, ByCategoryAndOfSomeWindows) {
  const Finished f = ingot({"eval", kBase, "--text", "prose=" + dir_ / "prose.txt", "--text", "code=" + dir_ / "code.txt", "-c", "64", "--json"});
  ASSERT_EQ(f.exit_code, 0) << f.err;
  const json j = result_of(f), &m = j["models"][0];
  ASSERT_EQ(m["categories"].size(), 2u);
  EXPECT_EQ(m["categories"][0]["category"], "prose");
  const double prose = m["categories"][0]["nll"]["value"], code = m["categories"][1]["nll"]["value"];
  const auto n = m["categories"][0]["tokens"].get<double>(), k = m["categories"][1]["tokens"].get<double>();
  EXPECT_NE(prose, code);
  EXPECT_EQ(n + k, m["tokens"].get<double>());
  EXPECT_NEAR((prose * n + code * k) / (n + k), m["nll"]["value"].get<double>(), 1e-9);
  EXPECT_NE(ingot({"eval", kBase, "--text", "prose=" + dir_ / "prose.txt", "--text", "code=" + dir_ / "code.txt", "-c", "64"}).out.find("by category"), std::string::npos);

  const json whole = result_of(eval({kBase, "--json"})), two = result_of(eval({kBase, "--chunks", "2", "--json"})), rest = result_of(eval({kBase, "--chunk", "2", "--json"}));
  EXPECT_EQ(two["windows"], 2);
  EXPECT_EQ(rest["windows"], whole["windows"].get<int64_t>() - 2);
  const auto sum = [](const json& x) { return x["models"][0]["nll"]["value"].get<double>() * x["scored"].get<double>(); };
  EXPECT_NEAR(sum(two) + sum(rest), sum(whole), 1e-6);
}

TEST_F(Eval, AnAdapterIsMeasuredOnItsBase) {
  const json j = result_of(eval({kBase, "--adapter", example("lora-code"), "--against", kBase, "--json"}));
  EXPECT_GT(j["models"][0]["kl"]["mean"]["value"], 0.01);
  ASSERT_EQ(ingot({"lora", "merge", kBase, example("lora-code"), dir_ / "merged", "--quiet"}).exit_code, 0);
  const json merged = result_of(eval({dir_ / "merged", "--against", kBase, "--json"}));
  EXPECT_NEAR(merged["models"][0]["kl"]["mean"]["value"].get<double>(), j["models"][0]["kl"]["mean"]["value"].get<double>(), 1e-4);
  expect_said(eval({kBase, kBase, "--adapter", example("lora-code")}), 2, {"--adapter is for one MODEL"});
}

TEST_F(Eval, TheTableFitsAHundredColumns) {
  make("Q8_0,Q4_K_M");
  std::filesystem::rename(dir_ / "Q8_0.gguf", dir_ / "a-model-with-a-name-that-goes-on-and-on-Q8_0.gguf");
  const Finished f = eval({dir_ / "a-model-with-a-name-that-goes-on-and-on-Q8_0.gguf", dir_ / "Q4_K_M.gguf", "--against", kBase});
  ASSERT_EQ(f.exit_code, 0) << f.err;
  for (const std::string& line : cli::split(f.out, '\n')) EXPECT_LE(cli::display_width(line), 100) << line;
  for (const char* part : {"perplexity", "mean KL", "same top", "99.9 %", "ppl / reference", "paired over windows", "tiny-llama-base", "Q4_K_M.gguf"}) EXPECT_NE(f.out.find(part), std::string::npos) << f.out;
  EXPECT_EQ(eval({kBase, "--quiet"}).err, "");
}

TEST_F(Eval, DrawingAndPageStandAlone) {
  make("Q8_0,Q4_K_M,Q2_K");
  std::filesystem::rename(dir_ / "Q2_K.gguf", dir_ / "a<b&c.gguf");
  const json j = result_of(eval({dir_ / "Q8_0.gguf", dir_ / "Q4_K_M.gguf", dir_ / "a<b&c.gguf", "--against", kBase, "--svg", dir_ / "q.svg", "--html", dir_ / "q.html", "--json"}));
  EXPECT_EQ(j["svg"], dir_ / "q.svg");
  const std::string svg = read_file(dir_ / "q.svg"), html = read_file(dir_ / "q.html");
  EXPECT_TRUE(svg.starts_with("<svg ")) << svg.substr(0, 100);
  for (const char* part : {"prefers-color-scheme: dark", "Q4_K_M.gguf</text>", "a&lt;b&amp;c.gguf", "(log scale)"}) EXPECT_NE(svg.find(part), std::string::npos) << part;
  EXPECT_TRUE(html.starts_with("<!doctype html>"));
  for (const char* part : {"<svg ", "prefers-color-scheme: dark", "a&lt;b&amp;c.gguf", "same top", "</html>"}) EXPECT_NE(html.find(part), std::string::npos) << part;
  EXPECT_EQ(html.find("a<b"), std::string::npos);
  EXPECT_EQ(html.find("http://") == std::string::npos || html.find("src=") == std::string::npos, true);
  expect_said(eval({kBase, "--svg", dir_ / "q.png"}), 2, {".svg"});
  expect_said(eval({kBase, "--html", dir_ / "q.txt"}), 2, {".html"});
}

TEST_F(Eval, WhatItRefuses) {
  write_file(dir_ / "short.txt", "Only a few words.\n");
  expect_said(ingot({"eval", kBase, "--text", dir_ / "short.txt", "-c", "64"}), 3, {"tokens", "64", "--ctx"});
  expect_said(ingot({"eval", kBase, "--text", dir_ / "prose.txt", "-c", "4096"}), 2, {"--ctx 4096", "2048"});
  expect_said(eval({kBase}, false), 2, {"--text FILE"});
  expect_said(eval({}), 2, {"needs a model"});
  expect_said(eval({kBase, "--against", dir_ / "short.txt"}), 3, {"short.txt"});
  expect_said(eval({kBase, "--against", dir_ / "missing.gguf"}), 3, {"missing.gguf"});
  expect_said(eval({kBase, "--arithmetic", "f64"}), 2, {"exact or fast"});
  expect_said(eval({kBase, "--kl-divergence-base", "x"}), 2, {"--against MODEL"});
  expect_said(eval({kBase, "--kl-divergence"}), 0, {"--kl-divergence changes nothing"});

  // Another vocabulary, of the same size and of another.
  std::filesystem::copy(kBase, dir_ / "other", std::filesystem::copy_options::recursive);
  std::string tokenizer = read_file(dir_ / "other/tokenizer.json");
  auto j = json::parse(tokenizer);
  json& vocab = j["model"]["vocab"];
  std::string a, b;
  for (const auto& [piece, id] : vocab.items()) {
    if (id == 1000) a = piece;
    if (id == 2000) b = piece;
  }
  std::swap(vocab[a], vocab[b]);
  write_file(dir_ / "other/tokenizer.json", j.dump());
  expect_said(eval({dir_ / "other", "--against", kBase}), 3, {"/other'", "tiny-llama-base'", "other tokens", "token 1000 is"});
  expect_said(eval({dir_ / "other", kBase}), 3, {"one by one"});

  std::filesystem::remove(dir_ / "other/tokenizer.json");
  expect_said(eval({dir_ / "other"}), 3, {"tokenizer"});
}

TEST_F(Eval, NotANumberIsNamedWithItsLayer) {
  ASSERT_EQ(ingot({"convert", kBase, "--type", "F32", "--out", dir_ / "m.gguf", "--quiet"}).exit_code, 0);
  const json t = result_of(ingot({"inspect", dir_ / "m.gguf", "--tensor", "blk.3.ffn_up.weight", "--json"}));
  ASSERT_EQ(t["type"], "F32");
  std::string bytes = read_file(dir_ / "m.gguf");
  // The first values of the tensor, wherever they lie.
  std::string first;
  for (const auto& v : t["first"]) {
    const float x = v.get<float>();
    first.append(reinterpret_cast<const char*>(&x), 4);
  }
  const size_t at = bytes.find(first);
  ASSERT_NE(at, std::string::npos);
  const float nan = std::nanf("");
  bytes.replace(at, 4, reinterpret_cast<const char*>(&nan), 4);
  write_file(dir_ / "m.gguf", bytes);
  expect_said(eval({dir_ / "m.gguf", "--against", kBase}), 3, {"m.gguf", "layer 3", "NaN", "blk.3.ffn_up.weight"});
}

TEST_F(Eval, InterruptedItPrintsWhatItHas) {
  make_model(dir_ / "large", 200);
  std::string text;
  while (text.size() < 200000) text += read_file(dir_ / "prose.txt");
  write_file(dir_ / "long.txt", text);
  SpawnOptions o;
  o.terminal = true;
  o.terminal_stdout = false;
  o.columns = 160;
  o.set = {{"TERM", "xterm"}};
  Child child({INGOT_PROGRAM, "eval", dir_ / "large", "--text", dir_ / "long.txt", "-c", "64"}, o);
  ASSERT_TRUE(child.wait_for([](const std::string& err) { return err.find(" perplexity ") != std::string::npos; }));  // the bar's
  child.send(SIGINT);
  const Finished f = child.finish();
  EXPECT_EQ(f.exit_code, 4) << f.err;
  EXPECT_NE(f.out.find("interrupted after"), std::string::npos) << f.out;
  EXPECT_NE(f.err.find("the figures are of those"), std::string::npos) << f.err;
}

}  // namespace
}  // namespace ingot::testing
