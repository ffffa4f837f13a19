// Models measured on a text, side by side: what 'ingot eval' and 'ingot ship --eval' do.
#pragma once

#include <string>
#include <vector>

#include "calibrate/evaluate.h"
#include "calibrate/texts.h"
#include "cli/command.h"
#include "cli/evaluation.h"
#include "cli/generation.h"
#include "infer/model.h"

namespace ingot::cli {

struct Subject {
  EvaluatedModel told;
  Artifact gguf;
  Tokenizer tokenizer;
  Runnable can;
};
// `gguf` as it is to be run; `tokens` has its tokenizer. Path and size are those that are told of it.
Result<Subject> make_subject(Context& context, const std::string& path, uint64_t bytes, const Artifact& tokens, Artifact gguf);

struct EvaluationRequest {
  std::vector<std::string> texts;
  calibrate::WindowOptions window;
  bool against = false;  // the first subject is the reference
  Arithmetic arithmetic = Arithmetic::kExact;
};

// File names, or paths where two have one name.
void name_subjects(std::vector<Subject>* all);

// The texts in tokens of the first. kUsage, kBadInput: a context that is shorter than a window, vocabularies that differ.
Result<calibrate::TokenWindows> evaluation_windows(Context& context, const std::vector<Subject>& all, const EvaluationRequest& request);

Result<calibrate::EvaluatePlan> evaluation_plan(Context& context, const std::vector<Subject>& all, const EvaluationRequest& request, const calibrate::TokenWindows& windows);
std::string plan_text(const calibrate::EvaluatePlan& plan, const std::vector<Subject>& all);

// kInterrupted: *out has what was scored (nothing, where it has no models).
Status run_evaluation(Context& context, const std::vector<Subject>& all, const EvaluationRequest& request, const calibrate::TokenWindows& windows, const calibrate::EvaluatePlan& plan, Evaluation* out);

}  // namespace ingot::cli
