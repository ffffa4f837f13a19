#include "storage/rclone.h"

#include <dirent.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "storage/descriptors.h"
#include "storage/store.h"

namespace ingot {
namespace {

// "/data/" and "data" under / are one place.
std::string absolute(const std::string& path, const std::string& cwd) {
  std::string p = path.starts_with('/') ? path : join_path(cwd, path);
  while (p.size() > 1 && p.ends_with('/')) p.pop_back();
  return p;
}

// Options as rclone takes them: --name VALUE, --name=VALUE, those of mount's helper after -o (name=value,other), RCLONE_NAME in the environment.
class Options {
 public:
  Options(const std::vector<std::string>& words, const std::map<std::string, std::string>& environment) : words_(words), environment_(environment) {
    for (size_t i = 0; i + 1 < words.size(); ++i)
      if (words[i] == "-o") helper_ += words[i + 1] + ",";
  }
  std::optional<std::string> text(const std::string& name) const {
    const std::string flag = "--" + name;
    std::optional<std::string> found;
    for (size_t i = 1; i < words_.size(); ++i) {  // the last counts
      if (words_[i] == flag && i + 1 < words_.size()) found = words_[i + 1];
      else if (words_[i].starts_with(flag + "=")) found = words_[i].substr(flag.size() + 1);
    }
    if (found) return found;
    std::istringstream parts(helper_);
    for (std::string part; std::getline(parts, part, ',');) {
      std::string key = part.substr(0, part.find('='));
      std::replace(key.begin(), key.end(), '_', '-');
      if (key == name) return part.size() > key.size() ? part.substr(key.size() + 1) : "true";
    }
    std::string variable = "RCLONE_" + name;
    for (char& c : variable) c = c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    const auto it = environment_.find(variable);
    return it == environment_.end() ? std::nullopt : std::optional<std::string>(it->second);
  }
  bool flag(const std::string& name) const {
    if (std::find(words_.begin(), words_.end(), "--" + name) != words_.end()) return true;
    const auto t = text(name);
    return t && (*t == "true" || *t == "1");
  }

 private:
  const std::vector<std::string>& words_;
  const std::map<std::string, std::string>& environment_;
  std::string helper_;
};

// rclone's sizes: 10G is 10 * 1024^3, a number alone counts KiB, "off" is no limit.
std::optional<uint64_t> size_of(const std::string& s) {
  double n = 0;
  const auto end = std::from_chars(s.data(), s.data() + s.size(), n);
  if (end.ec != std::errc() || n < 0) return std::nullopt;
  const std::string unit(end.ptr, s.data() + s.size());
  const size_t power = unit.empty() ? 1 : std::string("BKMGTPE").find(static_cast<char>(std::toupper(static_cast<unsigned char>(unit[0]))));
  if (power == std::string::npos) return std::nullopt;
  for (size_t i = 0; i < power; ++i) n *= 1024;
  return n < 1.8e19 ? std::optional<uint64_t>(static_cast<uint64_t>(n)) : std::nullopt;
}

// What /proc has between zero bytes.
std::vector<std::string> pieces_of(const std::string& path) {
  std::ifstream f(path, std::ios::binary);
  std::vector<std::string> out;
  for (std::string piece; std::getline(f, piece, '\0');) out.push_back(piece);
  return out;
}

// One end of a conversation; -1 with errno.
int connect_to(const std::string& control) {
  if (control.starts_with('/')) {
    struct sockaddr_un a = {};
    a.sun_family = AF_UNIX;
    if (control.size() >= sizeof a.sun_path) return errno = ENAMETOOLONG, -1;
    control.copy(a.sun_path, control.size());
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ::connect(fd, reinterpret_cast<const struct sockaddr*>(&a), sizeof a) == 0) return fd;
    const int e = errno;
    ::close(fd);
    return errno = e, -1;
  }
  const size_t colon = control.rfind(':');
  std::string host = control.substr(0, colon == std::string::npos ? 0 : colon);
  if (host.empty() || host == "0.0.0.0" || host == "[::]") host = "localhost";
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (host != "localhost" && host != "::1" && !host.starts_with("127.")) return errno = EADDRNOTAVAIL, -1;
  struct addrinfo hints = {}, *list = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  if (::getaddrinfo(host.c_str(), control.substr(colon + 1).c_str(), &hints, &list)) return errno = EADDRNOTAVAIL, -1;
  int fd = -1, e = ECONNREFUSED;
  for (const struct addrinfo* a = list; a && fd < 0; a = a->ai_next) {
    fd = ::socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
    if (fd >= 0 && ::connect(fd, a->ai_addr, a->ai_addrlen) == 0) break;
    e = errno;
    if (fd >= 0) ::close(fd);
    fd = -1;
  }
  ::freeaddrinfo(list);
  if (fd < 0) errno = e;
  return fd;
}

}  // namespace

std::optional<RcloneMount> parse_rclone(const std::vector<std::string>& words, const std::map<std::string, std::string>& environment, const std::string& cwd,
                                        const std::vector<std::string>& points) {
  if (words.empty()) return std::nullopt;
  const std::string program = file_name(words[0]);
  const bool helper = program == "mount.rclone" || program == "rclonefs";
  if (!helper && program.find("rclone") == std::string::npos) return std::nullopt;
  const auto mounts = [](const std::string& w) { return w == "mount" || w == "mount2" || w == "cmount"; };
  if (!helper && std::none_of(words.begin() + 1, words.end(), mounts)) return std::nullopt;
  if (std::none_of(words.begin() + 1, words.end(), [&](const std::string& w) { return !w.starts_with('-') && std::find(points.begin(), points.end(), absolute(w, cwd)) != points.end(); })) return std::nullopt;
  const Options o(words, environment);
  const auto variable = [&](const char* name) {
    const auto it = environment.find(name);
    return it == environment.end() ? std::string() : it->second;
  };
  RcloneMount m;
  const std::string mode = o.text("vfs-cache-mode").value_or("off");
  m.caches = mode == "full" || mode == "writes";  // "minimal" keeps only what is opened to be read and written
  const std::string xdg = variable("XDG_CACHE_HOME"), home = variable("HOME");
  m.cache = o.text("cache-dir").value_or(!xdg.empty() ? xdg + "/rclone" : !home.empty() ? home + "/.cache/rclone" : std::string(P_tmpdir) + "/rclone");
  m.cache = absolute(m.cache, cwd);
  if (const auto cap = o.text("vfs-cache-max-size")) m.cap = size_of(*cap);
  if (const auto log = o.text("log-file"); log && !log->empty()) m.log = absolute(*log, cwd);
  if (o.flag("rc")) {
    m.control = o.text("rc-addr").value_or("localhost:5572");
    if (m.control.starts_with("unix://")) m.control = m.control.substr(7);
  }
  return m;
}

std::optional<RcloneMount> find_rclone(const std::vector<std::string>& points) {
  DIR* processes = ::opendir("/proc");
  if (!processes) return std::nullopt;
  std::optional<RcloneMount> found;
  while (const dirent* e = ::readdir(processes)) {
    const std::string name = e->d_name, at = "/proc/" + name;
    pid_t pid = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), pid).ptr != name.data() + name.size() || name.empty()) continue;
    const auto words = pieces_of(at + "/cmdline");
    if (words.empty() || words[0].find("rclone") == std::string::npos) continue;
    std::map<std::string, std::string> environment;
    for (const std::string& v : pieces_of(at + "/environ"))
      if (const size_t eq = v.find('='); eq != std::string::npos) environment[v.substr(0, eq)] = v.substr(eq + 1);
    char cwd[PATH_MAX] = "";
    if (::readlink((at + "/cwd").c_str(), cwd, sizeof cwd - 1) < 0) cwd[0] = '/', cwd[1] = '\0';
    auto m = parse_rclone(words, environment, cwd, points);
    if (!m) continue;
    m->process = pid;
    found = std::move(m);  // of several (one that waits for its daemon) any: their command lines are the same
  }
  ::closedir(processes);
  return found;
}

Result<std::string> ask_rclone(const std::string& control, const std::string& what, const std::string& json) {
  const auto no_answer = [&](const std::string& why) { return failed("asking rclone's remote control at {} for {}: {}", control, what, why); };
  const Descriptor fd(connect_to(control));
  if (fd < 0) return no_answer(io_reason(errno));
  std::string request = fmt::format("POST /{} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}", what, json.size(), json);
  for (size_t done = 0; done < request.size();) {
    const ssize_t n = ::send(fd, request.data() + done, request.size() - done, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return no_answer(io_reason(errno));
    done += static_cast<size_t>(n);
  }
  std::string answer;
  for (char piece[16384];;) {
    struct pollfd p = {fd, POLLIN, 0};
    const int ready = ::poll(&p, 1, 5000);
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return no_answer("it did not answer within 5 s");
    const ssize_t n = ::recv(fd, piece, sizeof piece, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return no_answer(io_reason(errno));
    if (n == 0) break;
    answer.append(piece, static_cast<size_t>(n));
    if (answer.size() > (64u << 20)) return no_answer("it answers with more than 64 MiB");
  }
  const size_t body = answer.find("\r\n\r\n");
  if (!answer.starts_with("HTTP/1.") || body == std::string::npos) return no_answer("what it answered is no HTTP");
  if (answer.compare(9, 3, "200")) return no_answer("it answered " + answer.substr(9, answer.find("\r\n") - 9));
  return answer.substr(body + 4);
}

std::string tail_of(const std::string& path, uint64_t bytes) {
  std::ifstream f(path, std::ios::binary | std::ios::ate);
  if (!f) return "";
  const auto size = static_cast<uint64_t>(f.tellg());
  f.seekg(static_cast<std::streamoff>(size > bytes ? size - bytes : 0));
  std::ostringstream s;
  s << f.rdbuf();
  return s.str();
}

}  // namespace ingot
