#include "storage/rclone.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <thread>

namespace ingot {
namespace {

using Words = std::vector<std::string>;
using Environment = std::map<std::string, std::string>;

TEST(Rclone, ACommandLineOfSkyPilot) {
  const Words words = {"rclone", "mount", "sky:bucket", "/checkpoints", "--daemon", "--daemon-wait", "10", "--log-file", "/sky/rclone_log/1.log", "--log-level", "INFO", "--allow-other",
                       "--vfs-cache-mode", "full", "--dir-cache-time", "10s", "--vfs-cache-max-size", "10G", "--cache-dir", "/cache/rclone/1", "--vfs-fast-fingerprint"};
  const auto m = parse_rclone(words, {}, "/", {"/checkpoints"});
  ASSERT_TRUE(m);
  EXPECT_TRUE(m->caches);
  EXPECT_EQ(m->cache, "/cache/rclone/1");
  EXPECT_EQ(m->cap, uint64_t{10} << 30);
  EXPECT_EQ(m->log, "/sky/rclone_log/1.log");
  EXPECT_EQ(m->control, "");
  EXPECT_FALSE(parse_rclone(words, {}, "/", {"/other"}));
  EXPECT_FALSE(parse_rclone({"vim", "mount", "/checkpoints"}, {}, "/", {"/checkpoints"}));
  EXPECT_FALSE(parse_rclone({"rclone", "copy", "a:", "/checkpoints"}, {}, "/", {"/checkpoints"}));
  EXPECT_FALSE(parse_rclone({}, {}, "/", {"/checkpoints"}));
}

TEST(Rclone, WhereItsOptionsMayStand) {
  auto m = parse_rclone({"/usr/bin/rclone", "mount", "m:b", "data/"}, {{"HOME", "/w/u"}}, "/w/u", {"/mnt", "/w/u/data"});
  ASSERT_TRUE(m);
  EXPECT_FALSE(m->caches);  // off
  EXPECT_EQ(m->cache, "/w/u/.cache/rclone");
  EXPECT_FALSE(m->cap);
  m = parse_rclone({"rclone", "--vfs-cache-mode=writes", "mount", "m:b", "/d", "--rc", "--cache-dir=c", "--vfs-cache-max-size=off"}, {{"XDG_CACHE_HOME", "/x"}}, "/w", {"/d"});
  ASSERT_TRUE(m);
  EXPECT_TRUE(m->caches);
  EXPECT_EQ(m->cache, "/w/c");
  EXPECT_FALSE(m->cap);
  EXPECT_EQ(m->control, "localhost:5572");
  m = parse_rclone({"rclone", "mount", "m:b", "/d", "--vfs-cache-mode", "minimal", "--rc", "--rc-addr", "unix:///run/r.sock"}, {{"XDG_CACHE_HOME", "/x"}}, "/w", {"/d"});
  ASSERT_TRUE(m);
  EXPECT_FALSE(m->caches);
  EXPECT_EQ(m->cache, "/x/rclone");
  EXPECT_EQ(m->control, "/run/r.sock");
  m = parse_rclone({"rclone", "mount", "m:b", "/d"}, {{"RCLONE_VFS_CACHE_MODE", "full"}, {"RCLONE_CACHE_DIR", "/e"}, {"RCLONE_RC", "true"}, {"RCLONE_VFS_CACHE_MAX_SIZE", "1.5M"}}, "/w", {"/d"});
  ASSERT_TRUE(m);
  EXPECT_TRUE(m->caches);
  EXPECT_EQ(m->cache, "/e");
  EXPECT_EQ(m->cap, uint64_t{3} << 19);
  EXPECT_EQ(m->control, "localhost:5572");
  m = parse_rclone({"/sbin/mount.rclone", "m:b", "/d", "-o", "rw,args2env,vfs_cache_mode=full,cache_dir=/h,vfs_cache_max_size=100"}, {}, "/", {"/d"});
  ASSERT_TRUE(m);
  EXPECT_TRUE(m->caches);
  EXPECT_EQ(m->cache, "/h");
  EXPECT_EQ(m->cap, uint64_t{100} << 10);
}

TEST(Rclone, ItsRemoteControlIsAskedOfThisMachineAlone) {
  for (const char* elsewhere : {"10.0.0.1:5572", "example.org:80"}) EXPECT_FALSE(ask_rclone(elsewhere, "vfs/stats", "{}").ok());
  EXPECT_FALSE(ask_rclone("127.0.0.1:1", "vfs/stats", "{}").ok());
  const std::string path = ::testing::TempDir() + "ingot_rc_" + std::to_string(::getpid());
  for (const auto& [answer, good] : std::vector<std::pair<std::string, bool>>{{"HTTP/1.0 200 OK\r\nX: y\r\n\r\n{\"a\": 1}", true}, {"HTTP/1.0 401 Unauthorized\r\n\r\nno", false}, {"rubbish", false}, {"", false}}) {
    ::unlink(path.c_str());
    const int listening = ::socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un a = {};
    a.sun_family = AF_UNIX;
    path.copy(a.sun_path, sizeof a.sun_path - 1);
    ASSERT_EQ(::bind(listening, reinterpret_cast<const struct sockaddr*>(&a), sizeof a), 0);
    ASSERT_EQ(::listen(listening, 1), 0);
    std::string heard;
    std::thread server([&, text = answer] {
      const int fd = ::accept(listening, nullptr, nullptr);
      char buffer[1000];
      const ssize_t n = ::recv(fd, buffer, sizeof buffer, 0);
      heard.assign(buffer, n > 0 ? static_cast<size_t>(n) : 0);
      (void)!::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
      ::close(fd);
    });
    const auto got = ask_rclone(path, "vfs/stats", "{}");
    server.join();
    ::close(listening);
    EXPECT_EQ(got.ok(), good) << answer;
    if (got.ok()) EXPECT_EQ(*got, "{\"a\": 1}");
    else EXPECT_NE(got.error().message.find(path), std::string::npos);
    EXPECT_TRUE(heard.starts_with("POST /vfs/stats HTTP/1.0\r\n")) << heard;
  }
  ::unlink(path.c_str());
}

}  // namespace
}  // namespace ingot
