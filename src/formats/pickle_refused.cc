#include "formats/pickle_refused.h"

#include <algorithm>
#include <iterator>

namespace ingot {
namespace {

// All of a module, and of those below it. Names that scripts give their own modules are not among them (code, test, types): see below.
constexpr std::string_view kModules[] = {
    "_ctypes", "_frozen_importlib", "_frozen_importlib_external", "_imp", "_osx_support", "_pickle", "_posixsubprocess", "_pyrepl", "_sitebuiltins", "_socket",
    "_thread", "aiohttp", "asyncio", "bdb", "cPickle", "cProfile", "cffi", "cloudpickle", "codeop", "ctypes", "dill", "distutils", "doctest", "ensurepip", "ftplib",
    "gc", "httplib", "idlelib", "imp", "importlib", "ipykernel", "lib2to3", "linecache", "marshal", "multiprocessing", "nt", "ntpath", "os", "pdb", "pexpect",
    "pickle", "pip", "pkgutil", "popen2", "posix", "posixpath", "pty", "py_compile", "pydoc", "requests", "runpy", "shutil", "smtplib", "socket", "socketserver",
    "ssl", "subprocess", "sys", "telnetlib", "tempfile", "timeit", "urllib", "urllib2", "webbrowser", "xmlrpc", "zipimport"};
// Single ones: "module.name".
constexpr std::string_view kNames[] = {
    "_io.FileIO", "_io.open", "_operator.attrgetter", "_operator.methodcaller", "code.InteractiveConsole", "code.InteractiveInterpreter", "code.interact",
    "commands.getoutput", "commands.getstatusoutput", "http.client.HTTPConnection", "http.client.HTTPSConnection", "io.FileIO", "io.open", "io.open_code",
    "logging.config.listen", "numpy.load", "operator.attrgetter", "operator.methodcaller", "pandas.eval", "platform.popen", "profile.Profile", "profile.run",
    "profile.runctx", "sqlite3.connect", "torch.hub.load", "torch.jit.load", "torch.load", "torch.package.PackageImporter", "torch.serialization.load",
    "torch.storage._load_from_bytes", "torch.utils.collect_env.run", "torch.utils.cpp_extension.load", "torch.utils.cpp_extension.load_inline", "trace.Trace",
    "types.CodeType", "types.FunctionType", "types.MethodType", "venv.create"};
// Whatever module they are asked of, and below whatever name: of "torch.serialization" a pickle may ask "os.system".
constexpr std::string_view kFunctions[] = {
    "__builtins__", "__code__", "__getattribute__", "__globals__", "__import__", "__loader__", "__subclasses__", "builtins", "check_call", "check_output", "delattr",
    "eval", "exec", "execWrapper", "execfile", "getattr", "import_module", "os", "popen", "posix", "runstring", "setattr", "subprocess", "sys", "system"};
// Only of builtins.
constexpr std::string_view kBuiltins[] = {"apply", "breakpoint", "compile", "dir",  "file",   "filter", "globals", "help",
                                          "input", "locals",     "map",     "open", "reduce", "reload", "vars",    "raw_input"};

template <size_t N>
bool has(const std::string_view (&all)[N], std::string_view one) {
  return std::find(std::begin(all), std::end(all), one) != std::end(all);
}

}  // namespace

bool is_refused_global(std::string_view module, std::string_view name) {
  if (has(kModules, module.substr(0, module.find('.')))) return true;
  if ((module == "builtins" || module == "__builtin__") && has(kBuiltins, name)) return true;
  for (std::string_view full : kNames)
    if (full.size() == module.size() + 1 + name.size() && full.starts_with(module) && full[module.size()] == '.' && full.ends_with(name)) return true;
  for (size_t from = 0; from <= name.size();) {
    const size_t end = std::min(name.find('.', from), name.size());
    const std::string_view one = name.substr(from, end - from);
    // A module imports others: "shutil.rmtree", "io.open".
    if (has(kFunctions, one) || (end < name.size() && (has(kModules, one) || has(kNames, name.substr(from))))) return true;
    from = end + 1;
  }
  return false;
}

}  // namespace ingot
