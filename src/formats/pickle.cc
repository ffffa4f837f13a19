#include "formats/pickle.h"

#include <deque>

#include "base/memory.h"
#include "formats/pickle_machine.h"

namespace ingot {

using enum PickleKind;

std::optional<bool> PickleValue::as_bool() const { return kind_ == kBool ? std::optional(flag_) : std::nullopt; }

std::optional<int64_t> PickleValue::as_int() const {
  if (kind_ == kBool) return flag_;
  return kind_ == kInt ? std::optional(integer_) : std::nullopt;
}

std::optional<double> PickleValue::as_number() const {
  if (kind_ == kFloat) return number_;
  const auto i = as_int();
  return i ? std::optional(static_cast<double>(*i)) : std::nullopt;
}

std::string_view PickleValue::text() const { return kind_ == kText || kind_ == kLong ? std::string_view(chars_, size_) : std::string_view(); }

std::string PickleValue::bytes() const {
  if (kind_ != kBytes && kind_ != kText) return {};
  std::string out(chars_, size_);
  if (kind_ != kBytes || !flag_) return out;
  // A character below 256 each, as the machine has seen to.
  size_t n = 0;
  for (size_t i = 0; i < out.size(); ++i, ++n) {
    const auto c = static_cast<unsigned char>(out[i]);
    if (c < 0x80) out[n] = out[i];
    else out[n] = static_cast<char>((c & 3) << 6 | (out[++i] & 0x3f));
  }
  out.resize(n);
  return out;
}

std::span<const PickleValue* const> PickleValue::items() const {
  return is_sequence() || is_dict() || is_object() ? std::span<const PickleValue* const>(box_->items) : std::span<const PickleValue* const>();
}

const PickleValue* PickleValue::get(std::string_view key) const {
  const PickleValue* found = nullptr;
  if (has_pairs())
    for (size_t i = 0; i + 1 < items().size(); i += 2)
      if (items()[i]->is_text() && items()[i]->text() == key) found = items()[i + 1];
  if (found || !is_object()) return found;
  const PickleValue* own = attributes();
  return own ? own->get(key) : nullptr;
}

std::string_view PickleValue::module() const { return kind_ == kGlobal ? global_->module : std::string_view(); }
std::string_view PickleValue::name() const { return kind_ == kGlobal ? global_->name : std::string_view(); }
std::string PickleValue::global_text() const { return kind_ == kGlobal ? fmt::format("{}.{}", module(), name()) : ""; }
bool PickleValue::is_global(std::string_view m, std::string_view n) const { return kind_ == kGlobal && global_->name == n && global_->module == m; }

std::string_view PickleValue::dict_class() const { return is_dict() && box_->object.callable ? box_->object.callable->name() : std::string_view(); }
const PickleObject* PickleValue::object() const { return is_object() ? &box_->object : nullptr; }
bool PickleValue::is_call_of(std::string_view m, std::string_view n) const { return is_object() && box_->object.callable->is_global(m, n); }
const PickleValue* PickleValue::state() const { return is_object() || is_dict() ? box_->state : nullptr; }

const PickleValue* PickleValue::attributes() const {
  const PickleValue* s = state();
  if (s && s->kind() == kTuple && s->size() == 2) s = s->at(0)->is_dict() && s->at(0)->size() ? s->at(0) : s->at(1);
  return s && s->is_dict() ? s : nullptr;
}

const PickleValue* PickleValue::persistent_id() const { return kind_ == kPersistent ? box_->state : nullptr; }

Pickle::Pickle() : arena_(std::make_unique<Arena>()) {}
Pickle::Pickle(Pickle&&) noexcept = default;
Pickle& Pickle::operator=(Pickle&&) noexcept = default;
Pickle::~Pickle() = default;

std::vector<const PickleValue*> Pickle::persistent() const {
  std::vector<const PickleValue*> all;
  for (const PickleValue& v : arena_->values)
    if (v.kind() == kPersistent) all.push_back(&v);
  return all;
}

size_t Pickle::values() const { return arena_->values.size(); }
size_t Pickle::bytes() const { return arena_->stream.size(); }

Result<Pickle> Pickle::run(std::string bytes, const std::string& doing, size_t from, size_t* end, bool* cut) {
  if (cut) *cut = false;
  if (bytes.size() > kMaxBytes)
    return bad_input("{}: its pickle has {} bytes, more than the {} that are accepted", doing, bytes.size(), kMaxBytes);
  return within_memory(doing, [&]() -> Result<Pickle> {
    Pickle p;
    p.arena_->stream = std::move(bytes);
    PickleMachine machine(p.arena_.get(), from);
    const PickleValue* root = machine.run();
    if (!root) {
      if (cut) *cut = machine.cut();
      return bad_input("{}: the pickle {}", doing, machine.error());
    }
    p.root_ = root;
    if (end) *end = machine.position();
    else if (machine.position() != p.bytes())
      return bad_input("{}: the pickle ends at byte {} of {}; the file is damaged, copy it again", doing, machine.position(), p.bytes());
    return p;
  });
}

}  // namespace ingot
