// What the command-line tests share: a temporary directory, the bundled model, a larger model made on the
// spot, comparing files.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "process.h"

namespace ingot::testing {

std::string example(const std::string& name);  // "tiny-llama-base", "lora-code"
std::string data_file(const std::string& name);

// Removed at the end of the test.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class CliTest : public ::testing::Test {
 protected:
  TemporaryDirectory dir_;
};

std::string read_file(const std::string& path);
void write_file(const std::string& path, const std::string& bytes);
bool exists(const std::string& path);
bool same_bytes(const std::string& a, const std::string& b);
std::vector<std::string> entries(const std::string& directory);  // sorted, hidden ones too
// Whether the file system keeps extended attributes, in which an output remembers the job that made it.
bool keeps_notes(const std::string& directory);
// Everything in `directory` that is no whole output: temporaries and journals left behind.
bool empty_but_for(const std::string& directory, std::vector<std::string> names);

// The Hugging Face directory of a Llama of about `megabytes` MB of bf16 weights, values pseudo-random and
// small (every MB differs); the tokenizer is the bundled one.
void make_model(const std::string& directory, int megabytes);

// A tiny model of 9 * layers + 3 tensors, each in a shard of its own, with an index.
void make_many_shards(const std::string& directory, int layers);

// The object on stdout; a failure is reported and gives null.
nlohmann::json result_of(const Finished& f);
// The events on stderr.
std::vector<nlohmann::json> events_of(const std::string& err);

// Prompt and continuation, escapes undone.
std::vector<std::pair<std::string, std::string>> read_tsv(const std::string& path);

// A job that takes a second or more, for interrupting: three quantizations of `model` on one thread, to the
// files slow_outputs(out).
std::vector<std::string> slow_job(const std::string& model, const std::string& out,
                                  std::vector<std::string> more = {});
std::vector<std::string> slow_outputs(const std::string& out);

}  // namespace ingot::testing
