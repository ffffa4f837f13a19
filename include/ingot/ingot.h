// The public C++ API: open models, transform them lazily, write them in one pass. No third-party type, no
// exception, no global state; link with ingot::ingot (CMake) or `pkg-config --libs ingot`.
//
//   auto base = ingot::open("base/");                                  // headers only
//   auto merged = ingot::lora_merge(*base, {{"adapter/"}});            // nothing is computed yet
//   auto gguf = ingot::to_gguf(*merged);
//   auto small = ingot::quantize(*gguf, "Q4_K_M");
//   auto report = ingot::write(*small, "model.gguf");                  // one pass over the weights
//   if (!report.ok()) std::cerr << report.error().message << "\n";
//
// Every function returns a Result or Status (status.h): check ok() before the value. The kinds of error are
// named at each function; a message says which file and tensor, what was found, what was expected, what to
// do.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ingot/status.h"

namespace ingot {

// "0.1.0".
const char* version();

// One tensor of a model.
struct TensorInfo {
  std::string name;
  std::string type;            // "F32", "F16", "BF16", "Q4_K", ...
  std::vector<int64_t> shape;  // row-major, the last dimension contiguous: a matrix is [rows, columns]
  uint64_t bytes = 0;          // of the stored values
};

// A model as a lazy list of named tensors with metadata: opened from files, or made from other models. Holds
// no values: a few KB for each 1,000 tensors, open files beneath. Immutable and cheap to copy; any number of
// threads may use one.
class LazyModel {
 public:
  LazyModel();  // no tensors
  ~LazyModel();
  LazyModel(const LazyModel&);
  LazyModel& operator=(const LazyModel&);
  LazyModel(LazyModel&&) noexcept;
  LazyModel& operator=(LazyModel&&) noexcept;

  // Where it was opened, for messages, and what it looks like: "safetensors" (names of the Hugging Face),
  // "gguf", "peft".
  const std::string& path() const;
  const std::string& format() const;
  // All tensors in file order. For a transformed model: what writing it would give.
  std::vector<TensorInfo> tensors() const;
  // The text of a side file of a Hugging Face directory ("config.json", "tokenizer.json"), or empty.
  std::string file(const std::string& name) const;
  // What a person who opened or made it should know: which of several weights were taken, what the format cannot say. Mostly empty.
  std::vector<std::string> notices() const;
  // All values of one tensor as f32, row-major, shape as in tensors(); computed here, on this thread, without
  // a memory budget. kBadInput: no such tensor, a damaged file, a type whose values cannot be read.
  Result<std::vector<float>> read(const std::string& tensor) const;

  struct Impl;  // internal
  explicit LazyModel(std::shared_ptr<const Impl> impl);
  const Impl& impl() const { return *impl_; }

 private:
  std::shared_ptr<const Impl> impl_;
};

// A path here may be a model's name on the Hugging Face Hub too ("org/model", "org/model@revision", "hf://org/model"), which leads into the Hub's local
// cache if its first component is no existing path. Nothing is fetched; kBadInput names what to download.
//
// Opens a Hugging Face directory (config.json, one or several safetensors), a safetensors file, a GGUF file
// (or the first of its splits) or a PEFT adapter directory. Reads headers only. FP8 weights of a directory are
// opened as the floats that they and their scales stand for, of the type that config.json names (rounded once, to
// whatever type is written). kBadInput: nothing there, a damaged or unknown file, scales that fit no weight.
Result<LazyModel> open(const std::string& path);

// A PEFT LoRA adapter and how strongly it is applied (1: as trained).
struct AdapterSource {
  std::string path;  // as of open()
  double weight = 1.0;
};

// Base + adapters, applied in order; changed tensors become F32, so that what follows rounds once. kBadInput:
// an adapter for another base, unused keys, an unsupported field of adapter_config.json (named).
Result<LazyModel> lora_merge(const LazyModel& base, const std::vector<AdapterSource>& adapters);

// The model under GGUF's names, with metadata and tokenizer; float types stay. `pre_tokenizer` names the
// tokenizer's rules where they match none that llama.cpp knows ("" : found by the rules). kBadInput: unknown
// architecture or tokenizer, shapes that do not fit the configuration. A GGUF model is returned as it is.
Result<LazyModel> to_gguf(const LazyModel& model, const std::string& pre_tokenizer = "");

// Choices of llama-quantize; types by name, empty: by the rules of the file type.
struct QuantizeParameters {
  bool pure = false;                 // every matrix in the file type's base type
  bool allow_requantize = false;     // from tensors that are quantized already
  bool leave_output_tensor = false;  // output.weight stays as it is
  std::string output_tensor_type, token_embedding_type;
  // Regular expression of a tensor's name, and its type; the first that matches holds.
  std::vector<std::pair<std::string, std::string>> tensor_types;
};

// A GGUF model (see to_gguf) in a GGUF file type: "Q4_K_M", "Q8_0", "F16", ... kUsage: an unknown type or
// pattern; kBadInput: a model that is quantized already.
Result<LazyModel> quantize(const LazyModel& gguf, const std::string& file_type,
                           const QuantizeParameters& parameters = {});

// Every float tensor as "f32", "f16" or "bf16", rounded once to nearest even. kUsage: another type.
Result<LazyModel> cast(const LazyModel& model, const std::string& type);

// A snapshot of a running write().
struct WriteProgress {
  std::string phase;             // "plan", "write", "verify", "commit", "done"
  uint64_t done = 0, total = 0;  // bytes of this phase; total 0: unknown
  uint64_t resumed = 0;          // of `done`, taken over from an earlier run
  std::string tensor;            // being worked on
};

// How outputs are read back and compared with what was computed.
enum class ReadBack {
  kMedium,  // around the cache in memory, where the file system allows that
  kCache,   // from wherever the system has the bytes
  kNone,
};

struct WriteOptions {
  int threads = 0;                           // compute threads; 0: as many as the machine has
  uint64_t memory = 0;                       // bytes for buffers; 0: a quarter of what is free
  bool force = false;                        // replace an existing output
  bool resume = true;                        // go on with an unfinished run of the same job
  ReadBack verify = ReadBack::kMedium;
  uint64_t max_shard_bytes = 5'000'000'000;  // of a Hugging Face directory
  // Called now and then from worker threads, never from two at once. May be empty.
  std::function<void(const WriteProgress&)> progress;
  // Polled about 20 times a second from a thread of write()'s own; true stops the job within about a second,
  // with kInterrupted. May be empty.
  std::function<bool()> cancel;
};

struct WrittenFile {
  std::string path;
  uint64_t bytes = 0;
  std::string hash;  // root of the tree of 1 MiB leaf hashes (XXH3-128)
  bool up_to_date = false;  // the same call had made it before, and nobody touched it since: nothing was done
};

struct WriteReport {
  std::vector<WrittenFile> outputs;  // in the order given
  uint64_t source_bytes = 0, written_bytes = 0, resumed_bytes = 0;
  double seconds_write = 0, seconds_verify = 0;
  ReadBack verified = ReadBack::kNone;  // what it was: kCache where the medium could not be had
};

// One thing to be written: PATH.gguf (the model is GGUF-shaped), PATH.safetensors, or a directory as
// transformers loads it.
struct WriteTarget {
  LazyModel model;
  std::string path;
};

// Writes all targets in one pass over their sources; nothing appears under a final name before it is whole.
// Blocks; runs its own threads. kFailed: an output that exists (see force), a full disk, no permission;
// kBadInput: damaged sources; kUsage: a model of another kind than its path says (GGUF or not); kInterrupted:
// cancelled, and the same call goes on where it stopped.
Result<WriteReport> write(const std::vector<WriteTarget>& targets, const WriteOptions& options = {});
Result<WriteReport> write(const LazyModel& model, const std::string& path, const WriteOptions& options = {});

}  // namespace ingot
