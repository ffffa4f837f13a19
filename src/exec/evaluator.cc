#include "exec/evaluator.h"

#include <cstring>
#include <map>
#include <tuple>

#include "exec/evaluate.h"

namespace ingot {
namespace {

// Sources read as they are asked for, values kept for the provider's life; no plan, no threads, no budget.
class DirectProvider final : public Provider {
 public:
  Result<View> source(const Source& source, const Region& region, Arena& arena) override {
    const DType type = source.spec().type;
    const uint64_t bytes = bytes_of(type, region.elements());
    std::byte* out = arena.allocate(bytes);
    INGOT_ASSIGN([[maybe_unused]] const uint64_t n, source.read(region, {out, bytes}));
    return View{out, region, type};
  }

  Result<View> value(const Node& node, const Region& region, Arena& arena) override {
    const auto* output = dynamic_cast<const FoldOutput*>(&node);
    const void* what = output ? static_cast<const void*>(output->fold().get()) : &node;
    const auto key = std::pair(what, output ? std::string() : to_string(region));
    auto it = values_.find(key);
    if (it == values_.end()) {
      INGOT_ASSIGN(auto made, output ? fold(*output->fold()) : whole(node, region));
      it = values_.emplace(key, std::move(made)).first;
    }
    if (!output) return View{it->second.data(), region, node.spec().type};
    const TensorSpec s = node.spec();
    return view_of(it->second.data() + fold_offset(*output->fold(), output->index()), Region::all(s.shape), s.type, region, arena);
  }

  Result<std::vector<std::byte>> whole(const Node& node, const Region& region) {
    std::vector<std::byte> out(bytes_of(node.spec().type, region.elements()));
    if (out.empty()) return out;
    Arena arena;
    INGOT_ASSIGN([[maybe_unused]] const View v, Evaluator(*this, arena).eval(node, region, out.data()));
    return out;
  }

 private:
  Result<std::vector<std::byte>> fold(const Fold& fold) {
    std::vector<std::byte> out(fold_bytes(fold)), state(fold.state_bytes() ? fold.state_bytes() : out.size());
    const Cuts runs = fold_runs(fold);
    for (int64_t r = 0; r < runs.size(); ++r) {
      std::vector<std::byte> later(r ? state.size() : 0);
      Arena arena;
      INGOT_TRY(Evaluator(*this, arena).add(fold, runs[r], r ? later : state));
      if (r) INGOT_TRY(fold.merge(state, later));
    }
    if (!fold.state_bytes()) return state;
    INGOT_TRY(fold.finish(state, out));
    return out;
  }

  std::map<std::pair<const void*, std::string>, std::vector<std::byte>> values_;
};

}  // namespace

View view_of(const std::byte* data, const Region& held, DType type, const Region& region, Arena& arena) {
  int64_t first = 0;
  if (contiguous_in(held, region, &first)) return {data + bytes_of(type, first), region, type};
  std::byte* out = arena.allocate(bytes_of(type, region.elements()));
  for_each_run(held, region, [&](int64_t at, int64_t to, int64_t n) {
    std::memcpy(out + bytes_of(type, to), data + bytes_of(type, at), bytes_of(type, n));
  });
  return {out, region, type};
}

Result<View> Evaluator::eval(const Node& node, const Region& region, std::byte* into) {
  for (const auto& k : memo_)
    if (k.node == &node && k.view.region == region) {
      if (into && into != k.view.data) std::memcpy(into, k.view.data, bytes_of(k.view.type, region.elements()));
      return k.view;
    }
  INGOT_TRY(check_region(node, region));
  View out;
  if (auto* source = dynamic_cast<const Source*>(&node)) {
    INGOT_ASSIGN(out, provider_.source(*source, region, arena_));
  } else if (dynamic_cast<const FoldOutput*>(&node)) {
    INGOT_ASSIGN(out, provider_.value(node, region, arena_));
  } else {
    // A node above that forgot what its input asks for would make wrong bytes in silence.
    const TensorSpec spec = node.spec();
    if (!keeps_granularity(region, spec.shape, node.granularity()))
      return failed("{}: asked for region {}, which is not in multiples of {}; this is a defect of ingot", node.describe(),
                    to_string(region), to_string(node.granularity()));
    std::vector<Need> needs;
    node.needs(region, &needs);
    std::vector<View> inputs;
    inputs.reserve(needs.size());
    for (const auto& need : needs) {
      INGOT_ASSIGN(const View v, get(need));
      inputs.push_back(v);
    }
    const uint64_t bytes = bytes_of(spec.type, region.elements());
    std::byte* data = into ? into : arena_.allocate(bytes);
    const uint64_t ws = node.workspace(region);
    std::byte* workspace = ws ? arena_.allocate(ws) : nullptr;
    INGOT_TRY(node.compute({region, inputs, {data, bytes}, {workspace, ws}}));
    out = {data, region, spec.type};
  }
  if (into && into != out.data) std::memcpy(into, out.data, bytes_of(out.type, region.elements()));
  memo_.push_back({&node, out});
  return out;
}

Status Evaluator::add(const Fold& fold, const Region& run, MutByteView state) {
  const Cuts chunks = fold_chunks(fold, run);
  const uint64_t ws = fold.workspace();
  std::vector<Need> needs;
  std::vector<View> inputs;
  for (int64_t c = 0; c < chunks.size(); ++c) {
    const Region chunk = chunks[c];
    if (fold.chunk() && chunk.elements() == 0) continue;
    needs.clear();
    inputs.clear();
    fold.needs(chunk, &needs);
    for (const auto& need : needs) {
      INGOT_ASSIGN(const View v, get(need));
      inputs.push_back(v);
    }
    INGOT_TRY(fold.add(inputs, state, {ws ? arena_.allocate(ws) : nullptr, ws}));
    next();
  }
  return {};
}

Cuts fold_runs(const Fold& fold) {
  const Region all = Region::all(fold.inputs()[0]->spec().shape);
  return Cuts(all, fold_granularity(fold), fold.chunk() ? fold.chunk() * Fold::kChunksPerRun : INT64_MAX);
}

Cuts fold_chunks(const Fold& fold, const Region& run) { return Cuts(run, fold_granularity(fold), fold.chunk() ? fold.chunk() : INT64_MAX); }

Result<std::vector<std::byte>> evaluate(const NodePtr& node, const Region& region) { return DirectProvider().whole(*node, region); }

}  // namespace ingot
