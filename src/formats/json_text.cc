// Writing what json.h reads: nlohmann's text for what JSON can hold, and what stood in the file for the odd.
#include <fmt/format.h>

#include <cmath>

#include "formats/json.h"

namespace ingot {
namespace {

// Half of a surrogate pair as the three bytes that json_scan.h gives it.
bool is_half_pair(std::string_view s, size_t at) {
  return at + 2 < s.size() && s[at] == '\xED' && static_cast<unsigned char>(s[at + 1]) >= 0xA0;
}

template <class J>
struct Writer {
  int indent;  // -1: all on one line
  bool ascii;
  std::string out;

  std::string scalar(const J& j) const { return j.dump(-1, ' ', ascii, J::error_handler_t::replace); }

  std::string key(const std::string& k) const {
    std::string text = "\"", part;
    const auto flush = [&] {
      const std::string quoted = scalar(J(part));
      text.append(quoted, 1, quoted.size() - 2);
      part.clear();
    };
    for (size_t i = 0; i < k.size(); ++i) {
      if (!is_half_pair(k, i)) {
        part += k[i];
        continue;
      }
      flush();
      text += fmt::format("\\u{:04x}", 0xD000 | (k[i + 1] & 0x3F) << 6 | (k[i + 2] & 0x3F));
      i += 2;
    }
    flush();
    return text + "\"";
  }

  void line(int depth) {
    if (indent < 0) return;
    out += '\n';
    out.append(static_cast<size_t>(indent * depth), ' ');
  }

  void write(const J& j, int depth) {
    if (const auto odd = json_odd(j)) {
      out += *odd;
    } else if (!j.is_structured()) {
      out += scalar(j);
    } else if (j.empty()) {
      out += j.is_object() ? "{}" : "[]";
    } else {
      out += j.is_object() ? '{' : '[';
      bool first = true;
      for (auto it = j.begin(); it != j.end(); ++it) {
        if (!first) out += ',';
        first = false;
        line(depth + 1);
        if (j.is_object()) out += key(it.key()) + (indent >= 0 ? ": " : ":");
        write(*it, depth + 1);
      }
      line(depth);
      out += j.is_object() ? '}' : ']';
    }
  }
};

}  // namespace

std::string json_text(const OrderedJson& j) {
  Writer<OrderedJson> w{2, true, {}};
  w.write(j, 0);
  return w.out + "\n";
}

std::string json_line(const OrderedJson& j) {
  Writer<OrderedJson> w{-1, false, {}};
  w.write(j, 0);
  return std::move(w.out);
}

OrderedJson json_shown(OrderedJson j) {
  if (const auto odd = json_odd(j)) return *odd;
  if (j.is_structured())
    for (auto& e : j) e = json_shown(std::move(e));
  return j;
}

std::string json_brief(const Json& j) {
  Writer<Json> w{-1, false, {}};
  w.write(j, 0);
  std::string s = std::move(w.out);
  if (s.size() > 120) {
    s.resize(117);
    while (!s.empty() && (static_cast<unsigned char>(s.back()) & 0xC0) == 0x80) s.pop_back();
    s += "...";
  }
  return s;
}

std::string json_quote(std::string_view s) {
  std::string out = "\"";
  for (char c : s) {
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\b': out += "\\b"; break;
      case '\f': out += "\\f"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20)
          out += fmt::format("\\u{:04x}", static_cast<unsigned>(static_cast<unsigned char>(c)));
        else
          out += c;
    }
  }
  return out + "\"";
}

std::string json_double(double d) {
  if (std::isnan(d)) return "NaN";
  if (std::isinf(d)) return d < 0 ? "-Infinity" : "Infinity";
  std::string s = fmt::format("{}", d);
  return s.find_first_of(".e") == std::string::npos ? s + ".0" : s;
}

}  // namespace ingot
