// ingot doctor: what lies in a directory, what is odd, what 'ship' would make of it.
#include "cli/doctor_checkpoints.h"
#include "cli/findings.h"
#include "cli/output.h"
#include "cli/paths.h"
#include "cli/text.h"

namespace ingot::cli {

Status command_doctor(Context& c) {
  std::string given, base;
  c.args.usage("doctor DIR [--base DIR]");
  c.args.detail(
      "DIR holds a model or an adapter. Says what is in it, what is odd, and what 'ingot ship' would make of it: by going the same way up to "
      "the first byte of output. Headers are read, no weights. Exit code 0: ship would work; 3: it would be refused; 1: "
      "something could not be read. Of a directory of training checkpoints, or an empty one where some are to be: what its file system does (tried in a scratch name), and a checklist.");
  c.args.positional("DIR|-m,--model", &given, "a model's directory or file, an adapter's directory, or a name like org/model");
  c.args.section("Options");
  c.args.text("--base", "DIR", &base, "the base model that an adapter is tried on (default: the one that it names, if that is here)");
  c.args.example("ingot doctor base/");
  c.args.example("ingot doctor lora/ --base base/");
  c.args.unused({"--threads", "--memory", "--dry-run", "--force", "--no-resume", "--seed", "--max-shard-size", "--verify", "--rank-timeout",
                 "--provenance", "--name"});
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  if (base.empty()) {
    INGOT_ASSIGN(const bool checkpoints, doctor_checkpoints(c, given));
    if (checkpoints) return {};
  }
  INGOT_ASSIGN(const Located at, input_path(given));
  INGOT_ASSIGN(const Findings r, find_out(c, given, at, base));
  const bool adapter = r.kind == "adapter", opened = r.kind != "unknown";
  if (!base.empty() && opened && !adapter) return usage("--base is for an adapter; '{}' is a model", at.path);
  const std::string beside = kind_text(r.kind);
  const std::string head = fmt::format("{}: {}\n", printable(at.path), adapter ? "an adapter" : !beside.empty() ? beside : opened ? "a model" : "cannot be opened");
  const Status& verdict = r.diagnosis.verdict;
  if (verdict.ok()) return c.report.result(r.json, head + r.text());
  const ErrorKind kind = verdict.error().kind == ErrorKind::kUsage ? ErrorKind::kBadInput : verdict.error().kind;
  if (c.report.json()) {
    c.report.keep_in_result(r.json);
    return Error{kind, verdict.error().message};
  }
  INGOT_TRY(print(head + r.text()));
  if (!beside.empty()) return Error{kind, verdict.error().message};  // no other reason was told
  return Error{kind, fmt::format("'ingot ship' would refuse '{}', for the reason above", at.path)};
}

}  // namespace ingot::cli
