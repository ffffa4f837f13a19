#include "formats/safetensors_header.h"

#include <nlohmann/json.hpp>
#include <unordered_set>

#include "tensor/shape.h"

namespace ingot {
namespace {

using J = nlohmann::json;

// The header has a fixed form: {name: {dtype, shape: [..], data_offsets: [a, b]}, __metadata__: {key: text} or null}. What else is said of a tensor is passed over, as
// safetensors does. Anything else ends the parse with a sentence that says where.
class Handler {
 public:
  using number_integer_t = J::number_integer_t;
  using number_unsigned_t = J::number_unsigned_t;
  using number_float_t = J::number_float_t;
  using string_t = J::string_t;
  using binary_t = J::binary_t;

  SafetensorsHeader header;
  std::string error;
  bool beyond_limit = false;  // it is not the file's fault
  bool of_writer = false;     // a value of __metadata__ that is no text: no damage, but the program that wrote it

  bool null() {
    if (depth_ == 1 && in_metadata_) return true;
    return wrong("null");
  }
  bool boolean(bool) { return wrong("true or false"); }
  bool number_integer(number_integer_t v) { return wrong(std::to_string(v)); }
  bool number_float(number_float_t, const string_t& s) { return wrong(s.substr(0, 40)); }
  bool binary(binary_t&) { return wrong("binary data"); }
  bool number_unsigned(number_unsigned_t v) {
    if (!list_) return wrong(std::to_string(v));
    if (list_->size() >= kMaxList) {
      beyond_limit = true;
      return fail(fmt::format("{} has more than {} entries; at most {} dimensions are supported", where(), kMaxList, kMaxDims));
    }
    list_->push_back(v);
    return true;
  }
  bool string(string_t& s) {
    if (depth_ == 2 && in_metadata_) {
      header.metadata[field_] = std::move(s);
      return true;
    }
    if (depth_ == 2 && field_ == "dtype" && !list_) {
      row().dtype = std::move(s);
      row().has_dtype = true;
      return true;
    }
    return wrong("the text '" + s.substr(0, 40) + "'");
  }
  bool start_object(size_t) {
    if (passed_over_) return ++nested_ > 0;
    if (depth_ > 1 || list_) return wrong("an object");
    if (depth_++ == 1 && !in_metadata_) header.rows.push_back({name_, {}, {}, {}});
    return true;
  }
  bool end_object() {
    if (nested_) return nested_-- > 0;
    if (--depth_ == 1) in_metadata_ = passed_over_ = false, fields_.clear();
    return true;
  }
  bool start_array(size_t) {
    if (passed_over_) return ++nested_ > 0;
    if (depth_ != 2 || in_metadata_ || list_) return wrong("a list");
    if (field_ == "shape") list_ = &row().shape, row().has_shape = true;
    else if (field_ == "data_offsets") list_ = &row().offsets, row().has_offsets = true;
    else return wrong("a list");
    return true;
  }
  bool end_array() {
    if (nested_) return nested_-- > 0;
    list_ = nullptr;
    return true;
  }
  bool key(string_t& k) {
    if (nested_) return true;
    if (depth_ == 1) {
      if (!names_.insert(k).second) return fail("the tensor '" + k + "' stands twice in the header");
      name_ = std::move(k);
      in_metadata_ = name_ == "__metadata__";
      return true;
    }
    passed_over_ = !in_metadata_ && k != "dtype" && k != "shape" && k != "data_offsets";
    if (!fields_.insert(k).second && !passed_over_) return fail("the key '" + k + "' of '" + name_ + "' stands twice");
    field_ = std::move(k);
    return true;
  }
  bool parse_error(size_t at, const std::string&, const nlohmann::detail::exception&) { return no_json(at); }
  bool no_json(size_t at) { return fail(fmt::format("the header is not valid JSON (byte {} of it)", at)); }

 private:
  static constexpr size_t kMaxList = 64;
  SafetensorsRow& row() { return header.rows.back(); }
  std::string where() const {
    if (depth_ == 0) return "the header";
    if (depth_ == 1) return "the entry '" + name_ + "'";
    return "'" + field_ + "' of '" + name_ + "'";
  }
  bool wrong(const std::string& found) {
    if (passed_over_) return true;
    of_writer = depth_ == 2 && in_metadata_;
    return fail(where() + " may not be " + found);
  }
  bool fail(std::string why) {
    if (error.empty()) error = std::move(why);
    return false;
  }

  int depth_ = 0;
  bool in_metadata_ = false;
  bool passed_over_ = false;  // the value of the key that was read last
  size_t nested_ = 0;         // objects and lists in it that are open
  std::string name_, field_;
  std::vector<uint64_t>* list_ = nullptr;
  std::unordered_set<std::string> names_, fields_;
};

}  // namespace

Result<SafetensorsHeader> parse_safetensors_header(std::string_view json, const std::string& path) {
  Handler h;
  // For the parser a zero byte is the end.
  if (const size_t zero = json.find('\0'); zero != std::string_view::npos) h.no_json(zero + 1);
  const bool ok = h.error.empty() && J::sax_parse(json.begin(), json.end(), &h);
  if (!ok || !h.error.empty())
    return bad_input("reading {}: {}{}", path, h.error.empty() ? std::string("the header is not valid JSON") : h.error,
                     h.beyond_limit ? ""
                     : h.of_writer  ? ": of all of it the format has texts alone. The program that wrote the file must write them, as str(value) does in Python"
                                    : "; the file is damaged or no safetensors file, copy it again");
  return std::move(h.header);
}

}  // namespace ingot
