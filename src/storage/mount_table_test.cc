#include "storage/mount_table.h"

#include <gtest/gtest.h>

namespace ingot {
namespace {

constexpr char kTable[] = R"(22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:21 / /proc rw,nosuid - proc proc rw
40 22 0:51 / /vol/my\040bucket rw,nosuid,nodev,relatime shared:90 master:3 - fuse.rclone m:runs\0401/\134x rw,user_id=0
41 40 0:52 / /vol/my\040bucket/scratch rw - tmpfs tmpfs rw
42 22 0:51 /team/a /data rw,relatime - fuse.rclone m:runs\0401/\134x rw
43 22 0:60 / /nfs rw - nfs4 10.0.0.1:/export rw
44 22 254:1 / /nfs rw - xfs /dev/vdb rw
45 22 0:70 / /bare rw - none
no line of a table
46 22 0:71 / /cut rw
)";

std::string type_at(const std::vector<Mounted>& all, const std::string& path) {
  const Mounted* m = mount_above(all, path);
  return m ? m->type : "";
}

TEST(MountTable, EscapesNestedAndBindMounts) {
  const auto all = parse_mounts(kTable);
  ASSERT_EQ(all.size(), 8U);
  const Mounted* bucket = mount_above(all, "/vol/my bucket/run/checkpoint-1");
  ASSERT_TRUE(bucket);
  EXPECT_EQ(bucket->point, "/vol/my bucket");
  EXPECT_EQ(bucket->source, "m:runs 1/\\x");
  EXPECT_EQ(bucket->type, "fuse.rclone");
  EXPECT_EQ(bucket->device, "0:51");
  EXPECT_EQ(type_at(all, "/vol/my bucket"), "fuse.rclone");
  EXPECT_EQ(type_at(all, "/vol/my bucket/scratch/x"), "tmpfs");
  EXPECT_EQ(type_at(all, "/vol/my bucket/scratchy"), "fuse.rclone");  // a name that only begins so
  EXPECT_EQ(type_at(all, "/vol/my"), "ext4");
  EXPECT_EQ(type_at(all, "/nfs/x"), "xfs");  // mounted over it later
  EXPECT_EQ(type_at(all, "/bare/x"), "none");
  const Mounted* bind = mount_above(all, "/data/run");
  ASSERT_TRUE(bind);
  EXPECT_EQ(bind->root, "/team/a");
  EXPECT_EQ(bind->device, bucket->device);
  EXPECT_EQ(mount_above({}, "/x"), nullptr);
}

TEST(MountTable, ThisSystemHasOne) {
  const auto all = mounts();
  const Mounted* proc = mount_of(all, "/proc/self");
  ASSERT_TRUE(proc);
  EXPECT_EQ(proc->type, "proc");
}

}  // namespace
}  // namespace ingot
