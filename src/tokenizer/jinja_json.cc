// json.dumps of Python.
#include <algorithm>
#include <list>
#include <cmath>

#include "tokenizer/jinja_eval.h"
#include "tokenizer/jinja_text.h"

namespace ingot::jinja {
namespace {

class JsonWriter {
 public:
  JsonWriter(Budget& b, bool ascii, bool sorted) : b_(b), ascii_(ascii), sorted_(sorted) {}

  Status configure(const Value& indent, const Value& separators) {
    indented_ = !indent.is(Kind::kNone);
    if (indent.is(Kind::kText)) {
      indent_ = indent.text();
    } else if (indent.is_integral()) {
      indent_.assign(static_cast<size_t>(std::clamp<int64_t>(indent.integer(), 0, 1001)), ' ');
    } else if (indented_) {
      return bad_input("tojson(): indent must be an integer or a text, not '{}'", type_name(indent));
    }
    if (indent_.size() > 1000) return bad_input("tojson(): an indent of {} bytes", indent_.size());
    if (indented_) item_.assign(1, ',');
    if (separators.is(Kind::kNone)) return {};
    const bool two = separators.is(Kind::kSequence) && separators.sequence().items.size() == 2 && separators.sequence().items[0].is(Kind::kText) &&
                     separators.sequence().items[1].is(Kind::kText);
    if (!two) return bad_input("tojson(): separators must be two texts");
    item_ = separators.sequence().items[0].text();
    key_ = separators.sequence().items[1].text();
    return {};
  }

  Status write(const Value& v, int level) {
    INGOT_TRY(b_.spend());
    INGOT_TRY(b_.room(out_.size()));
    switch (v.kind()) {
      case Kind::kNone:
        out_ += "null";
        return {};
      case Kind::kBool:
        out_ += v.boolean() ? "true" : "false";
        return {};
      case Kind::kInt:
        out_ += std::to_string(v.integer());
        return {};
      case Kind::kFloat:
        out_ += number(v.real());
        return {};
      case Kind::kText:
        text(v.text());
        return {};
      case Kind::kDict:
        return dict(v.dict(), level);
      case Kind::kSequence:
        if (v.sequence().flavor == Flavor::kList || v.sequence().flavor == Flavor::kTuple) return list(v.sequence(), level);
        break;
      default:
        break;
    }
    if (v.is(Kind::kUndefined)) return undefined_error(v);
    return bad_input("tojson(): '{}' has no form in JSON", type_name(v));
  }

  std::string take() { return std::move(out_); }

 private:
  static std::string number(double f) { return std::isnan(f) ? "NaN" : std::isinf(f) ? (f < 0 ? "-Infinity" : "Infinity") : float_text(f); }

  void text(std::string_view s) {
    b_.count(s.size());
    out_ += '"';
    for (size_t i = 0; i < s.size();) {
      const size_t next = next_char_at(s, i);
      const char32_t c = char_at(s, i);
      constexpr std::string_view kFrom = "\"\\\n\r\t\f\b", kTo = "\"\\nrtfb";
      if (const size_t k = c < 0x80 ? kFrom.find(static_cast<char>(c)) : std::string_view::npos; k != std::string_view::npos) out_ += {'\\', kTo[k]};
      else if (c < 0x20 || (ascii_ && c >= 0x7F && c < 0x10000)) out_ += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
      else if (ascii_ && c >= 0x10000) out_ += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((c - 0x10000) >> 10), 0xDC00 + ((c - 0x10000) & 0x3FF));
      else out_ += s.substr(i, next - i);
      i = next;
    }
    out_ += '"';
  }

  void line(int level) {
    if (!indented_) return;
    out_ += '\n';
    for (int i = 0; i < level; ++i) out_ += indent_;
  }

  Status list(const Sequence& s, int level) {
    out_ += '[';
    for (size_t i = 0; i < s.items.size(); ++i) {
      if (i > 0) out_ += item_;
      line(level + 1);
      INGOT_TRY(write(s.items[i], level + 1));
    }
    if (!s.items.empty()) line(level);
    out_ += ']';
    return {};
  }

  Status dict(const Dict& d, int level) {
    std::list<const std::pair<Value, Value>*> items;
    for (const auto& item : d.items) items.push_back(&item);
    if (sorted_) {
      Status failed;
      items.sort([&](const auto* x, const auto* y) {
        if (!failed.ok()) return false;
        auto order = compare(b_, x->first, y->first);
        if (!order.ok()) failed = Status(order.take_error());
        return order.ok() && *order < 0;
      });
      INGOT_TRY(std::move(failed));
    }
    out_ += '{';
    for (const auto* item : items) {
      const Value& key = item->first;
      if (item != items.front()) out_ += item_;
      line(level + 1);
      if (key.is(Kind::kText)) text(key.text());
      else if (key.is(Kind::kFloat)) out_ += '"' + number(key.real()) + '"';
      else if (key.is(Kind::kNone) || key.is_integral()) out_ += key.is(Kind::kInt) ? fmt::format("\"{}\"", key.integer()) : key.is(Kind::kNone) ? "\"null\"" : key.boolean() ? "\"true\"" : "\"false\"";
      else return bad_input("tojson(): '{}' is no key of JSON", type_name(key));
      out_ += key_;
      INGOT_TRY(write(item->second, level + 1));
    }
    if (!items.empty()) line(level);
    out_ += '}';
    return {};
  }

  Budget& b_;
  bool ascii_, sorted_, indented_ = false;
  std::string indent_, item_ = ", ", key_ = ": ", out_;
};

}  // namespace

Result<std::string> to_json(Budget& b, const Value& v, bool ascii, const Value& indent, const Value& separators, bool sorted) {
  JsonWriter writer(b, ascii, sorted);
  INGOT_TRY(writer.configure(indent, separators));
  INGOT_TRY(writer.write(v, 0));
  return writer.take();
}

}  // namespace ingot::jinja
