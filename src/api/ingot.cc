// The public API over the layers beneath: one function of ours for each of include/ingot/ingot.h.
#include "ingot/ingot.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "api/model.h"
#include "base/threads.h"
#include "exec/evaluate.h"
#include "exec/executor.h"
#include "formats/formats.h"
#include "formats/manifest.h"
#include "formats/outputs.h"
#include "quant/codec.h"
#include "quant/decode.h"
#include "storage/hub.h"
#include "transform/as_loaded.h"
#include "transform/cast.h"
#include "transform/class_check.h"
#include "transform/class_rules.h"
#include "transform/dequantize.h"
#include "transform/empty_tensors.h"
#include "transform/gguf_check.h"
#include "transform/gguf_map.h"
#include "transform/lora.h"
#include "transform/quantize.h"

namespace ingot {

const char* version() { return "0.1.0"; }

LazyModel::LazyModel() : impl_(std::make_shared<const Impl>()) {}
LazyModel::LazyModel(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
LazyModel::~LazyModel() = default;
LazyModel::LazyModel(const LazyModel&) = default;
LazyModel& LazyModel::operator=(const LazyModel&) = default;
// A moved-from model stays usable, as one without tensors.
LazyModel::LazyModel(LazyModel&& o) noexcept : impl_(o.impl_) {}
LazyModel& LazyModel::operator=(LazyModel&& o) noexcept {
  impl_ = o.impl_;
  return *this;
}

const std::string& LazyModel::path() const { return impl_->artifact.path; }
const std::string& LazyModel::format() const { return impl_->artifact.format; }

std::vector<TensorInfo> LazyModel::tensors() const {
  std::vector<TensorInfo> out;
  for (const LazyTensor& t : impl_->artifact.tensors) {
    const TensorSpec s = t.spec();
    out.push_back({t.name,
                   std::string(info(s.type).name),
                   {s.shape.d.begin(), s.shape.d.begin() + s.shape.rank},
                   bytes_of(s)});
  }
  return out;
}

std::string LazyModel::file(const std::string& name) const {
  const auto it = impl_->artifact.files.find(name);
  return it == impl_->artifact.files.end() ? "" : it->second;
}

std::vector<std::string> LazyModel::notices() const { return impl_->artifact.notices; }

Result<std::vector<float>> LazyModel::read(const std::string& tensor) const {
  const LazyTensor* t = impl_->artifact.find(tensor);
  if (!t) return bad_input("'{}' has no tensor '{}'", path(), tensor);
  const TensorSpec spec = t->spec();
  const Decode decode = find_decode(spec.type);
  if (!decode) return bad_input("tensor '{}': values of type {} cannot be read", tensor, info(spec.type).name);
  INGOT_ASSIGN(const std::vector<std::byte> bytes, evaluate(t->node));
  std::vector<float> values(static_cast<size_t>(spec.shape.elements()));
  if (!values.empty()) decode(bytes.data(), spec.shape.elements(), values.data());
  return values;
}

namespace {

std::function<void(const std::string&)> into(std::vector<std::string>* notices) {
  return [notices](const std::string& text) { notices->push_back(text); };
}

LazyModel wrap(Artifact a) {
  return LazyModel(std::make_shared<const LazyModel::Impl>(LazyModel::Impl{std::move(a)}));
}

// Raises the token when the caller's function says so.
class CancelPoll {
 public:
  explicit CancelPoll(const std::function<bool()>& asked) {
    if (!asked) return;
    const bool polling = thread_.start([this, asked]() -> Status {
      std::unique_lock lock(mutex_);
      while (!done_ && !token_.cancelled()) {
        if (asked()) token_.cancel();
        wake_.wait_for(lock, std::chrono::milliseconds(50));
      }
      return {};
    });
    if (!polling) refused_ = Threads::refused("polling for a cancellation");
  }
  ~CancelPoll() {
    {
      std::lock_guard lock(mutex_);
      done_ = true;
    }
    wake_.notify_all();
    (void)thread_.join();
  }
  CancelToken* token() { return &token_; }
  // An error where the system refuses the thread.
  const Status& status() const { return refused_; }

 private:
  CancelToken token_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool done_ = false;
  Status refused_;
  Threads thread_;
};

}  // namespace

Result<LazyModel> open(const std::string& path) {
  INGOT_ASSIGN(const Located at, locate_model(path));
  INGOT_ASSIGN(Artifact a, open_model(*at.store, at.path));
  (void)take_manifest(&a);
  std::vector<std::string> notices = a.notices;
  INGOT_ASSIGN(a, transform::as_loaded(a, into(&notices)));
  a.notices = std::move(notices);
  return wrap(std::move(a));
}

Result<LazyModel> lora_merge(const LazyModel& base, const std::vector<AdapterSource>& adapters) {
  INGOT_TRY(transform::check_plain(base.impl().artifact, "merging into " + base.path()));
  std::vector<transform::AdapterSpec> specs;
  for (const AdapterSource& a : adapters) {
    INGOT_ASSIGN(const Located at, locate_model(a.path));
    INGOT_ASSIGN(Artifact adapter, open_model(*at.store, at.path));
    if (adapter.naming != "peft")
      return bad_input("'{}' is no PEFT adapter directory but {}", a.path, adapter.format);
    INGOT_TRY(transform::check_gathered(adapter));
    specs.push_back({std::move(adapter), a.weight});
  }
  INGOT_TRY(transform::check_gathered(base.impl().artifact));
  std::vector<std::string> notices = base.notices();
  for (const auto& s : specs) notices.insert(notices.end(), s.adapter.notices.begin(), s.adapter.notices.end());
  INGOT_ASSIGN(Artifact merged, transform::lora_merge(base.impl().artifact, specs, {into(&notices)}));
  merged.notices = std::move(notices);
  return wrap(std::move(merged));
}

Result<LazyModel> to_gguf(const LazyModel& model, const std::string& pre_tokenizer) {
  if (model.impl().artifact.naming == "gguf") return model;
  INGOT_TRY(transform::check_gathered(model.impl().artifact));
  transform::ToGgufOptions options;
  options.pre_tokenizer = pre_tokenizer;
  std::vector<std::string> notices = model.notices();
  options.on_notice = options.on_warning = into(&notices);
  INGOT_ASSIGN(Artifact a, transform::to_gguf(model.impl().artifact, options));
  a.notices = std::move(notices);
  return wrap(std::move(a));
}

Result<LazyModel> quantize(const LazyModel& gguf, const std::string& file_type, const QuantizeParameters& p) {
  if (gguf.impl().artifact.naming != "gguf")
    return usage("quantize: '{}' is {}, not GGUF-shaped; call to_gguf first", gguf.path(), gguf.format());
  INGOT_TRY(transform::check_gguf(gguf.impl().artifact, transform::GgufUse::kWeights));
  transform::QuantizeOptions options;
  options.pure = p.pure;
  options.allow_requantize = p.allow_requantize;
  options.leave_output = p.leave_output_tensor;
  const auto type = [](const std::string& name) -> Result<DType> {
    const auto t = dtype_by_name(name);
    if (!t || !find_codec(*t)) return usage("quantize: there is no type '{}' of a tensor", name);
    return *t;
  };
  if (!p.output_tensor_type.empty()) {
    INGOT_ASSIGN(options.output_type, type(p.output_tensor_type));
  }
  if (!p.token_embedding_type.empty()) {
    INGOT_ASSIGN(options.token_embedding_type, type(p.token_embedding_type));
  }
  for (const auto& [pattern, name] : p.tensor_types) {
    INGOT_ASSIGN(const DType t, type(name));
    options.tensor_types.emplace_back(pattern, t);
  }
  INGOT_ASSIGN(Artifact a, transform::quantize_gguf(gguf.impl().artifact, file_type, options));
  return wrap(std::move(a));
}

Result<LazyModel> cast(const LazyModel& model, const std::string& type) {
  const auto t = dtype_by_name(type);
  if (!t || !transform::is_float_type(*t)) return usage("cast: '{}' is no float type; use f32, f16 or bf16", type);
  INGOT_TRY(transform::check_plain(model.impl().artifact, "casting " + model.path()));
  INGOT_ASSIGN(Artifact a, transform::cast_floats(model.impl().artifact, *t));
  return wrap(std::move(a));
}

Result<WriteReport> write(const std::vector<WriteTarget>& targets, const WriteOptions& o) {
  if (targets.empty()) return usage("write: there is nothing to be written");
  std::vector<Output> outputs;
  for (const WriteTarget& t : targets) {
    const bool to_gguf = t.path.ends_with(".gguf");
    if (to_gguf != (t.model.impl().artifact.naming == "gguf"))
      return usage("write: '{}' {} written from a {} model; {}", t.path,
                   to_gguf ? "is GGUF and cannot be" : "cannot be",
                   t.model.format().empty() ? "made-up" : t.model.format(),
                   to_gguf ? "call to_gguf first" : "a GGUF model is written to a path ending in .gguf");
    INGOT_ASSIGN(Located to, locate(t.path, "write to a path here and copy it there"));
    while (to.path.size() > 1 && to.path.back() == '/') to.path.pop_back();
    INGOT_ASSIGN(Output output, make_output(t.model.impl().artifact, *to.store, to.path, "", o.max_shard_bytes));
    if (output.directory) {
      INGOT_TRY(transform::check_class(output.artifact, false, {}));
      output.artifact = transform::without_ties(std::move(output.artifact));
    }
    outputs.push_back(std::move(output));
  }
  CancelPoll poll(o.cancel);
  INGOT_TRY(Status(poll.status()));
  ExecOptions e;
  e.threads = o.threads;
  e.memory = o.memory;
  e.force = o.force;
  e.resume = o.resume;
  e.verify = static_cast<Verify>(o.verify);  // the same three, in the same order
  e.cancel = poll.token();
  if (o.progress)
    e.on_progress = [&o](const Progress& p) {
      o.progress({phase_name(p.phase), p.done, p.total, p.resumed, p.tensor});
    };
  INGOT_ASSIGN(const ExecReport r, run_job(outputs, e));
  WriteReport report;
  for (const OutputReport& f : r.outputs) report.outputs.push_back({f.path, f.bytes, f.hash, f.up_to_date});
  report.source_bytes = r.source_bytes;
  report.written_bytes = r.written_bytes;
  report.resumed_bytes = r.resumed_bytes;
  report.seconds_write = r.seconds_write;
  report.seconds_verify = r.seconds_verify;
  report.verified = static_cast<ReadBack>(r.verified);
  return report;
}

Result<WriteReport> write(const LazyModel& model, const std::string& path, const WriteOptions& options) {
  return write({{model, path}}, options);
}

}  // namespace ingot
