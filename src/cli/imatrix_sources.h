// What an importance matrix is made of: a model with the windows of a text, importance matrices that are there already, or both.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "calibrate/importance_matrix.h"
#include "calibrate/texts.h"
#include "cli/imatrix_args.h"
#include "infer/config.h"
#include "transform/importance.h"

namespace ingot::cli {

struct ImatrixSources {
  std::optional<OpenedModel> model;
  Artifact gguf;  // of the model
  ModelConfig config;
  std::vector<calibrate::WeightShape> weights;  // of the model, that are collected
  std::vector<Artifact> files;                  // importance matrices
  transform::ImportanceSums sums;               // of the files together
  calibrate::TokenWindows windows;              // none: nothing is run
  bool runs() const { return windows.count() > 0; }
};

// This model, as `gguf` says that it is to be run.
Status calibrate_model(const OpenedModel& model, Artifact gguf, const ImatrixArgs& args, ImatrixSources* sources);
// The model, or the importance matrix in its place, and the files of --in-file, against each other. Then the text, if one is to be run; what was taken for it without being asked for goes to
// `assumed`.
Result<ImatrixSources> open_imatrix_sources(Context& context, ImatrixArgs* args);
Status read_imatrix_text(Context& context, ImatrixArgs* args, std::string* assumed, ImatrixSources* sources);

std::vector<std::string> input_paths(const ImatrixSources& sources);

}  // namespace ingot::cli
