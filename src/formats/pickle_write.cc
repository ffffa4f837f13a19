#include "formats/pickle_write.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>

namespace ingot {

void PickleWriter::integer(int64_t v) {
  if (v >= 0 && v < 256) {
    bytes("K");
    out_.write(static_cast<uint8_t>(v));
  } else if (v >= INT32_MIN && v <= INT32_MAX) {
    bytes("J");
    out_.write(static_cast<int32_t>(v));
  } else {
    bytes("\x8a\x08");  // LONG1
    out_.write(v);
  }
}

void PickleWriter::number(double v) {
  bytes("G");
  const auto bits = std::bit_cast<uint64_t>(v);
  for (int i = 7; i >= 0; --i) out_.write(static_cast<uint8_t>(bits >> (8 * i)));  // big-endian
}

// The operation for a small number and for any.
void PickleWriter::memo_op(const char* one_byte, const char* four_bytes, uint32_t n) {
  bytes(n < 256 ? one_byte : four_bytes);
  n < 256 ? out_.write(static_cast<uint8_t>(n)) : out_.write(n);
}

// Whether it stands in the memo and was taken from there; else it will be, once it is written.
bool PickleWriter::known(const std::string& what) {
  const auto [it, fresh] = memo_.emplace(what, static_cast<uint32_t>(memo_.size()));
  if (fresh) return false;
  memo_op("h", "j", it->second);
  return true;
}

void PickleWriter::text(std::string_view v) {
  if (known(std::string("X").append(v))) return;
  bytes("X");
  out_.text(v);
  memo_op("q", "r", static_cast<uint32_t>(memo_.size() - 1));
}

void PickleWriter::binary(std::string_view v) {
  std::string latin1;
  for (const char c : v) {
    const auto u = static_cast<unsigned char>(c);
    if (u < 0x80) latin1 += c;
    else latin1 += static_cast<char>(0xc0 | u >> 6), latin1 += static_cast<char>(0x80 | (u & 0x3f));
  }
  global("_codecs", "encode");
  open_tuple();
  text(latin1), text("latin1");
  close_tuple();
  call();
}

void PickleWriter::global(std::string_view module, std::string_view name) {
  const std::string both = fmt::format("{}\n{}\n", module, name);
  if (known("c" + both)) return;
  bytes("c");
  bytes(both);
  memo_op("q", "r", static_cast<uint32_t>(memo_.size() - 1));
}

// An integer of any size: LONG1 or LONG4, two's complement, the lowest byte first.
void PickleWriter::long_integer(std::string_view decimal) {
  const bool negative = decimal.starts_with('-');
  std::string digits(decimal.substr(negative ? 1 : 0)), little;
  while (!digits.empty()) {
    // Long division by 256.
    std::string quotient;
    int rest = 0;
    for (const char c : digits) {
      rest = rest * 10 + (c - '0');
      if (!quotient.empty() || rest >= 256) quotient += static_cast<char>('0' + rest / 256);
      rest %= 256;
    }
    little += static_cast<char>(rest);
    digits = std::move(quotient);
  }
  if (negative) {
    int carry = 1;
    for (char& c : little) {
      carry += static_cast<unsigned char>(~c);
      c = static_cast<char>(carry);
      carry >>= 8;
    }
  }
  if (little.empty() || (static_cast<unsigned char>(little.back()) >> 7) != (negative ? 1 : 0)) little += negative ? '\xff' : '\0';
  if (little.size() < 256) {
    bytes("\x8a");
    out_.write(static_cast<uint8_t>(little.size()));
  } else {
    bytes("\x8b");
    out_.write(static_cast<uint32_t>(little.size()));
  }
  out_.append(little);
}

void PickleWriter::json(const OrderedJson& v) {
  if (const auto odd = json_odd(v)) {
    const std::string_view digits = std::string_view(*odd).substr(odd->starts_with('-') ? 1 : 0);
    if (*odd == "NaN") number(NAN);
    else if (digits == "Infinity") number(odd->starts_with('-') ? -INFINITY : INFINITY);
    else if (!digits.empty() && digits.find_first_not_of("0123456789") == std::string_view::npos) long_integer(*odd);
    else text(*odd);
  } else if (v.is_object()) {
    open_dict();
    for (const auto& [key, value] : v.items()) text(key), json(value);
    close_dict();
  } else if (v.is_array()) {
    open_list();
    for (const auto& value : v) json(value);
    close_list();
  } else if (v.is_boolean()) {
    boolean(v.get<bool>());
  } else if (v.is_number_unsigned() && v.get<uint64_t>() > INT64_MAX) {
    long_integer(v.dump());
  } else if (v.is_number_integer()) {
    integer(v.get<int64_t>());
  } else if (v.is_number_float()) {
    number(v.get<double>());
  } else if (v.is_string()) {
    text(v.get_ref<const std::string&>());
  } else {
    none();
  }
}

std::string PickleWriter::finish() {
  bytes(".");
  return std::move(out_.str());
}

}  // namespace ingot
