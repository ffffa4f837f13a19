#include "cli/diagnosis.h"

#include "cli/generation.h"
#include "cli/quantize_args.h"

namespace ingot::cli {

namespace {

// The steps of ship, each leaving what it made.
template <class Open>
Status go_through(Context& c, const Open& open, Diagnosis* d) {
  INGOT_ASSIGN(d->opened, open());
  transform::Operations done = d->opened->operations;
  INGOT_ASSIGN(d->gguf, as_gguf(c, d->opened->artifact, "", &done));
  INGOT_ASSIGN(const transform::QuantizeOptions options, QuantizeArgs().read(c));
  INGOT_ASSIGN(d->made, quantized(c, *d->gguf, kUsualType, options, &done));
  if (const auto can = runnable(*d->gguf); !can.ok())
    c.report.notice(can.error().message + " (--test and 'ingot run'; converting it does not need that)");
  return {};
}

template <class Open>
Result<Diagnosis> diagnose(Context& c, const Open& open) {
  Diagnosis d;
  c.report.collect(&d.odd);
  d.verdict = go_through(c, open, &d);
  c.report.collect(nullptr);
  if (!d.verdict.ok() && d.verdict.error().kind == ErrorKind::kInterrupted) return d.verdict.take_error();
  return d;
}

}  // namespace

Result<Diagnosis> diagnose(Context& c, const Artifact& opened) {
  return diagnose(c, [&] { return with_adapters(c, opened, {}); });
}
Result<Diagnosis> diagnose(Context& c, const std::string& model, const std::vector<AdapterArgument>& adapters) {
  return diagnose(c, [&] { return open_with_adapters(c, model, adapters, adapters.empty() ? Given::kBaseOfAdapter : Given::kModel); });
}

}  // namespace ingot::cli
