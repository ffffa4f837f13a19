// Lines are read by the events of the JSON scanner: nothing is built of what else stands in them, so that a hostile one costs no more than its own length.
#include "calibrate/json_lines.h"

#include <optional>

#include "formats/json_scan.h"
#include "tokenizer/text.h"
#include "tokenizer/unicode.h"

namespace ingot::calibrate {
namespace {

constexpr std::string_view kMark = "\xEF\xBB\xBF";

// The texts among the members of the outermost object. Of a repeated key the last value counts.
class Members : public JsonEvents {
 public:
  void null() override {}
  void boolean(bool) override {}
  void number(const JsonNumber&) override {}
  void string(JsonString v) override {
    if (depth_ == 1 && here_) *here_ = std::move(v);
  }
  void key(JsonString v) override {
    if (depth_ != 1) return;
    here_ = member(v.value);
    if (here_) here_->reset();
    if (v.value == "messages" || v.value == "conversations") chat = true;
  }
  void begin(bool is_object) override {
    if (depth_++ == 0) object = is_object;
  }
  void end(bool) override { --depth_; }

  const JsonString* text() const { return text_ ? &*text_ : content_ ? &*content_ : nullptr; }
  const JsonString* category() const { return category_ ? &*category_ : domain_ ? &*domain_ : nullptr; }

  bool object = false, chat = false;

 private:
  std::optional<JsonString>* member(std::string_view name) {
    return name == "text" ? &text_ : name == "content" ? &content_ : name == "category" ? &category_ : name == "domain" ? &domain_ : nullptr;
  }
  std::optional<JsonString> text_, content_, category_, domain_;
  std::optional<JsonString>* here_ = nullptr;
  int depth_ = 0;
};

}  // namespace

std::string no_utf8(uint64_t byte, char c) {
  return fmt::format("byte {} of the file ({:#04x}) is no UTF-8; convert the file, for example with iconv -f WINDOWS-1252 -t UTF-8", byte,
                     static_cast<unsigned>(static_cast<unsigned char>(c)));
}

std::string JsonLines::here() const { return fmt::format("reading '{}', line {}", name_, number_); }

Status JsonLines::add(std::string_view block) {
  while (!block.empty()) {
    const size_t end = block.find('\n');
    const std::string_view part = block.substr(0, end);
    if (rest_.size() + part.size() > kMaxLine)
      return bad_input("reading '{}', line {}: it has more than {} MiB; expected an object a line, such as {{\"text\": \"..\"}}: cut the text into several",
                       name_, number_ + 1, kMaxLine >> 20);
    if (end == std::string_view::npos) {
      rest_ += part;
      return {};
    }
    if (rest_.empty()) {
      INGOT_TRY(line(part));
    } else {
      rest_ += part;
      INGOT_TRY(line(rest_));
      rest_.clear();
    }
    block.remove_prefix(end + 1);
  }
  return {};
}

Status JsonLines::line(std::string_view text) {
  begin_ += text.size() + 1;
  if (++number_ == 1 && text.starts_with(kMark)) text.remove_prefix(kMark.size());
  if (text.find_first_not_of(" \t\r") == std::string_view::npos) return {};
  if (!unicode::is_valid_utf8(text)) {
    const size_t good = unicode::well_formed_prefix(text);
    return bad_input("{}: {}", here(), no_utf8(begin_ - text.size() + good, text[good]));
  }
  Members members;
  if (const std::string error = scan_json(text, members); !error.empty()) return bad_input("{}: {}; expected an object a line, such as {{\"text\": \"..\"}}", here(), error);
  const JsonString* found = members.text();
  if (!members.object || !found)
    return bad_input("{}: {}; expected an object with a string \"text\" or \"content\"{}", here(), members.object ? "it has no text" : "it is no object",
                     members.chat ? ": write each conversation as one text in the model's chat template (docs/howto/calibrate.md)" : "");
  if (found->odd)
    return bad_input("{}: its text holds half of a surrogate pair (such as \\ud83d alone), which is no character; take it out", here());
  if (!category_.empty()) return keep(category_, found->value);
  const JsonString* category = members.category();
  return keep(category && !category->odd ? category->value : "", found->value);
}

Status JsonLines::keep(const std::string& category, std::string_view text) {
  if (text.empty()) return {};
  auto place = places_.find(category);
  if (place == places_.end()) {
    if (texts_.size() >= kMaxCategories || category.size() > kMaxCategory)
      return bad_input("{}: {}; give one category for the whole file, NAME={}", here(),
                       category.size() > kMaxCategory ? fmt::format("its category has {} bytes, at most {} are accepted", category.size(), kMaxCategory)
                                                      : fmt::format("{} is one more than the {} categories that a file may have", quoted(category), kMaxCategories),
                       name_);
    place = places_.emplace(category, texts_.size()).first;
    texts_.push_back({name_, category, {}});
    // Most files have one category, whose texts are shorter than their lines.
    if (texts_.size() == 1) texts_[0].text.reserve(bytes_);
  }
  std::string& all = texts_[place->second].text;
  if (!all.empty()) all += '\n';
  all += text;
  return {};
}

Result<std::vector<Text>> JsonLines::finish() {
  if (!rest_.empty()) INGOT_TRY(line(rest_));
  rest_.clear();
  if (texts_.empty()) return bad_input("reading '{}': there is no text in its {} line{}", name_, number_, number_ == 1 ? "" : "s");
  return std::move(texts_);
}

}  // namespace ingot::calibrate
