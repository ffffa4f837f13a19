// ingot gguf edit: keys of the metadata set and deleted. The protocol stands in docs/formats/gguf-edit.md.
#include <algorithm>

#include "cli/gguf.h"
#include "cli/job.h"
#include "cli/metadata.h"
#include "cli/metadata_value.h"
#include "cli/paths.h"
#include "cli/text.h"
#include "commit/patch.h"
#include "formats/gguf.h"
#include "formats/json.h"
#include "formats/outputs.h"
#include "storage/hub.h"
#include "tokenizer/jinja_parser.h"
#include "tokenizer/pretokenizer.h"
#include "transform/gguf_check.h"

namespace ingot::cli {
namespace {

struct Edit {
  std::vector<std::string> set, removed;
  bool any() const { return !set.empty() || !removed.empty(); }
};

Result<Edit> edit(Context& c, Artifact* a) {
  Edit done;
  for (const auto& [option, value] : c.args.given()) {
    const bool set = option == "--set", text = option == "--set-file";
    if (!set && !text && option != "--delete") continue;
    const size_t equals = set || text ? value.find('=') : value.size();
    if (equals == std::string::npos || equals == 0) return usage("{} takes KEY=VALUE, not '{}'", option, value);
    const std::string key = value.substr(0, equals);
    const auto it = std::find_if(a->metadata.begin(), a->metadata.end(), [&](const auto& kv) { return kv.first == key; });
    const bool there = it != a->metadata.end();
    if (option == "--delete") {
      std::vector<std::string> keys;
      for (const auto& kv : a->metadata) keys.push_back(kv.first);
      const std::string near = nearest(key, keys);
      if (!there) return Error{ErrorKind::kNotFound, fmt::format("'{}' has no key '{}'{}", a->path, key, near.empty() ? "" : fmt::format("; did you mean '{}'?", near))};
      a->metadata.erase(it), done.removed.push_back(key);
      continue;
    }
    MetaValue made;
    if (text) {
      INGOT_ASSIGN(const Located from, text_path(value.substr(equals + 1)));
      INGOT_ASSIGN(made.v, read_text_at(from, 16u << 20, c.cancel));
    } else {
      INGOT_ASSIGN(made, metadata_value("--set", key, value.substr(equals + 1), there ? &it->second : nullptr));
    }
    if (there) it->second = std::move(made);
    else a->metadata.emplace_back(key, std::move(made));
    done.set.push_back(key);
  }
  return done;
}

Result<std::string> header_of(const Artifact& a) {
  std::vector<NamedSpec> specs;
  for (const LazyTensor& t : a.tensors) specs.emplace_back(t.name, t.spec());
  INGOT_ASSIGN(Layout l, layout_gguf(a, specs));
  return std::move(l.files[0].extents[0].bytes);
}

// The bytes that become others, where all of them can be changed at once: the header keeps its length, and they lie within a page.
struct Patch {
  uint64_t offset = 0;
  std::string bytes;
  std::string stamp;  // of the file that was looked at
};
Result<std::optional<Patch>> patch_of(Store& store, const std::string& path, const Artifact& before, const Artifact& after) {
  INGOT_ASSIGN(const std::string old, header_of(before));
  INGOT_ASSIGN(const std::string made, header_of(after));
  if (old.size() != made.size()) return std::optional<Patch>();
  INGOT_ASSIGN(const auto file, store.open(path));
  std::string lies(std::min<uint64_t>(old.size(), file->size()), '\0');
  INGOT_TRY(file->read(0, MutByteView(reinterpret_cast<std::byte*>(lies.data()), lies.size())));
  if (lies != old) return std::optional<Patch>();  // another version, order of bytes or padding than ours
  const auto first = static_cast<size_t>(std::mismatch(old.begin(), old.end(), made.begin()).first - old.begin());
  if (first == old.size()) return std::optional(Patch{0, "", file->stamp()});
  size_t last = old.size() - 1;
  while (old[last] == made[last]) --last;
  Patch p{first, made.substr(first, last + 1 - first), file->stamp()};
  return fits_patch(p.offset, p.bytes.size()) ? std::optional(std::move(p)) : std::nullopt;
}

Status check_edit(const Artifact& before, const Artifact& after, const Edit& done) {
  const auto refused = [&](const std::string& why) { return bad_input("editing {}: the file would contradict itself: {}; --force writes it all the same", before.path, why); };
  for (const auto* keys : {&done.set, &done.removed})
    for (const std::string& key : *keys)
      if (key.starts_with("split.")) return refused(fmt::format("{} is of the set of files that it belongs to ('ingot gguf split' and 'ingot gguf merge' make others)", key));
  const auto was = transform::examine_gguf(before), is = transform::examine_gguf(after);
  for (const auto list : {&transform::GgufReport::faults, &transform::GgufReport::token_faults})
    for (const std::string& f : is.*list)
      if (std::find((was.*list).begin(), (was.*list).end(), f) == (was.*list).end()) return refused(f);
  return {};
}

// What nobody forbids, but after which others cannot read the file's texts as the model was trained to.
void tell_edit(Context& c, const Artifact& before, const Artifact& after, const Edit& done) {
  const auto was = transform::examine_gguf(before), is = transform::examine_gguf(after);
  for (const std::string& w : is.warnings)
    if (std::find(was.warnings.begin(), was.warnings.end(), w) == was.warnings.end()) c.report.warning(w);
  for (const std::string& key : done.set) {
    const MetaValue* m = after.meta(key);
    const auto* text = m ? std::get_if<std::string>(&m->v) : nullptr;
    if (!text) continue;
    if (key == "tokenizer.ggml.pre" && !find_pre_tokenizer(*text))
      c.report.warning(fmt::format("{} '{}' is no name of a pre-tokenizer that ingot knows; llama.cpp does not load a file with a name that it does not know", key, shown(*text, 60)));
    if (key != "tokenizer.chat_template" && !key.starts_with("tokenizer.chat_template.")) continue;
    jinja::Budget budget;
    if (const auto parsed = jinja::parse_template(*text, budget); !parsed.ok())
      c.report.warning(fmt::format("{}: the template cannot be read: {}; programs that chat with the model refuse it", key, parsed.error().message));
  }
}

// The file that a name leads to, if it may be changed. Either way of it needs leave to write to the file.
Status check_changeable(Context& c, Located* at, bool* alone) {
  INGOT_ASSIGN(const std::string real, at->store->resolve(at->path));
  if (named_by_hash(at->path) || named_by_hash(real))
    return usage("changing {}: it lies among downloads that are named by the hash of their bytes; write an edited copy elsewhere with --out FILE", at->path);
  INGOT_ASSIGN(const auto there, at->store->stat(at->path));
  if (there && there->link) c.report.notice(fmt::format("'{}' is a link; the file that is edited is '{}'", at->path, real)), at->path = real;
  *alone = !there || there->links == 1;
  INGOT_ASSIGN([[maybe_unused]] const auto file, at->store->change(at->path));
  return {};
}

// A new file is written as all of ingot's: an old one may be of another order of bytes, or version.
Status tell_form(Context& c, const Located& at) {
  INGOT_ASSIGN(const auto file, at.store->open(at.path));
  unsigned char b[8];
  INGOT_TRY(file->read(0, std::as_writable_bytes(std::span(b))));
  const bool big = b[4] == 0;
  if (big || b[4] != 3) c.report.notice(fmt::format("'{}' is GGUF v{}, {}-endian; the new file is v3, little-endian", at.path, big ? b[7] : b[4], big ? "big" : "little"));
  return {};
}

}  // namespace

Status gguf_edit_command(Context& c) {
  std::string path, out;
  std::vector<std::string> set, set_file, remove;
  c.args.summary("sets and deletes keys of a GGUF file's metadata");
  c.args.usage("gguf edit FILE --set KEY=VALUE --delete KEY [--out FILE]");
  c.args.detail("A key that is there keeps its type; one that is new has the type that the value looks like, or is given one: --set KEY=u8:5 (bool, u8, i8, u16, i16, u32, "
                "i32, u64, i64, f32, f64, str). Lists are written as in JSON: [1, 2].");
  c.args.detail("Without --out the file itself is changed: in place, where that is one write that a kill cannot cut in two; else a new file takes its place when it is whole, "
                "with its mode and owner. Of a set of splits the metadata is in the first file.");
  c.args.positional("FILE|-m,--model", &path, "a GGUF file");
  c.args.section("Options");
  c.args.list("--set", "K=V", &set, "a key's value; may be repeated");
  c.args.list("--set-file", "K=FILE", &set_file, "the text of a file, as for tokenizer.chat_template");
  c.args.list("--delete", "K", &remove, "a key to take out; may be repeated");
  c.args.text("-o,--out", "FILE", &out, "the edited copy; FILE stays as it is");
  c.args.example("ingot gguf edit model.gguf --set 'general.name=My model' --delete general.url");
  c.args.example("ingot gguf edit model.gguf --set-file tokenizer.chat_template=chat.jinja --out fixed.gguf");
  c.args.unused({"--strict", "--name", "--provenance", "--max-shard-size"});
  INGOT_ASSIGN(const bool go, c.args.parse());
  if (!go) return {};
  INGOT_ASSIGN(Located at, input_path(path));
  bool alone = true;  // no other name leads to its bytes
  if (out.empty()) INGOT_TRY(check_changeable(c, &at, &alone));
  INGOT_ASSIGN(const Artifact before, open_gguf_file(*at.store, at.path));
  Artifact after = before;
  INGOT_ASSIGN(const Edit done, edit(c, &after));
  if (!done.any()) return usage("'ingot gguf edit' needs --set KEY=VALUE or --delete KEY");
  if (!c.args.common.force) INGOT_TRY(check_edit(before, after, done));
  tell_edit(c, before, after, done);
  OrderedJson j = {{"path", out.empty() ? at.path : out}, {"set", done.set}, {"deleted", done.removed}};
  if (out.empty()) {
    INGOT_ASSIGN(const auto patch, patch_of(*at.store, at.path, before, after));
    if (patch && (alone || patch->bytes.empty())) {
      if (c.args.common.dry_run) return c.report.done({{"dry_run", true}, {"in_place", true}, {"bytes", patch->bytes.size()}}, fmt::format("would change {} bytes in place\n", patch->bytes.size()));
      INGOT_TRY(patch_file(*at.store, at.path, patch->offset, as_bytes(patch->bytes), patch->stamp, exec_options(c)));
      j["in_place"] = true;
      return c.report.done(j, patch->bytes.empty() ? "nothing to change: the file says so already\n" : fmt::format("changed {} bytes in place\n", patch->bytes.size()));
    }
    INGOT_TRY(check_parents(at.path));
    c.report.notice(patch ? "other names (hard links) lead to the file's bytes and keep them; a new file takes this name when it is whole"
                          : "the metadata cannot be changed in place; a new file takes the old one's when it is whole");
  }
  INGOT_TRY(tell_form(c, at));
  Located to = at;
  if (!out.empty()) {
    INGOT_ASSIGN(to, output_path(out, file_of("gguf"), {at.path}));
  }
  std::vector<Output> outputs;
  outputs.push_back(gguf_output(std::move(after), *to.store, to.path));
  outputs[0].in_place_of_input = out.empty();
  INGOT_ASSIGN(const auto report, run_reported(c, outputs, nullptr));
  if (!report) return {};
  OrderedJson all = report_json(outputs, *report);
  all.update(j);
  return c.report.done(all, out.empty() ? "a new file has taken its place\n" : report_text(outputs, *report));
}

}  // namespace ingot::cli
