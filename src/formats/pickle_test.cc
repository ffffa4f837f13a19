#include "formats/pickle.h"

#include <gtest/gtest.h>

#include "formats/pickle_numpy.h"
#include "formats/pickle_values.h"

namespace ingot {
namespace {

std::string from_hex(std::string_view hex) {
  std::string out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) out += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  return out;
}

// {"a": 1, "b": [True, None, 1.5, -2, 2**40, 2**70, -2**70], "t": (1, "x", "ü\n"), "e": {}, "n": {1: {"x": []}, (1, "k"): 2.0}, "by": b"\0\xff", "s": {7},
//  "od": OrderedDict(z=1), "inf": -inf} and "again", which is "b" itself: pickle.dumps() of Python 3.11 by each protocol.
const char* const kProtocols[] = {
    "286470300a56610a70310a49310a7356620a70320a286c70330a4930310a614e6146312e350a61492d320a614c313039393531313632373737364c0a614c3131383035393136"
    "32303731373431313330333432344c0a614c2d313138303539313632303731373431313330333432344c0a617356740a70340a2849310a56780a70350a56fc5c75303030610a"
    "70360a7470370a7356650a70380a286470390a73566e0a7031300a28647031310a49310a28647031320a67350a286c7031330a73732849310a566b0a7031340a747031350a46"
    "322e300a73735662790a7031360a635f636f646563730a656e636f64650a7031370a28565c7530303030ff0a7031380a566c6174696e310a7031390a747032300a527032310a"
    "7356730a7032320a635f5f6275696c74696e5f5f0a7365740a7032330a28286c7032340a49370a61747032350a527032360a73566f640a7032370a63636f6c6c656374696f6e"
    "730a4f726465726564446963740a7032380a2874527032390a567a0a7033300a49310a737356696e660a7033310a462d696e660a7356616761696e0a7033320a67330a732e",
    "7d71002858010000006171014b0158010000006271025d7103284930310a4e473ff80000000000004afeffffff4c313039393531313632373737364c0a4c3131383035393136"
    "32303731373431313330333432344c0a4c2d313138303539313632303731373431313330333432344c0a655801000000747104284b0158010000007871055803000000c3bc0a"
    "710674710758010000006571087d710958010000006e710a7d710b284b017d710c68055d710d73284b0158010000006b710e74710f4740000000000000007558020000006279"
    "7110635f636f646563730a656e636f64650a711128580300000000c3bf711258060000006c6174696e3171137471145271155801000000737116635f5f6275696c74696e5f5f"
    "0a7365740a7117285d71184b076174711952711a58020000006f64711b63636f6c6c656374696f6e730a4f726465726564446963740a711c2952711d58010000007a711e4b01"
    "735803000000696e66711f47fff00000000000005805000000616761696e71206803752e",
    "80027d71002858010000006171014b0158010000006271025d710328884e473ff80000000000004afeffffff8a060000000000018a090000000000000000408a090000000000"
    "000000c06558010000007471044b0158010000007871055803000000c3bc0a710687710758010000006571087d710958010000006e710a7d710b284b017d710c68055d710d73"
    "4b0158010000006b710e86710f47400000000000000075580200000062797110635f636f646563730a656e636f64650a7111580300000000c3bf711258060000006c6174696e"
    "3171138671145271155801000000737116635f5f6275696c74696e5f5f0a7365740a71175d71184b076185711952711a58020000006f64711b63636f6c6c656374696f6e730a"
    "4f726465726564446963740a711c2952711d58010000007a711e4b01735803000000696e66711f47fff00000000000005805000000616761696e71206803752e",
    "80037d71002858010000006171014b0158010000006271025d710328884e473ff80000000000004afeffffff8a060000000000018a090000000000000000408a090000000000"
    "000000c06558010000007471044b0158010000007871055803000000c3bc0a710687710758010000006571087d710958010000006e710a7d710b284b017d710c68055d710d73"
    "4b0158010000006b710e86710f47400000000000000075580200000062797110430200ff71115801000000737112636275696c74696e730a7365740a71135d71144b07618571"
    "1552711658020000006f64711763636f6c6c656374696f6e730a4f726465726564446963740a71182952711958010000007a711a4b01735803000000696e66711b47fff00000"
    "000000005805000000616761696e711c6803752e",
    "800495d5000000000000007d94288c0161944b018c0162945d9428884e473ff80000000000004afeffffff8a060000000000018a090000000000000000408a09000000000000"
    "0000c0658c0174944b018c0178948c03c3bc0a9487948c0165947d948c016e947d94284b017d9468055d94734b018c016b948694474000000000000000758c02627994430200"
    "ff948c0173948f94284b07908c026f64948c0b636f6c6c656374696f6e73948c0b4f726465726564446963749493942952948c017a944b01738c03696e669447fff000000000"
    "00008c05616761696e946803752e",
    "800595d5000000000000007d94288c0161944b018c0162945d9428884e473ff80000000000004afeffffff8a060000000000018a090000000000000000408a09000000000000"
    "0000c0658c0174944b018c0178948c03c3bc0a9487948c0165947d948c016e947d94284b017d9468055d94734b018c016b948694474000000000000000758c02627994430200"
    "ff948c0173948f94284b07908c026f64948c0b636f6c6c656374696f6e73948c0b4f726465726564446963749493942952948c017a944b01738c03696e669447fff000000000"
    "00008c05616761696e946803752e",
};

std::string json_of(const std::string& bytes) {
  const auto p = Pickle::run(bytes, "reading p");
  if (!p.ok()) return p.error().message;
  const auto text = pickle_json(*p, p->root(), "reading p");
  return text.ok() ? *text : text.error().message;
}
std::string error_of(const std::string& bytes) {
  const auto p = Pickle::run(bytes, "reading p");
  return p.ok() ? "no error" : p.error().message;
}
// A string literal with zero bytes.
#define B(literal) std::string(literal, sizeof(literal) - 1)

TEST(Pickle, AllProtocolsGiveTheSameValues) {
  for (const char* hex : kProtocols)
    EXPECT_EQ(json_of(from_hex(hex)),
              "{\"a\": 1, \"b\": [true, null, 1.5, -2, 1099511627776, 1180591620717411303424, -1180591620717411303424], \"t\": [1, \"x\", \"ü\\n\"], \"e\": {}, "
              "\"n\": {\"1\": {\"x\": []}, \"(1, 'k')\": 2.0}, \"by\": \"00ff\", \"s\": [7], \"od\": {\"z\": 1}, \"inf\": -Infinity, "
              "\"again\": [true, null, 1.5, -2, 1099511627776, 1180591620717411303424, -1180591620717411303424]}");
}

TEST(Pickle, LongDigitsAreJson) {
  EXPECT_EQ(json_of("L-00000000000000000000000000012345678901234567890L\n."), "-12345678901234567890");
  EXPECT_EQ(json_of("L00000000000000000000000000000000007L\n."), "7");
  EXPECT_EQ(json_of(B("\x8a\x09\0\0\0\0\0\0\0\x80\xff.")), "-9223372036854775808");
}

TEST(Pickle, CutAnywhereIsAnErrorThatSaysSo) {
  for (const char* hex : kProtocols) {
    const std::string whole = from_hex(hex);
    for (size_t n = 0; n < whole.size(); ++n) {
      bool cut = false;
      const auto p = Pickle::run(whole.substr(0, n), "reading p", 0, nullptr, &cut);
      EXPECT_TRUE(!p.ok() && cut && p.error().kind == ErrorKind::kBadInput) << n;
    }
    EXPECT_NE(error_of(whole + "x").find("ends at byte"), std::string::npos);
    size_t end = 0;
    EXPECT_TRUE(Pickle::run("12" + whole + "x", "reading p", 2, &end).ok());
    EXPECT_EQ(end, whole.size() + 2);
  }
}

TEST(Pickle, ObjectsAreRecordsOfNamesAndAttributes) {
  // argparse.Namespace(lr=0.01), an enum's member, a class of __main__ with __slots__.
  const auto p = Pickle::run(B("\x80\x02}(X\x04\0\0\0argscargparse\nNamespace\n)\x81}X\x02\0\0\0lrG?\x84z\xe1G\xae\x14{sbX\x04\0\0\0kindcenums\nKind\nX\x01\0\0\0a\x85RX\x04\0\0\0slot"
                               "c__main__\nOwn\n)\x81N}X\x01\0\0\0xK\x05s\x86""bX\x05\0\0\0""dtypectorch\nbfloat16\nX\x01\0\0\0""dctorch\ndevice\nX\x04\0\0\0""cudaK\x01\x86Ru."),
                             "reading p");
  ASSERT_TRUE(p.ok()) << p.error().message;
  const PickleValue& root = p->root();
  EXPECT_TRUE(root.get("args")->object()->callable->is_global("argparse", "Namespace"));
  EXPECT_EQ(root.get("args")->get("lr")->as_number(), 0.01);
  EXPECT_EQ(root.get("slot")->get("x")->as_int(), 5);
  EXPECT_TRUE(root.get("kind")->is_call_of("enums", "Kind"));
  EXPECT_EQ(root.get("none"), nullptr);
  std::map<std::string, std::string> values;
  ASSERT_TRUE(flatten_pickle(*p, root, "at", "reading p", [](const std::string&, const PickleValue&) { return Result<bool>(false); }, &values).ok());
  EXPECT_EQ(values, (std::map<std::string, std::string>{{"at/args/lr", "0.01"}, {"at/kind", "{\"call\": \"enums.Kind\", \"args\": [\"a\"]}"}, {"at/slot/x", "5"},
                                                        {"at/dtype", "\"torch.bfloat16\""}, {"at/d", "\"cuda:1\""}}));
}

TEST(Pickle, CodeIsRefusedByItsName) {
  const std::pair<std::string, std::string> all[] = {
      {"cos\nsystem\n(S'true'\ntR.", "os.system"}, {"cposix\nsystem\n(S'true'\ntR.", "posix.system"}, {"c__builtin__\neval\n(S'1'\ntR.", "__builtin__.eval"},
      {"cbuiltins\nexec\n(S'1'\ntR.", "builtins.exec"}, {"csubprocess\nPopen\n(S'true'\ntR.", "subprocess.Popen"}, {"(S'true'\nios\nsystem\n.", "os.system"},
      {B("\x80\x04\x8c\x13torch.serialization\x8c\x09os.system\x93."), "torch.serialization.os.system"},
      {"cnt\nsystem\n.", "nt.system"}, {"cimportlib\nimport_module\n.", "importlib.import_module"}, {"ctorch\nload\n.", "torch.load"}};
  for (const auto& [bytes, name] : all)
    EXPECT_NE(error_of(bytes).find("the pickle asks to call " + name + ": not run, file refused"), std::string::npos) << error_of(bytes);
}

// getattr(c, 'name') of a global, or of what the bytes make.
std::string attribute(const std::string& of, const std::string& name) { return "cbuiltins\ngetattr\n(" + of + "S'" + name + "'\ntR"; }

TEST(Pickle, GetattrNamesWhatIsNotCalled) {
  const std::string role = "c__main__\nRole\n", object = role + ")\x81";
  const auto p = Pickle::run(attribute(attribute(role, "Inner"), "system") + ".", "reading p");
  ASSERT_TRUE(p.ok()) << p.error().message;
  EXPECT_TRUE(p->root().is_global("__main__", "Role.Inner.system")) << "a class's own, as protocol 4 names it";
  const auto made = Pickle::run(attribute(role, "Inner") + ")\x81.", "reading p");
  ASSERT_TRUE(made.ok()) << made.error().message;
  EXPECT_TRUE(made->root().is_call_of("__main__", "Role.Inner"));
  const auto method = Pickle::run(attribute(object, "system") + ".", "reading p");
  ASSERT_TRUE(method.ok()) << method.error().message;
  EXPECT_TRUE(method->root().is_call_of("builtins", "getattr"));
}

TEST(Pickle, GetattrOfCodeIsRefused) {
  const std::string role = "c__main__\nRole\n", object = role + ")\x81";
  const std::pair<std::string, std::string> all[] = {
      {attribute("crandom\n_os\n", "system"), "random._os.system"},
      {attribute("cos\npath\n", "join"), "os.path"},
      {attribute("c__builtin__\nlen\n", "__self__"), "builtins.len.__self__"},
      {attribute("ctorch.serialization\nshutil\n", "rmtree"), "torch.serialization.shutil.rmtree"},
      {attribute("ctorch\nhub\n", "load"), "torch.hub.load"},
      {attribute(role, "__init__"), "__main__.Role.__init__"},
      {attribute(attribute(role, "Inner"), "__globals__"), "__main__.Role.Inner.__globals__"},
      {attribute(role, "eval") + "(S'1'\ntR", "__main__.Role.eval"},
      {attribute(object, "__class__"), "builtins.getattr for '__class__' of an object"},
      {attribute(attribute(object, "os"), "system"), "builtins.getattr for 'system' of an object"},
      {attribute(object, "f") + "(S'1'\ntR", "the method 'f' of an object"},
      {attribute(object, "f") + ")\x81", "the method 'f' of an object"},
      {"cbuiltins\ngetattr\n(" + role + "tR", "builtins.getattr"},
      {"cbuiltins\ngetattr\n(" + role + "S'a'\nNtR", "builtins.getattr"},
      {"cbuiltins\ngetattr\n(" + role + "K\x01tR", "builtins.getattr"},
      {"cfunctools\nreduce\n(cbuiltins\ngetattr\n" + role + "tR", "builtins.getattr"},
      {B("\x80\x04\x8c\x13torch.serialization\x8c\x0dshutil.rmtree\x93"), "torch.serialization.shutil.rmtree"}};
  for (const auto& [bytes, name] : all)
    EXPECT_NE(error_of(bytes + ".").find("the pickle asks to call " + name + ": not run, file refused"), std::string::npos) << name << ": " << error_of(bytes + ".");
}

TEST(Pickle, NamesOfGetattrAreBounded) {
  // The same class asked again and again for the same long name.
  std::string bytes = "cbuiltins\ngetattr\nq\x01(c__main__\nA\nS'" + std::string(900, 'b') + "'\ntq\x02R0";
  for (int i = 0; i < 10'000; ++i) bytes += "h\x01h\x02R0";
  EXPECT_NE(error_of(bytes + "N.").find("copies its own values over and over"), std::string::npos) << error_of(bytes + "N.");
  EXPECT_NE(error_of(attribute("c__main__\nA\n", std::string(2000, 'b')) + ".").find("without a name of reasonable length"), std::string::npos);
}

TEST(Pickle, WhatIsBrokenIsAnError) {
  const std::pair<std::string, std::string> all[] = {
      {"", "claims 1 bytes more"},
      {".", "ends with 0 values"},
      {"NN.", "ends with 2 values"},
      {"(N.", "ends with 1 values"},
      {"a.", "takes a value where none is"},
      {"(a.", "takes a value where none is"},
      {"]N(a.", "takes a value where none is"},
      {"t.", "up to a mark where none is"},
      {"NNa.", "appends to what is no list"},
      {"]NNs.", "sets items of what is no dict"},  // as in CVE-2026-24747
      {B("ctorch\nSize\n)R(NNu."), "sets items of what is no dict"},
      {"}(Nu.", "a key without a value"},
      {"N(N\x90.", "adds to what is no set"},
      {"NN)R.", "calls what is no function"},
      {"ca\nb\nNR.", "with what are no arguments"},
      {"NNb.", "gives a state to what is no object"},
      {"}NbNb.", "a second state"},
      {B("N\x93."), "takes a value where none is"},
      {B("NN\x93."), "names a class by what is no text"},
      {B("h\x01."), "takes number 1 of its memo"},
      {B("Nr\xff\xff\xff\x7f."), "puts a value at number 2147483647"},
      {B("\x8b\xff\xff\xff\x7f."), "claims 2147483647 bytes more"},
      {B("\x8d\xff\xff\xff\xff\xff\xff\xff\xff."), "claims 18446744073709551615 bytes more"},
      {B("\x95\xff\xff\xff\xff\xff\xff\xff\x7fN."), "claims 9223372036854775807 bytes more"},
      {B("\x80\x06N."), "has protocol 6"},
      {B("\x82\x01."), "extension registry"},
      {B("\x97."), "outside itself"},
      {B("\xff"), "opcode 0xff"},
      {"Ix\n.", "'x' for an integer"},
      {B("L") + std::string(100'000, '9') + "L\n.", "for an integer"},
      {B("\x8b\x01\x04\0\0") + std::string(1025, '\x7f') + ".", "an integer of 1025 bytes"},
      {std::string(1'000'000, '('), "nests more than 10000 levels"},
      {B("c") + std::string(5000, 'a') + "\nb\n.", "without a name of reasonable length"},
      {"ccollections\nOrderedDict\n](NNe\x85R.", "of what are no pairs"},
      {B("c_codecs\nencode\nX\x03\0\0\0\xe2\x82\xacX\x06\0\0\0latin1\x86R."), "as latin1 that cannot be"}};
  for (const auto& [bytes, text] : all) EXPECT_NE(error_of(bytes).find(text), std::string::npos) << text << "\n" << error_of(bytes);
}

TEST(Pickle, CirclesDepthAndSharingAreBounded) {
  EXPECT_EQ(json_of("]p0\ng0\na."), "[\"<itself>\"]");
  EXPECT_EQ(json_of("}p0\nS'a'\ng0\ns."), "{\"a\": \"<itself>\"}");
  const auto nested = [](size_t n) { return std::string(n, ']') + std::string(n - 1, 'a') + "."; };
  EXPECT_EQ(json_of(nested(3)), "[[[]]]");
  EXPECT_NE(json_of(nested(1'000'000)).find("nested deeper than 200 levels"), std::string::npos);
  // Each list holds the one before ten times: 10^30 leaves in 700 bytes.
  std::string laughs = "]p0\n";
  for (int i = 0; i < 30; ++i) {
    laughs += "](";
    for (int k = 0; k < 10; ++k) laughs += fmt::format("g{}\n", i);
    laughs += fmt::format("ep{}\n", i + 1);
  }
  // What lies below on the stack goes.
  std::string last = "(" + laughs + "l.";
  EXPECT_NE(json_of(last).find("over and over"), std::string::npos) << json_of(last).substr(0, 200);
  std::map<std::string, std::string> values;
  const auto p = Pickle::run(last, "reading p");
  ASSERT_TRUE(p.ok());
  EXPECT_FALSE(flatten_pickle(*p, p->root(), "", "reading p", [](const std::string&, const PickleValue&) { return Result<bool>(false); }, &values).ok());
  // A list that is made into a set again and again.
  std::string copies = "](" + std::string(10'000, 'N') + "ep0\n0(";
  for (int i = 0; i < 10'000; ++i) copies += "cbuiltins\nset\ng0\n\x85R0";
  EXPECT_NE(error_of(copies + "t.").find("over and over"), std::string::npos);
}

TEST(Pickle, NumpyArraysAreTheirNumbers) {
  // np.arange(6, dtype='>i2').reshape(2, 3, order='F') by protocol 2, with the bytes in Fortran's order.
  const auto array = [](std::string dtype, std::string order, std::string shape, std::string fortran, std::string bytes) {
    return B("\x80\x02") + "cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK" + B("\0") + "\x85" "C" + B("\x01") + "b\x87R(K\x01" + shape + "cnumpy\ndtype\nU\x02" + dtype +
           "\x89\x88\x87R(K\x03U\x01" + order + "NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK" + B("\0") + "tb" + fortran + "C" + static_cast<char>(bytes.size()) + bytes + "tb.";
  };
  EXPECT_EQ(json_of(array("i2", ">", "K\x02K\x03\x86", "\x88", B("\0\x01\0\x02\0\x03\0\x04\0\x05\xff\xff"))), "[[1, 3, 5], [2, 4, -1]]");
  EXPECT_EQ(json_of(array("f2", "<", "K\x02\x85", "\x89", B("\0\x3c\x01\0"))), "[1.0, 5.960464477539063e-08]");
  EXPECT_EQ(json_of(array("b1", "|", ")", "\x89", B("\x01"))), "true");
  // A shape that its bytes do not fill is no array.
  EXPECT_NE(json_of(array("f8", "<", "K\x02\x85", "\x89", "12345678")).find("["), 0U);
}

}  // namespace
}  // namespace ingot
