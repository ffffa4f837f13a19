// Outputs that are copies of their inputs, and files copied without a look at what they hold.
#include "exec/copies.h"

#include <algorithm>

#include "commit/copy.h"
#include "exec/exec_testing.h"

namespace ingot::testing {
namespace {

class Piece final : public Source {
 public:
  Piece(std::shared_ptr<ReadFile> file, uint64_t offset, int64_t bytes) : file_(std::move(file)), offset_(offset), bytes_(bytes) {}
  TensorSpec spec() const override { return {DType::kU8, {bytes_}}; }
  std::string describe() const override { return fmt::format("{} of {}", offset_, file_->identity()); }
  Result<uint64_t> read(const Region& r, MutByteView out) const override {
    INGOT_TRY(file_->read(offset_ + static_cast<uint64_t>(r.begin[0]), out));
    return out.size();
  }
  const ReadFile* file() const override { return file_.get(); }
  std::optional<uint64_t> offset() const override { return offset_; }

 private:
  std::shared_ptr<ReadFile> file_;
  uint64_t offset_;
  int64_t bytes_;
};

void put(Store& store, const std::string& path, const std::string& bytes) {
  auto f = *store.create(path, bytes.size(), false);
  ASSERT_TRUE(f->write(0, as_bytes(bytes)).ok() && f->complete().ok());
}

// "head", 3000 bytes, 5000 bytes: as plain_layout() has them.
Output output_of(Store& store, const std::string& from, const std::vector<std::pair<uint64_t, int64_t>>& pieces) {
  const std::shared_ptr<ReadFile> file = *store.open(from);
  Output o;
  for (const auto& [offset, bytes] : pieces) o.artifact.tensors.push_back({fmt::format("t{}", offset), std::make_shared<Piece>(file, offset, bytes)});
  o.layout = plain_layout;
  o.path = "out";
  return o;
}

const std::string kWhole = "head" + pattern(8000, 7);
const std::vector<std::pair<uint64_t, int64_t>> kPieces = {{4, 3000}, {3004, 5000}};

TEST(Copies, AreFoundByPlaceAndByWhatIsAround) {
  const auto store = make_memory_store();
  put(*store, "same", kWhole);
  put(*store, "head", "Head" + kWhole.substr(4));
  put(*store, "longer", kWhole + "x");
  const auto copied = [&](const std::string& from, const auto& pieces) {
    const Output o = output_of(*store, from, pieces);
    return !copied_files(o, *store, "").value().empty();
  };
  EXPECT_TRUE(copied("same", kPieces));
  EXPECT_FALSE(copied("head", kPieces));
  EXPECT_FALSE(copied("longer", kPieces));
  EXPECT_FALSE(copied("same", std::vector<std::pair<uint64_t, int64_t>>{{3004, 5000}, {4, 3000}})) << "in another order";
  EXPECT_FALSE(copied("same", std::vector<std::pair<uint64_t, int64_t>>{{4, 3000}})) << "a part";
}

// A gap that our layout fills with zeros.
TEST(Copies, BytesBetweenTensorsCount) {
  for (const bool zeros : {true, false}) {
    const auto store = make_memory_store();
    put(*store, "in", "head" + std::string(4, zeros ? '\0' : 'x') + pattern(100, 1));
    Output o = output_of(*store, "in", {{8, 100}});
    o.layout = [](const std::vector<NamedSpec>&) -> Result<Layout> { return Layout{{{"", 108, {{0, "head"}}}}, {{0, 8}}}; };
    EXPECT_EQ(copied_files(o, *store, "").value().size(), zeros ? 1u : 0u);
  }
}

TEST(Copies, SharedBlocksAreHashedAndNotWritten) {
  const auto beneath = make_memory_store();
  put(*beneath, "same", kWhole);
  put(*beneath, "head", "Head" + kWhole.substr(4));
  for (const bool same : {true, false}) {
    uint64_t writes = 0;
    const auto store = make_fault_store(*beneath, {[&](uint64_t, const char* op, const std::string& path) {
                                                     if (std::string_view(op) == "write" && path.ends_with(".part")) ++writes;
                                                     return std::string();
                                                   },
                                                   nullptr});
    std::vector<Output> outputs = {output_of(*beneath, same ? "same" : "head", kPieces)};
    outputs[0].store = store.get();
    outputs[0].path = same ? "out-a" : "out-b";
    const auto report = run_job(outputs, {});
    ASSERT_TRUE(report.ok()) << report.error().message;
    EXPECT_EQ(writes == 0, same) << writes;
    EXPECT_EQ(read_text(*beneath, outputs[0].path).value(), kWhole);
    EXPECT_EQ(report->outputs[0].hash, run_job(outputs, {})->outputs[0].hash);
  }
}

TEST(CopyFile, IsWholeOrNotThereWhereverItStops) {
  for (uint64_t stop = 0;; ++stop) {
    const auto beneath = make_memory_store();
    put(*beneath, "in", kWhole);
    const auto store = make_fault_store(*beneath, {[&](uint64_t n, const char*, const std::string&) { return std::string(n == stop ? "power cut" : ""); }, nullptr});
    const auto done = copy_file(*store, "in", "dir/out", false, {});
    const bool there = is_there(*beneath, "dir/out");
    if (there) {
      EXPECT_EQ(read_text(*beneath, "dir/out").value(), kWhole);
    }
    EXPECT_EQ(read_text(*beneath, "in").value(), kWhole);
    if (!done.ok()) continue;
    EXPECT_TRUE(there && done.value() == kWhole.size());
    EXPECT_GE(stop, 3u);
    EXPECT_EQ(copy_file(*beneath, "in", "dir/out", false, {}).error().kind, ErrorKind::kUsage);
    EXPECT_TRUE(copy_file(*beneath, "in", "dir/out", true, {}).ok());
    EXPECT_EQ(beneath->list("dir")->size(), 1u) << "nothing left beside it";
    return;
  }
}

using LocalShare = LocalTest;

TEST_F(LocalShare, IsAllOrNothing) {
  Store& store = local_store();
  LocalTest::put("in", kWhole);
  auto to = *store.create(at("out"), kWhole.size(), false);
  ASSERT_TRUE(to->write(0, as_bytes(std::string_view("mine"))).ok());
  const bool shared = to->share(**store.open(at("in")));
  std::string there(4, '\0');
  ASSERT_TRUE(to->read_back(0, MutByteView(reinterpret_cast<std::byte*>(there.data()), there.size())).ok());
  EXPECT_EQ(there, shared ? "head" : "mine");
}

}  // namespace
}  // namespace ingot::testing
