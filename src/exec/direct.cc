#include "exec/direct.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <set>

#include "base/cancel.h"
#include "base/threads.h"
#include "exec/evaluate.h"

namespace ingot {

Result<View> DirectProvider::leaf(const LeafNode& leaf, const Region& region, Arena& arena) {
  const DType type = leaf.spec().type;
  const uint64_t bytes = bytes_of(type, region.elements());
  std::byte* out = arena.allocate(bytes);
  INGOT_TRY(leaf.read(region, {out, bytes}));
  if (bytes_read_) *bytes_read_ += bytes;
  return View{out, region, type};
}

DirectProvider::Value& DirectProvider::value(const std::string& key) {
  std::lock_guard lock(mutex_);
  auto& v = values_[key];
  if (!v) v = std::make_unique<Value>();
  return *v;
}

Result<View> DirectProvider::broadcast(const Need& need, Arena&) {
  Value& v = value(fmt::format("{}{}", static_cast<const void*>(need.node.get()), to_string(need.region)));
  std::lock_guard lock(v.mutex);
  if (!v.ready) {
    Arena own;
    Evaluator e(*this, facts_, own);
    INGOT_ASSIGN(const View made, e.eval(*need.node, need.region));
    const uint64_t n = bytes_of(made.type, need.region.elements());
    v.bytes.assign(1, std::vector<std::byte>(made.data, made.data + n));
    v.ready = true;
  }
  return View{v.bytes[0].data(), need.region, need.node->spec().type};
}

Result<View> DirectProvider::group(const GroupOutput& output, const Region& region, Arena& arena) {
  Value& v = value(fmt::format("{}", static_cast<const void*>(output.group().get())));
  {
    std::lock_guard lock(v.mutex);
    if (!v.ready) {
      std::vector<MutByteView> outs;
      for (const auto& s : output.group()->outputs()) v.bytes.emplace_back(bytes_of(s));
      for (auto& b : v.bytes) outs.push_back(b);
      Arena own;
      if (auto s = compute_group(*output.group(), *this, facts_, own, outs); !s.ok()) {
        v.bytes.clear();
        return s;
      }
      v.ready = true;
    }
  }
  const TensorSpec s = output.spec();
  return view_of(v.bytes[output.index()].data(), Region::all(s.shape), s.type, region, arena);
}

Status compute_group(const Group& group, Provider& provider, const Facts& facts, Arena& arena,
                     const std::vector<MutByteView>& outs) {
  Evaluator e(provider, facts, arena);
  std::vector<View> inputs;
  for (const auto& in : group.inputs()) {
    INGOT_ASSIGN(View v, e.eval(*in, Region::all(in->spec_with(facts).shape)));
    inputs.push_back(v);
  }
  const uint64_t ws = group.workspace();
  return group.compute(inputs, outs, {ws ? arena.allocate(ws) : nullptr, ws}, facts);
}

namespace {

// Stages beneath a node, those that others need first.
void collect(const Node& node, std::set<const void*>& seen, std::vector<StagePtr>& out) {
  if (!seen.insert(&node).second) return;
  for (const auto& in : node.inputs()) collect(*in, seen, out);
  for (const auto& st : node.stages()) {
    if (!seen.insert(st.get()).second) continue;
    collect(*st->input(), seen, out);
    out.push_back(st);
  }
}

Result<std::string> run_stage(const Stage& stage, const Facts& facts, const StageRun& run) {
  const NodePtr input = stage.input();
  const Shape shape = input->spec_with(facts).shape;
  const Shape gran = input->granularity();
  // Canonical chunks: whole rows of dimension 0, however the job is tiled.
  const int64_t rows_all = shape.rank ? shape[0] : 1;
  const int64_t step = shape.rank ? gran[0] : 1;
  const int64_t stride = std::max<int64_t>(1, shape.rank ? shape.stride(0) : 1);
  const int64_t rows = std::max<int64_t>(step, stage.chunk_elements() / stride / step * step);
  const int64_t chunks = shape.elements() ? (rows_all + rows - 1) / rows : 0;
  std::vector<std::string> partials(chunks, std::string(stage.partial_bytes(), '\0'));
  DirectProvider provider(facts, run.bytes_read);
  std::atomic<int64_t> next{0};
  const auto work = [&]() -> Status {
    Arena arena;
    Evaluator e(provider, facts, arena);
    for (int64_t c; (c = next++) < chunks;) {
      Status s = [&]() -> Status {
        if (run.cancel && run.cancel->cancelled()) return interrupted();
        const Region r = Region::rows(shape, c * rows, std::min(rows, rows_all - c * rows));
        INGOT_ASSIGN(const View v, e.eval(*input, r));
        auto& p = partials[c];
        return stage.map(v, facts, {reinterpret_cast<std::byte*>(p.data()), p.size()});
      }();
      e.next();
      if (!s.ok()) {
        next = chunks;
        return s;
      }
    }
    return {};
  };
  INGOT_TRY(run_on_threads(static_cast<int>(std::min<int64_t>(run.threads, chunks)), work));
  return stage.reduce(partials);
}

}  // namespace

Status run_stages(const std::vector<NodePtr>& nodes, Facts& facts, const StageRun& run) {
  std::set<const void*> seen;
  std::vector<StagePtr> stages;
  for (const auto& n : nodes) collect(*n, seen, stages);
  for (const auto& st : stages) {
    const std::string key = fact_key(*st);
    if (facts.find(key)) continue;
    INGOT_ASSIGN(std::string fact, run_stage(*st, facts, run));
    if (run.made) INGOT_TRY(run.made(key, fact));
    facts.set(key, std::move(fact));
  }
  return {};
}

Result<std::vector<std::byte>> evaluate(const NodePtr& node, const Region& region) {
  Facts facts;
  INGOT_TRY(run_stages({node}, facts, {}));
  DirectProvider provider(facts);
  Arena arena;
  Evaluator e(provider, facts, arena);
  std::vector<std::byte> out(bytes_of(node->spec_with(facts).type, region.elements()));
  if (out.empty()) return out;
  INGOT_ASSIGN([[maybe_unused]] const View v, e.eval(*node, region, out.data()));
  return out;
}

}  // namespace ingot
