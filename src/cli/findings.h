// What lies at a path, as 'ingot doctor' and 'ingot PATH' tell it: what it is, what is odd, what 'ship' would make of it.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/command.h"
#include "cli/diagnosis.h"
#include "formats/json.h"
#include "storage/store.h"

namespace ingot::cli {

struct Findings {
  std::string given, base;  // as on the command line; no base where an adapter names its own
  std::string kind;         // "model", "gguf", "adapter", "unknown" (it cannot be opened), or a file beside a model: "imatrix", "gguf adapter", "projector"
  bool quantized = false;   // a GGUF file with block types
  Diagnosis diagnosis;
  std::string download;     // the command that fetches an adapter's base, which is not here
  std::string original;     // that it fetches, where the base that is named is a quantized copy of it
  // A line, or several, under each label; and the same for --json.
  std::vector<std::pair<std::string, std::string>> rows;
  std::vector<std::string> command;  // its words, to be copied to a shell
  OrderedJson json;

  void row(std::string label, std::string text);
  std::string text() const;
  // The model that ship would make of it can be made; of an adapter: its base is known.
  bool can_ship() const { return diagnosis.verdict.ok() && diagnosis.made; }
  std::vector<std::string> ship_command() const;  // its words, as a shell reads them
};
// A file that belongs to a model and is none: "imatrix", "gguf adapter", "projector"; else empty.
std::string beside_a_model(const Artifact& a);
std::string kind_text(std::string_view kind);  // of such a file: what it is
// Reads headers, no weights. Fails only where it is interrupted.
Result<Findings> find_out(Context& context, const std::string& given, const Located& at, const std::string& base);

}  // namespace ingot::cli
