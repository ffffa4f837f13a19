// What an evaluation found, as figures: tables for people, an object for --json, a drawing and a page.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "calibrate/evaluate.h"
#include "formats/json.h"

namespace ingot::cli {

struct EvaluatedModel {
  std::string path, name;  // name: as short as tells it from the others
  uint64_t bytes = 0;
  double bits_per_weight = 0;
};

// Of some windows: all, or those of one category.
struct Figures {
  std::string category;
  calibrate::Perplexity perplexity;
  std::optional<calibrate::Divergence> divergence;  // where there is a reference, of all others
};
struct ModelFigures {
  EvaluatedModel model;
  bool reference = false;
  int64_t windows = 0;  // less than all where it was interrupted
  Figures all;
  std::vector<Figures> categories;  // where texts have some
};
// Of one model against the one above it: b - a, of the windows that both have.
struct PairFigures {
  std::string a, b;
  int64_t windows = 0;
  calibrate::Figure mean;  // of the divergence, without a reference of -ln p
};
struct Evaluation {
  std::vector<std::string> texts;
  int64_t length = 0, windows = 0, tokens = 0, per_window = 0;
  bool against = false;  // the first model is the reference
  std::vector<ModelFigures> models;
  std::vector<PairFigures> pairs;
};

Evaluation figures_of(const std::vector<EvaluatedModel>& models, const calibrate::TokenWindows& windows, const calibrate::Scores& scores, bool against);

// One of its tables, apart from how it is shown.
struct Sheet {
  std::string title;
  std::vector<std::string> header;  // as Table has them
  std::vector<std::vector<std::string>> rows;
};
std::string summary_of(const Evaluation& e);  // of the text and its windows
std::vector<Sheet> sheets_of(const Evaluation& e);

inline constexpr int kTableWidth = 100;  // where no terminal narrows them
std::string evaluation_text(const Evaluation& e, int width);
OrderedJson evaluation_json(const Evaluation& e);
// Divergence (without a reference: perplexity) over size.
std::string evaluation_svg(const Evaluation& e);
// Tables and drawing as one page that needs nothing else.
std::string evaluation_html(const Evaluation& e);

}  // namespace ingot::cli
