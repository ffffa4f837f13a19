// Templates that mean harm, or are broken: each ends soon, in one error that says where and what.
#include <gtest/gtest.h>

#include "tokenizer/jinja.h"

namespace ingot {
namespace {

std::string times(std::string_view text, int n) {
  std::string out;
  for (int i = 0; i < n; ++i) out += text;
  return out;
}

struct Case {
  std::string text;
  std::string said;  // in the error; empty: it must render
};

void try_all(const std::vector<Case>& cases) {
  const OrderedJson variables = {{"s", "text"}, {"l", {1, 2, 3}}, {"big", std::string(1 << 20, 'x')}};
  for (const Case& c : cases) {
    const auto out = render_jinja(c.text, variables, {}, {.bytes = int64_t{64} << 20, .steps = 2'000'000});
    const std::string shown = c.text.substr(0, 150);
    if (c.said.empty()) EXPECT_TRUE(out.ok()) << shown << ": " << out.error().message;
    else if (out.ok()) ADD_FAILURE() << shown << "\nrendered " << out->substr(0, 100);
    else EXPECT_NE(out.error().message.find(c.said), std::string::npos) << shown << ": " << out.error().message;
  }
}

TEST(JinjaHostile, DepthOfTheTemplateIsBounded) {
  constexpr int n = 20000;
  try_all({{"{{ " + times("(", n) + "1" + times(")", n) + " }}", "nested deeper"},
           {"{{ " + times("[", n) + times("]", n) + " }}", "nested deeper"},
           {"{{ " + times("{1:", n) + "1" + times("}", n) + " }}", "nested deeper"},
           {"{{ 1" + times(" + 1", n) + " }}", "deeper than"},
           {"{{ 1" + times(" ~ 1", n) + " }}", ""},
           {"{{ 1" + times(" == 1", n) + " }}", ""},
           {"{{ " + times("not ", n) + "1 }}", "deeper than"},
           {"{{ " + times("-", n) + "1 }}", "too deep"},
           {"{{ s" + times(".a", n) + " }}", "deeper than"},
           {"{{ s" + times("[0]", n) + " }}", "deeper than"},
           {"{{ s" + times("()", n) + " }}", "deeper than"},
           {"{{ s" + times(" | upper", n) + " }}", "deeper than"},
           {"{{ s" + times(" is string is defined", n) + " }}", "cannot follow"},
           {"{{ 1" + times(" if 1 else 1", n) + " }}", "nested deeper"},
           {"{{ 1" + times(" if 1", n) + " }}", "deeper than"},
           {times("{% if 1 %}", n), "nested deeper"},
           {times("{% for i in l %}", n), "nested deeper"},
           {"{% if 0 %}" + times("{% elif 0 %}", n) + "{% endif %}", ""},
           {"{% set " + times("(", n) + "a" + times(")", n) + " = 1 %}", "too deep"},
           {"{{ s" + times("[s", n) + times("]", n) + " }}", "nested deeper"}});
}

TEST(JinjaHostile, CallsInCallsAreBounded) {
  try_all({{"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nested deeper"},
           {"{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{{ f() }}", "nested deeper"},
           {"{% macro f(x) %}{{ g(x) }}{% endmacro %}{% macro g(x) %}{{ f([x]) }}{% endmacro %}{{ f(1) }}", "nested deeper"},
           {"{% for i in l recursive %}{{ loop(l) }}{% endfor %}", "nested deeper"},
           {"{% macro f(a=f()) %}{% endmacro %}{{ f() }}", "nested deeper"},
           {"{% macro f(x) %}{% filter upper %}{% set y %}{% with z = 1 %}{{ f(x) }}{% endwith %}{% endset %}{{ y }}{% endfilter %}{% endmacro %}{{ f(1) }}", "nested deeper"}});
}

TEST(JinjaHostile, ValuesInValuesAreBounded) {
  const std::string ns = "{% set n = namespace(x=1) %}";
  const auto grow = [&](const std::string& by) { return ns + "{% for i in range(100000) %}{% set n.x = " + by + " %}{% endfor %}{{ n.x }}"; };
  try_all({{grow("[n.x]"), "nested deeper"},
           {grow("{'a': n.x}"), "nested deeper"},
           {grow("(n.x, 1)"), "nested deeper"},
           {grow("cycler(n.x)"), "nested deeper"},
           {grow("joiner(n.x)"), "nested deeper"},
           {grow("cycler(n.x).next"), "nested deeper"},
           {grow("[n.x].index"), "nested deeper"},
           {grow("[n.x] | map('string') | batch(1)"), "steps"},
           {ns + "{% for i in range(10000) %}{% for j in [n.x] %}{% set n.x = loop.cycle %}{% endfor %}{% endfor %}", "nested deeper"},
           {ns + "{% for i in range(30) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}", "steps"},
           {ns + "{% for i in range(30) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x | tojson }}", "steps"},
           {ns + "{% for i in range(30) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x == n.x + [] }}", ""},
           {ns + "{% set m = namespace(x=1) %}{% for i in range(30) %}{% set n.x = [n.x, n.x] %}{% set m.x = [m.x, m.x] %}{% endfor %}{{ n.x == m.x }}", "steps"},
           {ns + "{% set n.x = n %}{{ n }}", "steps"},
           {ns + "{% set n.x = [n] %}{% set n.y = {'n': n.x} %}{{ n.y.n[0].y is mapping }}", ""},
           {"{% for i in l %}{{ loop.changed(loop.changed) }}{% endfor %}", ""},
           {ns + "{% for i in l %}{% set n.x = loop %}{% endfor %}{{ n.x.last }}{{ n.x.length }}{{ n.x.changed(n) }}", ""},
           {ns + "{% for i in l recursive %}{% set n.x = loop %}{% endfor %}{{ n.x(l) }}", "within the loop"}});
}

TEST(JinjaHostile, StepsAndMemoryAreBounded) {
  const std::string ns = "{% set n = namespace(x='x') %}";
  try_all({{"{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "steps"},
           {"{{ 'x' * 999999999999 }}", "MiB of memory"},
           {"{{ [1] * 999999999 }}", "MiB of memory"},
           {"{{ big * 9223372036854775807 }}", "MiB of memory"},
           {ns + "{% for i in range(64) %}{% set n.x = n.x + n.x %}{% endfor %}", "line 1"},
           {ns + "{% for i in range(64) %}{% set n.x = n.x ~ n.x %}{% endfor %}", "line 1"},
           {ns + "{% for i in range(99999) %}{% set n.x = [n.x[0], big ~ i] %}{% endfor %}", "line 1"},
           {"{% for i in range(99999) %}{{ big }}{% endfor %}", "line 1"},
           {"{{ range(99999) | join(big) }}", "MiB of memory"},
           {"{{ big | replace('', big) }}", "MiB of memory"},
           {"{{ big.join(big) }}", "MiB of memory"},
           {"{{ 'a'.center(999999999999) }}", "MiB of memory"},
           {"{{ 'a'.zfill(999999999999) }}", "MiB of memory"},
           {"{{ '\\t'.expandtabs(999999999999) }}", "MiB of memory"},
           {"{{ '{:999999999}'.format(1) }}", "larger than"},
           {"{{ '%999999999d' % 1 }}", "larger than"},
           {"{{ '%.999999999f' % 1 }}", "larger than"},
           {"{{ '{:.99999f}'.format(1) | length }}", ""},
           {"{{ s | indent(999999999999) }}", "MiB of memory"},
           {"{{ l | tojson(indent=999999999999) }}", "indent"},
           {"{{ l | slice(999999999999) | list }}", "line 1"},
           {"{{ l | batch(999999999999, 0) | list }}", "MiB of memory"},
           {"{{ range(999999999) }}", "more than 100000 numbers"},
           {"{{ range(-9223372036854775807, 9223372036854775807, 9223372036854775807) | list }}", ""},
           {"{{ 9223372036854775807 + 1 }}", "64 bits"},
           {"{{ 9999 ** 9999 }}", "64 bits"},
           {"{{ -(-9223372036854775807 - 1) }}", "64 bits"},
           {"{{ (-9223372036854775807 - 1) // -1 }}", "64 bits"},
           {"{{ (-9223372036854775807 - 1) % -1 }}", ""},
           {"{{ s[9223372036854775807:-9223372036854775807:9223372036854775807] }}{{ l[::-9223372036854775807] }}", ""},
           {"{{ strftime_now('%99999999d') }}", ""},
           {"{{ (big ~ 'y') in big }}{{ big.find('xy') }}{{ big.rfind('xy') }}{{ big.count('xx') }}{{ big.rsplit('xy', 5) | length }}", ""},
           {"{% for i in range(20000) %}{% macro f() %}{% endmacro %}{% endfor %}", ""},
           {"{{ 99999999999999999999 }}", "64 bits"}});
}

TEST(JinjaHostile, AnErrorNamesItsLineAndWhatWasMet) {
  try_all({{"a\nb\n{{ x.y }}", "line 3: 'x' is undefined"},
           {"\n{{ s.x.y }}", "line 2: 'str' has no attribute 'x'"},
           {"\n\n{% for a in l %}\n{{ a b }}", "line 4: expected '}}', found \"b\""},
           {"{% if s %}\n\n", "line 2: the template ends without '{% elif %}' or '{% else %}' or '{% endif %}', for what line 1 began"},
           {"{% include 'x' %}", "'{% include %}' is not supported"},
           {"\n{{ s | nope }}", "line 2: there is no filter named \"nope\""},
           {"{{ raise_exception('Roles must alternate') }}", "line 1: the template refuses: Roles must alternate"},
           {"{% macro f(a) %}\n{{ a + 1 }}{% endmacro %}\n{{ f('x') }}", "line 2: 'str' and 'int' have no operator +"},
           {"{{ '\\ud83d' }}", "is no character"},
           {std::string("{{ '\0' }}{{ 1", 13), "'}}' is missing"},
           {"\xff{{ '\xfe' }}", ""}});
}

}  // namespace
}  // namespace ingot
