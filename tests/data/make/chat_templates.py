"""Writes tests/data/chat/conversations.json.xz (chat templates of released models, conversations, and what transformers renders of each pair)
and tests/data/chat/statements.json.xz (small templates, and what its environment renders of them). null: Python has an error.
The templates come from two folders: tokenizer_config.json files in folders named as their models, and NAME.jinja files (llama.cpp has many in
models/templates). Needs transformers (5.24), jinja2 (3.1.6), numpy.
usage: python3 tests/data/make/chat_templates.py CONFIGS TEMPLATES tests/data/chat"""
import datetime, json, lzma, os, random, sys

import transformers.utils.chat_template_utils as utils

NOW = datetime.datetime(2026, 3, 7, 14, 5, 9)


class FixedTime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(*NOW.timetuple()[:6])


utils.datetime = FixedTime

# ---- conversations

WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "The weather of a place, today or later.", "parameters": {
    "type": "object", "properties": {
        "place": {"type": "string", "description": "A city: 東京, \"Köln\" or <Paris> & its like"},
        "days": {"type": "integer", "description": "how many", "default": 1},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "description": "of the temperature"},
        "at": {"type": ["string", "null"], "format": "date-time"}},
    "required": ["place"]}, "return": {"type": "object", "description": "what the sky does"}}}
SEARCH = {"type": "function", "function": {"name": "search", "description": "Looks for pages.", "parameters": {
    "type": "object", "properties": {
        "queries": {"type": "array", "items": {"type": "string"}, "description": "several"},
        "filter": {"type": "object", "properties": {"site": {"type": "string"}, "newer": {"type": "boolean"}}, "required": []},
        "weight": {"type": "number", "minimum": 0.5, "maximum": 1e20}},
    "required": ["queries"]}}}
NO_ARGUMENTS = {"type": "function", "function": {"name": "ping", "description": "", "parameters": {"type": "object", "properties": {}}}}


def user(content, **more):
    return {"role": "user", "content": content, **more}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def system(content):
    return {"role": "system", "content": content}


def tool_call(name, arguments, id=None):
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return {"id": id, **call} if id else call


def tool(content, name="get_weather", id="call00001"):
    return {"role": "tool", "name": name, "tool_call_id": id, "content": content}


CALL = assistant("", tool_calls=[tool_call("get_weather", {"place": "Köln", "days": 2, "unit": "celsius"}, "call00001")])
TWO_CALLS = assistant("Both, then.", tool_calls=[tool_call("get_weather", {"place": "東京"}, "call00001"), tool_call("search", {"queries": ["a", "b's"], "weight": 0.5, "filter": {"newer": True, "site": None}}, "call00002")])

CONVERSATIONS = [
    dict(messages=[user("Hello!")]),
    dict(messages=[system("You are terse."), user("Hello!")]),
    dict(messages=[system("You are terse.\n"), user("  What is 2+2?  "), assistant("4."), user("And 3+3?\n\n")]),
    dict(messages=[user("Hi"), assistant("Hi there. "), user("Bye"), assistant("Bye!")], add_generation_prompt=False),
    dict(messages=[user("日本語 🙂 عربى \u00e9 e\u0301 \u2028 \"quotes\" 'single' <|im_end|> {{ x }} {% y %} \\n")]),
    dict(messages=[system(""), user("")]),
    dict(messages=[user("Hi"), user("Are you there?"), assistant("Yes."), assistant("I am.")]),
    dict(messages=[assistant("I begin."), user("No, I do.")]),
    dict(messages=[user("What is the weather in Köln?")], tools=[WEATHER]),
    dict(messages=[system("Use tools."), user("Both?")], tools=[WEATHER, SEARCH, NO_ARGUMENTS]),
    dict(messages=[user("Weather in Köln?"), CALL, tool('{"sky": "grey", "degrees": 12.5}')], tools=[WEATHER]),
    dict(messages=[system("Use tools."), user("Both?"), TWO_CALLS, tool("sunny"), tool("nothing found", "search", "call00002"), assistant("It is sunny."), user("Thanks")], tools=[WEATHER, SEARCH]),
    dict(messages=[user("Weather?"), assistant(None, tool_calls=[tool_call("ping", "{}", "abcdefghi")]), tool([{"type": "text", "text": "pong"}], "ping", "abcdefghi")], tools=[NO_ARGUMENTS]),
    dict(messages=[user("Think."), assistant("<think>\nHm: 6*7.\n</think>\n\n42"), user("Sure?")], variables={"enable_thinking": True}),
    dict(messages=[user("Think."), assistant("42", reasoning_content="Six by nine?"), user("Sure?"), assistant("Yes", reasoning_content="It is known."), ], variables={"enable_thinking": False}),
    dict(messages=[system("Think hard. /think"), user("Why?")], variables={"enable_thinking": False, "reasoning_effort": "high", "thinking": True, "builtin_tools": ["browser", "python"], "model_identity": "You are a test.", "date_string": "1 Jan 2026"}),
    dict(messages=[user([{"type": "text", "text": "What is in "}, {"type": "text", "text": "these parts?"}])]),
    dict(messages=[system([{"type": "text", "text": "You see."}]), user([{"type": "image", "url": "a.png"}, {"type": "text", "text": "What is in the image?"}]), assistant([{"type": "text", "text": "A cat."}]), user("Sure?")]),
    dict(messages=[{"role": "developer", "content": "Be brief."}, user("Hi"), {"role": "ipython", "content": "3"}, {"role": "critic", "content": "?"}]),
    dict(messages=[user("What do they say?")], documents=[{"title": "Penguins", "text": "They\nswim."}, {"title": "Ants", "contents": "They walk.", "n": 2}], variables={"citation_mode": "fast", "custom_tools": None}),
    dict(messages=[user("a"), assistant("b\n"), user("c"), CALL, tool("d"), assistant("e"), user("f"), assistant("g")], tools=[WEATHER], add_generation_prompt=False),
    dict(messages=[{"role": "user"}, {"content": "no role"}]),
]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}

OWN = {  # forms that many models have
    "chatml": "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "inst": """{% if messages[0]['role'] == 'system' %}
    {% set rest = messages[1:] %}
    {% set first = '<<SYS>>\\n' + messages[0]['content'] | trim + '\\n<</SYS>>\\n\\n' %}
{% else %}
    {% set rest = messages %}
    {% set first = '' %}
{% endif %}
{% for m in rest %}
    {% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('Roles must alternate: user, assistant, user') }}
    {% endif %}
    {% if m['role'] == 'user' %}
        {{ bos_token + '[INST] ' + (first if loop.first else '') + m['content'] | trim + ' [/INST]' }}
    {% else %}
        {{ ' ' ~ m['content'] | trim ~ ' ' ~ eos_token }}
    {% endif %}
{% endfor %}
""",
    "trained": """{%- for m in messages -%}
<|{{ m.role }}|>
{% if m.role == 'assistant' %}
{% generation %}
{{ m.content }}{{ eos_token }}
{% endgeneration %}
{% else %}
{{- m.content }}{{ eos_token }}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}<|assistant|>
{% endif %}
""",
}


def render(template, request):
    try:
        messages = utils._normalize_chat_messages(request["messages"])
        variables = {**SPECIAL, **request.get("variables", {})}
        return utils.render_jinja_template([messages], request.get("tools"), request.get("documents"), template,
                                           add_generation_prompt=request.get("add_generation_prompt", True), **variables)[0][0]
    except Exception as e:
        return None


def templates(configs, folder):
    found = dict(OWN)
    for name in sorted(os.listdir(configs)):
        path = os.path.join(configs, name, "tokenizer_config.json")
        template = json.load(open(path)).get("chat_template") if os.path.exists(path) else None
        for t in template if isinstance(template, list) else [{"name": "", "template": template}] if template else []:
            found[name + ("." + t["name"] if t["name"] else "")] = t["template"]
    for name in sorted(os.listdir(folder)):
        if name.endswith(".jinja"):
            found[name[:-6]] = open(os.path.join(folder, name), newline="").read()
    out, seen = {}, set()
    for name, text in found.items():
        if text not in seen:
            out[name] = text
            seen.add(text)
    return out


# ---- statements

VARIABLES = {
    "s": "Hello, World", "e": "", "u": "Grüße, 世界 🙂 e\u0301", "sp": "  \t pad\u00a0ded \n", "lines": "one\n  two\r\n\nthree\n", "n": 7, "z": 0, "neg": -3,
    "f": 2.5, "big": 1e20, "small": 1.5e-7, "t": True, "no": None, "l": [3, 1, 2], "w": ["b", "A", "c", "a"], "x": [], "d": {"b": 1, "a": [1, 2], "items": "mine", "c d": None},
    "m": [{"role": "system", "n": 3, "in": {"k": "z"}}, {"role": "user", "n": 1, "in": {"k": "y"}}, {"role": "USER", "n": 2, "in": {}}, {"role": "user", "n": 1}],
    "deep": {"a": [{"b": {"c": [1, {"d": "é\"\n<&>'"}]}}], "x": [], "y": {}, "f": [1.0, 0.1, 1e16, 1e-5, -0.0], "b": [True, False, None]},
}

# Expressions, each tried as {{ expression }}.
EXPRESSIONS = r"""
1 ## 007 ## 0x1f ## 0b101 ## 0o17 ## 1_000 ## 1.5 ## 1e3 ## 1.5e-7 ## 1e16 ## 123456789012345.0 ## 1e22 ## 1_0.2_5 ## 'a' 'b' ## "a\n\t\\\"\x41\u00e9\101\q" ## true ## True ## none ## None ## false
[1, 'a', none, true, 1.0] ## (1,) ## (1, 2) ## () ## {} ## {'a': 1, 2: 'b', none: true} ## {'a': {'b': []}} ## [[], {}, ()] ## ['it\'s', "say \"hi\"", 'both \' and "', '\n\t\\', '\u200b\u00e9🙂\x07']
1 + 2 * 3 ## (1 + 2) * 3 ## 7 // 2 ## -7 // 2 ## 7 % 3 ## -7 % 3 ## 7 % -3 ## 7 / 2 ## 6 / 2 ## 2 ** 10 ## 2 ** -1 ## 2 ** 3 ** 2 ## -2 ** 2 ## 7.5 // 2 ## -7.5 % 2 ## 1 / 0 ## 1 // 0 ## 1 % 0 ## 1.0 / 0 ## 0.1 + 0.2 ## 1e308 * 10 ## 2 ** 0.5 ## true + 1 ## 3 - -3 ## +3 ## -f ## - s ## 3 * 'ab' ## 'ab' * 3 ## [1] * 2 ## 'a' * -1 ## 'a' + 1 ## 1 + 'a' ## [1] + [2] ## [1] + (2,) ## (1,) + (2,) ## none + 1 ## 'a' ~ 1 ~ none ~ 2.0 ~ [1] ## 1 ~ missing ~ 2
1 < 2 ## 1 < 2 < 3 ## 1 < 3 < 2 ## 1 == 1.0 ## 1 == true ## '1' == 1 ## 'a' < 'b' ## 'é' > 'z' ## [1, 2] < [1, 3] ## [1] == [1] ## (1,) == [1] ## {'a': 1, 'b': 2} == {'b': 2, 'a': 1} ## none == none ## none < 1 ## 'a' < 1 ## 1 != 2 != 1 ## not 1 == 2 ## 1 in [1] ## 'a' in 'cat' ## 'b' not in 'cat' ## 1 in 'cat' ## 'a' in {'a': 1} ## [1] in {} ## 1 in none ## 1 in 5 ## not 'a' in 'b' ## 1 in (1, 2) ## missing in [1] ## 1 in missing ## missing == other ## missing == none ## missing != 1 ## missing < 1
1 and 2 ## 0 and 2 ## 0 or 2 ## '' or none or [] ## not '' ## not [0] ## 1 if true ## 1 if false ## 1 if false else 2 ## 1 if 0 else 2 if 0 else 3 ## (1 if false) is defined ## 'a' if no is none else 'b' ## 1 if 2 else 3 | string
s[0] ## s[-1] ## s[99] ## s[1:4] ## s[::-1] ## s[:-2] ## s[-5:] ## s[::2] ## s[5:1:-1] ## u[0:4] ## u[-3:] ## u[2] ## u | length ## u[::-1] ## l[0] ## l[5] ## l[-1] ## l[1:] ## l[::-1] ## l[:99] ## l['a'] ## l[none] ## l[1.0] ## l[true] ## d['b'] ## d['zz'] ## d.b ## d.zz ## d.a[1] ## d.a.1 ## d['c d'] ## d[1] ## d[[1]] ## d['items'] ## d.items is string ## d.items() | list ## (1, 2, 3)[1:] ## l[1:2:0] ## l['a':] ## no[1:] ## missing[1:] ## missing.a ## missing['a'] ## no.a ## no['a'] ## no.a.b ## n.a ## s.a ## s.a.b ## l.a ## s['upper'] is defined ## d['keys'] is defined ## m[0].role ## m[0]['in'].k ## m[2].in.k ## m[-1].in ## m[1:3] | length
s.upper() ## s.lower() ## s.title() ## s.capitalize() ## s.swapcase() ## u.upper() ## u.lower() ## u.title() ## 'straße'.upper() ## "they're bill's".title() ## sp.strip() ## sp.lstrip() ## sp.rstrip() ## 'xxaxx'.strip('x') ## 'abcba'.strip('ab') ## 'xya'.lstrip('yx') ## 'axy'.rstrip('yx') ## 'a'.strip(none) ## s.strip(1) ## s.split() ## s.split(',') ## s.split(', ', 1) ## 'a,b,c'.split(',', 1) ## 'a,b,c'.rsplit(',', 1) ## 'a,b,c'.split(',', maxsplit=1) ## ' a  b c '.split() ## ' a  b c '.split(none, 1) ## ' a  b c '.rsplit(none, 1) ## ' a  b c '.rsplit() ## ''.split() ## ''.split(',') ## 'abc'.split('') ## 'a</think>b</think>c'.split('</think>')[-1] ## 'a</think>b'.split('</think>')[0].split('<think>')[-1].lstrip('\n')
s.startswith('Hell') ## s.endswith(('d', 'x')) ## s.startswith('W', 7) ## s.startswith('') ## s.startswith(1) ## s.endswith('World', 0, 5) ## s.find('o') ## s.find('o', 5) ## s.find('zz') ## s.rfind('o') ## s.index('W') ## s.index('zz') ## s.count('l') ## s.count('') ## u.find('世') ## u.count('') ## s.replace('l', 'L') ## s.replace('l', 'L', 1) ## s.replace('', '-') ## u.replace('', '-', 2) ## s.replace('l') ## ', '.join(w) ## ','.join('abc') ## ','.join([1]) ## ''.join([]) ## 'abc'.partition('b') ## 'abc'.rpartition('x') ## 'a-b-c'.rpartition('-') ## 'ab'.center(7, '*') ## 'abc'.center(6) ## 'ab'.ljust(4) ~ '|' ## 'ab'.rjust(4) ## '-5'.zfill(5) ## 'a\tb'.expandtabs(4) ## lines.splitlines() ## lines.splitlines(true) ## 'a\u2028b\x0bc\x85d'.splitlines() ## 'prefix-x'.removeprefix('prefix-') ## 'x.gguf'.removesuffix('.gguf') ## s.isalpha() ## 'abc1'.isalnum() ## '12'.isdigit() ## '²'.isdigit() ## '½'.isnumeric() ## '½'.isdigit() ## ' \t'.isspace() ## ''.isspace() ## 'A1'.isupper() ## '1'.isupper() ## 'Ab Cd'.istitle() ## 'a_1'.isidentifier() ## '1a'.isidentifier() ## 'é'.isascii() ## '\n'.isprintable() ## 'ab'.foo() ## s.upper(1) ## s.upper ## s.encode is defined and false
'{} {}'.format(1, 'a') ## '{1} {0}'.format(1, 2) ## '{a} {b}'.format(a=1, b=[2]) ## '{:>5}|{:<5}|{:^5}|'.format('a', 'b', 'c') ## '{:*^7}'.format(12) ## '{:05d} {:+d} {:x} {:X} {:#x} {:b} {:o} {:,} {:_}'.format(42, 42, 255, 255, 255, 5, 8, 1234567, 1234567) ## '{:.2f} {:8.3f} {:e} {:g} {:%} {:.0%} {:.3}'.format(3.14159, 2.5, 12345.678, 0.0001, 0.5, 0.256, 1234.5) ## '{:.3}'.format('abcdef') ## '{!r} {!s}'.format('a', 'b') ## '{0[k]} {0.k} {1[0]}'.format({'k': 1}, [2]) ## '{{}} {{{}}}'.format(1) ## '{:{}}|'.format('a', 4) ## '{'.format(1) ## '}'.format(1) ## '{}'.format() ## '{a}'.format(b=1) ## '{} {0}'.format(1) ## '{:d}'.format('a') ## '{:d}'.format(1.5) ## '{:s}'.format(1) ## '{:>4}'.format(none) ## '{}'.format(none) ## '{:5}|{:5}|'.format(1, true) ## '{:.1f}'.format(3) ## '{:,.2f}'.format(1234567.891) ## '{:c}'.format(65) ## '{a[b c]}'.format(a={'b c': 1}) ## '{}'.format_map({'a': 1}) ## '{a}'.format_map({'a': 1})
'%s %s' % (1, 'a') ## '%s' % 'a' ## '%d' % 3.7 ## '%5d|%-5d|%05d|%+d' % (1, 2, 3, 4) ## '%.2f %e %g' % (1.005, 12345.6, 0.00001) ## '%x %X %o %#x' % (255, 255, 8, 255) ## '%r' % 'a' ## '%(a)s %(b)d' % {'a': 1, 'b': 2} ## '%%' % () ## '%s' % (1, 2) ## '%s %s' % 1 ## '%d' % 'a' ## '%c%c' % (65, 'b') ## '%5.1s|' % 'abc' ## '%s' % [1, 2] ## '%' % 1 ## '%q' % 1 ## '%*d' % (5, 1) ## '%s' % none ## '%.3d' % 5 ## '%s' | format('x') ## '%s %d' | format('x', 3) ## '%(a)s' | format(a=1) ## 5 % 'a'
d.keys() ## d.values() ## d.items() ## d.keys() | list ## d.get('b') ## d.get('q') ## d.get('q', 5) ## d.get() ## d.get([1]) ## d.copy() == d ## d.pop('b') ## d.update({}) ## d.pop is defined ## d.items()[0] ## d.items() | length ## d.keys() is sequence ## d.keys() is iterable ## l.index(2) ## l.index(9) ## l.count(3) ## l.append(1) ## l.append ## l.sort() ## l.copy() ## (1, 2).index(2) ## d.__class__ ## s.__class__ ## s.__class__.x ## d.fromkeys is defined and false
n is odd ## n is even ## n is divisibleby 7 ## n is divisibleby(3) ## s is string ## s is not string ## n is number ## t is number ## t is integer ## n is integer ## f is float ## no is none ## missing is none ## missing is defined ## missing is undefined ## missing is not defined ## d is mapping ## l is mapping ## l is sequence ## s is sequence ## d is sequence ## n is iterable ## s is iterable ## missing is iterable ## missing is sequence ## range is callable ## s is callable ## t is true ## t is false ## n is true ## no is boolean ## false is boolean ## 'abc' is lower ## 'ABC' is upper ## n is eq 7 ## n is equalto(7) ## n is ne 7 ## n is gt 3 ## n is lessthan 3 ## n is ge(7) ## 1 is in [1, 2] ## 'x' is in 'xyz' ## 'upper' is filter ## 'nope' is filter ## 'defined' is test ## no is sameas none ## t is sameas true ## 1 is sameas true ## l is sameas l ## l is sameas [3, 1, 2] ## s is escaped ## (s | safe) is escaped ## s is odd ## n is nope ## n is defined is defined ## n is not none and s is string ## n is odd or true ## none is none is none ## s is string and missing is not defined and n in [7]
s | upper ## s | lower ## s | title ## 'foo-bar (baz) <qux>' | title ## s | capitalize ## n | upper ## no | trim ## missing | trim ## sp | trim ## 'xax' | trim('x') ## 'xax' | trim(chars='x') ## s | replace('l', 'L') ## s | replace('l', 'L', 2) ## 'aaa' | replace('a', 'b', count=1) ## 123 | replace(2, 5) ## s | length ## l | count ## no | length ## missing | length ## n | length ## d | length ## s | first ## s | last ## l | first ## l | last ## x | first ## x | last ## x | first | default('none') ## d | first ## missing | first ## 5 | first ## l | reverse | list ## s | reverse ## l | sort ## l | sort(reverse=true) ## w | sort ## w | sort(case_sensitive=true) ## w | sort(true) ## m | sort(attribute='n') | map(attribute='n') | list ## m | sort(attribute='n,role') | map(attribute='role') | list ## m | sort(attribute='in.k') | list ## [1, 'a'] | sort ## l | join(',') ## l | join ## m | join(',', attribute='role') ## s | join('-') ## missing | join(',') ## no | join(',') ## l | list ## s | list ## d | list ## 5 | list ## l | sum ## m | sum(attribute='n') ## l | sum(start=10) ## x | sum ## w | sum ## l | min ## l | max ## w | min ## w | max(case_sensitive=true) ## x | min ## m | max(attribute='n') ## m | map(attribute='role') | list ## m | map(attribute='in.k', default='-') | list ## m | map(attribute='zz') | list ## w | map('upper') | list ## w | map('replace', 'a', 'x') | join ## l | map('string') | list ## w | map('nope') | list ## w | map | list ## x | map('nope') | list ## m | selectattr('role', 'equalto', 'user') | list | length ## m | selectattr('n', 'gt', 1) | map(attribute='n') | list ## m | selectattr('in') | list | length ## m | rejectattr('role', '==', 'user') | map(attribute='role') | list ## m | selectattr('zz', 'defined') | list ## m | selectattr('in.k', 'undefined') | list ## m | rejectattr('in', 'defined') | list ## l | select('odd') | list ## l | reject('odd') | list ## l | select('gt', 1) | list ## [0, 1, '', 'a', none] | select | list ## [0, 1, '', 'a', none] | reject | list ## l | select('nope') | list ## l | select('odd') | length ## l | select('odd') | first ## l | select('odd') | last ## (l | select('odd'))[0] ## missing | selectattr('a') | list ## no | selectattr('a') | list ## m | selectattr('role', 'in', ['user', 'x']) | list | length ## l | unique | list ## ['a', 'A', 'b', 'a'] | unique | list ## ['a', 'A'] | unique(true) | list ## m | unique(attribute='role') | map(attribute='n') | list ## [[1], [1]] | unique | list ## [1, true, 1.0] | unique | list
m | groupby('role') ## m | groupby('role') | map('first') | list ## m | groupby('role', case_sensitive=true) | map(attribute='grouper') | list ## m | groupby('in.k', default='?') | map(attribute='list') | map('length') | list ## m | groupby('n') | map(attribute=0) | list ## d | dictsort ## d | dictsort(reverse=true) ## {'b': 1, 'A': 3, 'a': 2} | dictsort ## {'b': 1, 'A': 3} | dictsort(true) ## {'b': 1, 'A': 3} | dictsort(by='value') ## {'b': 1, 'A': 3} | dictsort(by='x') ## no | dictsort ## d | items | list ## missing | items | list ## l | items | list ## range(5) | batch(2) | list ## range(5) | batch(2, 'x') | list ## range(7) | slice(3) | list ## range(7) | slice(3, 'x') | list ## range(2) | slice(0) | list ## l | attr('sort') ## s | attr('upper') ## d | attr('b')
no | default('x') ## missing | default('x') ## missing | default ## no | default('x', true) ## e | d('x', boolean=true) ## z | default(5, true) ## missing.a | default('x') ## d.q | default('x') ## d.q.r | default('x') ## '42' | int ## '42.7' | int ## 'x' | int ## 'x' | int(5) ## '0x1f' | int(base=16) ## '1f' | int(0, 16) ## '0b11' | int(base=0) ## ' 5 ' | int ## '1_000' | int ## 3.9 | int ## -3.9 | int ## none | int ## true | int ## [] | int ## missing | int ## 1e400 | int ## '1e3' | int ## 'inf' | int ## '3.5' | float ## 'x' | float ## 'x' | float(1.5) ## 3 | float ## '1e3' | float ## 'nan' | float ## '-inf' | float ## none | float ## -3 | abs ## -3.5 | abs ## s | abs ## 2.5 | round ## 3.5 | round ## 2.675 | round(2) ## 42.55 | round(1, 'floor') ## 42.55 | round(1, 'ceil') ## 42.55 | round(method='ceil') ## 5 | round ## 1234 | round(-2) ## 2.5 | round | int ## 'a' | round ## 1.5 | round(1, 'x') ## 5 | string ## [1] | string ## no | string ## missing | string ## 5.0 | string ## '<a href="x">\'&</a>' | escape ## '<a>' | e | e ## '<a>' | e | forceescape ## '<a>' | safe ## ('<a>' | safe) + '<b>' ## '<b>' + ('<a>' | safe) ## ('<a>' | safe) ~ '<b>' ## ('<%s>' | safe) % 1 ## ('a' | safe).upper() ## [('a' | safe)] ## lines | indent ## lines | indent(2) ## lines | indent(2, true) ## lines | indent(2, first=true, blank=true) ## lines | indent('> ') ## '' | indent ## 5 | indent ## 'a b c d e f g h' | truncate(9) ## 'abcdefghijklmnop' | truncate(9, true) ## 'a b c d e f g' | truncate(9, false, '', 0) ## 'abc' | truncate(2) ## 'abc' | truncate(3, end='....') ## u | truncate(6, true, '…', 0) ## 'a b, c' | wordcount ## 'ab' | center(6) ~ '|' ## 'a b/ü&=' | urlencode ## {'a b': 'c/d', 'e': 1} | urlencode ## 1 | filesizeformat ## 1000 | filesizeformat ## 123456789 | filesizeformat(true) ## 500 | filesizeformat ## s | nope ## s | upper(1) ## s | replace ## s | trim(1)
deep | tojson ## d | tojson ## l | tojson(indent=2) ## deep | tojson(indent=4) ## deep | tojson(2) ## deep | tojson(false, 2) ## u | tojson ## u | tojson(ensure_ascii=true) ## deep | tojson(sort_keys=true) ## d | tojson(separators=(',', ':')) ## deep | tojson(indent=0) ## deep | tojson(indent='\t') ## l | tojson(separators=[' ; ', '=']) ## missing | tojson ## d.q | tojson ## (1, 2) | tojson ## range(3) | tojson ## d.keys() | tojson ## d.keys() | list | tojson ## {1: 2, none: 3, true: 4, 1.5: 5} | tojson ## {(1, 2): 3} | tojson ## 'a/b\\"\x00\x1f\x7f\u2028' | tojson ## 1e20 | tojson ## 1e15 | tojson ## 'nan' | float | tojson ## none | tojson ## [] | tojson(indent=2) ## {} | tojson(indent=2) ## '<&>' | tojson ## true | tojson ## {'b': 1, 'a': 2} | tojson(sort_keys=true) ## {1: 1, 'a': 2} | tojson(sort_keys=true) ## deep.a[0].b | string
range(3) ## range(1, 4) | list ## range(5, 0, -2) | list ## range(3)[1] ## range(10)[2:5] ## range(10)[::3] | list ## range(0) | list ## range(100001) ## range(1, 2, 0) ## range('a') ## range() ## 2 in range(3) ## range(3) | sum ## dict(a=1, b=2) ## dict([('a', 1)]) ## dict({'a': 1}, b=2) ## dict([1]) ## namespace(a=1).a ## namespace(a=1).b ## namespace(a=1)['a'] ## namespace(a=1, b=[1]) ## namespace(_a=1) ## namespace({'x': 1}).x ## cycler('a', 'b').next() ## cycler() ## joiner() () ## raise_exception('no') ## raise_exception() ## strftime_now('%d %b %Y') ## strftime_now('%Y-%m-%d %H:%M:%S %A %B %j %%') ## lipsum is defined and false ## nope() ## s() ## no() ## none.x() ## [1, 2](0) ## not_there.y() ## (1, 2) | length ## 'a' | upper | lower ~ 'B' ## -1 | abs ## -n | abs ## n | string + 'a' ## not missing ## 'a' 'b' ~ 'c' ## {'a': 1}.a ## [1, 2][0] ## 'abc'[1] ## (1, 2)[0] ## 'a'.upper().lower() ## 1.5.real is defined and false ## 1.foo ## d.b.c
f ## big ## small ## 100000000000000000000.0 ## 12345678901234567.0 ## 0.1 ## 1.0 ## -0.0 ## 1e-5 ## 0.0001 ## 123456.789e3 ## no ## t ## l ## d ## m[0] ## deep ## s ## x ## e ## missing ## sp ## (1.0, 2) ## {1.5: 1e100} ## 9007199254740993 ## 9223372036854775807 ## -9223372036854775807 - 1
""".strip()

STATEMENTS = [
    "{% for i in l %}{{ i }}{% endfor %}", "{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }};{% endfor %}",
    "{% for i in l %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }};{% endfor %}", "{% for i in l %}{{ loop.cycle('a', 'b') }}{{ loop.depth }}{{ loop.depth0 }}{% endfor %}",
    "{% for i in [1,1,2,2,1] %}{{ loop.changed(i) }},{% endfor %}", "{% for i in x %}a{% else %}none{% endfor %}", "{% for i in l %}a{% else %}none{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }};{% endfor %}", "{% for k, v in d | dictsort %}{{ k }}{% endfor %}", "{% for a, b in [[1, 2], (3, 4), 'xy'] %}{{ a }}-{{ b }};{% endfor %}",
    "{% for a, (b, c) in [[1, [2, 3]]] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, b in [[1, 2, 3]] %}{{ a }}{% endfor %}", "{% for a, b in [1] %}{% endfor %}", "{% for i in 5 %}{% endfor %}", "{% for i in none %}{% endfor %}",
    "{% for i in missing %}a{% else %}b{% endfor %}", "{% for c in u %}[{{ c }}]{% endfor %}", "{% for i in l if i > 1 %}{{ i }}:{{ loop.index }}/{{ loop.length }};{% endfor %}", "{% for i in l if i > 9 %}a{% else %}b{% endfor %}",
    "{% for i in range(6) if i is odd %}{{ i }}{{ ',' if not loop.last }}{% endfor %}", "{% for i in l %}{% if i == 1 %}{% break %}{% endif %}{{ i }}{% endfor %}", "{% for i in l %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in l %}{% continue %}{% else %}e{% endfor %}", "{% for i in l %}{% break %}{% else %}e{% endfor %}", "{% for i in l %}{{ i }}{% break %}{% endfor %}{{ i }}", "{% break %}", "{% if true %}{% continue %}{% endif %}",
    "{% for i in l %}{% for j in l %}{{ i }}{{ j }}{{ loop.index }} {% endfor %}{{ loop.index }}{% endfor %}", "{% for i in l %}{% set a = i %}{% endfor %}{{ a }}", "{% set a = 0 %}{% for i in l %}{% set a = a + i %}{{ a }}{% endfor %}{{ a }}",
    "{% set ns = namespace(a=0) %}{% for i in l %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}", "{% set ns = namespace() %}{% set ns.x = 1 %}{{ ns.x }}{{ ns.y }}{{ ns }}", "{% set d.x = 1 %}", "{% set q.x = 1 %}", "{% set ns = namespace() %}{% set ns.__x = 1 %}",
    "{% set ns = namespace(stop=false) %}{% for i in range(5) if not ns.stop %}{{ i }}{% if i == 2 %}{% set ns.stop = true %}{% endif %}{% endfor %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = [1, 2] %}{{ b }}", "{% set a, b = [1] %}", "{% set (a, b) = (1, 2) %}{{ a }}", "{% set a = 1, %}{{ a }}", "{% set a %}x{{ n }}y{% endset %}{{ a }}{{ a | length }}", "{% set a | upper %}xy{% endset %}{{ a }}", "{% set a | replace('x', 'z') | upper %}xy{% endset %}{{ a }}",
    "{% set ns = namespace() %}{% set ns.a, b = 1, 2 %}{{ ns.a }}{{ b }}", "{% set a = 1 if false %}{{ a is defined }}", "{% set x = 1 %}{{ x }}", "{% set true = 1 %}", "{% set 'a' = 1 %}", "{% if not q is defined %}{% set q = 5 %}{% endif %}{{ q }}", "{% if no %}{% set s = 1 %}{% endif %}{{ s }}", "{% if n %}{% set s = 1 %}{% endif %}{{ s }}",
    "{% if n %}a{% elif s %}b{% else %}c{% endif %}", "{% if z %}a{% elif e %}b{% else %}c{% endif %}", "{% if z %}a{% elif s %}b{% endif %}", "{% if missing %}a{% endif %}", "{% if missing.x %}a{% endif %}", "{% if x %}a{% elif l, %}b{% endif %}",
    "{% macro f(a, b=2, c=none) %}{{ a }},{{ b }},{{ c }}{% endmacro %}{{ f(1) }};{{ f(1, c=3) }};{{ f() }};{{ f(a=5, b=6) }};{{ f(*[1, 2], **{'c': 9}) }}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(b=2) }}", "{% macro f(a) %}{% endmacro %}{{ f(1, a=2) }}",
    "{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, x=3) }}", "{% macro f(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}", "{% macro f(a, b=1, c) %}{% endmacro %}", "{% macro f(x) %}{% if x > 0 %}{{ x }}{{ f(x - 1) }}{% endif %}{% endmacro %}{{ f(4) }}", "{% macro f() %}a{% endmacro %}{{ f }}{{ f() | upper }}{{ f() ~ 'b' }}",
    "{% macro f(t) %}<{{ caller() }}>{{ t }}{% endmacro %}{% call f(1) %}body{{ n }}{% endcall %}", "{% macro f() %}{% for i in l %}{{ caller(i, x=2) }}{% endfor %}{% endmacro %}{% call(i, x) f() %}[{{ i }}{{ x }}]{% endcall %}", "{% macro f() %}{{ caller is defined }}{% endmacro %}{{ f() }}", "{% macro f() %}a{% endmacro %}{% call f() %}b{% endcall %}", "{% macro f() %}{{ caller() }}{% endmacro %}{{ f() }}", "{% call s %}{% endcall %}",
    "{% set g = 1 %}{% macro f() %}{{ g }}{% endmacro %}{% set g = 2 %}{{ f() }}", "{% macro f() %}{{ g }}{% endmacro %}{% for g in l %}{{ f() }}{% endfor %}", "{% for g in l %}{% macro f() %}{{ g }}{% endmacro %}{{ f() }}{% endfor %}", "{% macro f() %}{% set s = 'in' %}{{ s }}{% endmacro %}{{ f() }}{{ s }}", "{% macro f(l) %}{{ l }}{% endmacro %}{{ f(1) }}{{ l }}", "{% macro f(a) %}{{ f.name if false }}{{ a }}{% endmacro %}{{ [1, 2] | map('string') | join }}{{ f(f(f('x'))) }}",
    "{% for i in l %}{% set a %}x{% if i == 1 %}{% break %}{% endif %}{% endset %}{{ a }}{% endfor %}|{{ a }}", "{% for i in l %}{% filter upper %}a{{ i }}{% if i == 1 %}{% continue %}{% endif %}{% endfilter %}{% endfor %}", "{% for i in l %}{% with %}{% break %}{% endwith %}{% endfor %}{{ i }}", "{% for i in l %}{% call range(1) %}{% break %}{% endcall %}{% endfor %}",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q }}", "{% with a = 1, b = a %}{{ b }}{% endwith %}", "{% filter upper %}abc{{ s }}{% endfilter %}", "{% filter replace('a', 'b') | upper %}aXa{% endfilter %}", "{% filter nope %}a{% endfilter %}", "{% filter upper %}{% set q = 1 %}{% endfilter %}{{ q }}",
    "{% for i in m recursive %}{{ i.role }}{% endfor %}", "{% for i in [[1, [2, [3]]], [4]] recursive %}{% if i is iterable %}({{ loop(i) }}){% else %}{{ i }}@{{ loop.depth }}{% endif %}{% endfor %}", "{% for i in l %}{{ loop(l) }}{% endfor %}", "{% for loop in l %}{% endfor %}", "{{ loop }}", "{% for i in l %}{{ loop }}{% endfor %}",
    "{% raw %}{{ x }} {% y %}{# z #}{% endraw %}", "a\n{% raw %}\n b \n{% endraw %}\nc", "a {%- raw -%} b {%- endraw -%} c", "{% raw %}a", "{# comment #}a", "a\n{# comment #}\nb", "a {#- comment -#} b", "a\n  {# c #}  \nb", "{# a", "{# {{ x }} {% y %} #}z",
    "a\n{% if true %}\nb\n{% endif %}\nc", "a\n  {% if true %}  \n  b\n  {% endif %}\nc\n", "a {%- if true -%} b {%- endif -%} c", "a\n\n{%- if true %}\n\n b{% endif -%}\n\n c", "  {%+ if true %}a{% endif %}", "  {% if true +%}\na{% endif %}", "a  {{ 1 }}  b", "a  {{- 1 -}}  b", "a\n{{ 1 }}\nb", "a\n  {{ 1 }}\n", "\n\n{{ 1 }}\n\n", "{{ 1 }}\n", "a\r\nb\rc\n", "a\n   {%- set q = 1 %}\nb", "\t{% set q = 1 %}\t\nb", "x\t{% set q = 1 %}\n\ny", "{{'a'}}{{'b'}}", "{{ '}}' }}{{ \"{%\" }}", "{{ {'a': {'b': 1}}['a']['b'] }}", "{{ {'a':{'b':1}} }}", "{%if true%}a{%endif%}", "{%-if true-%} a {%-endif-%}", "{ { 1 } }", "{{ '{{' }}", "a{", "{", "{{", "{%", "{{ 1", "{% if", "{% if true", "{% if true %}", "{{ }}", "{% %}", "{{ 1 }", "}} %} #}",
    "{% generation %}a{{ n }}{% endgeneration %}", "{% generation %}{% set q = 1 %}{{ q }}{% endgeneration %}{{ q }}", "{% for i in l %}{% generation %}{{ i }}{% endgeneration %}\n{% endfor %}", "{% generation %}", "{% print n, s %}", "{% print %}", "{% nope %}", "{% endif %}", "{% for i in l %}{% endif %}", "{% if true %}{% endfor %}", "{% else %}", "{% do l.append(1) %}", "{% include 'x' %}", "{% import 'x' as y %}",
    "{{ s | nope }}", "{% if false %}{{ s | nope }}{% endif %}", "{% if true %}{{ s | nope }}{% endif %}", "{% for i in x %}{{ s | nope }}{% endfor %}", "{{ 1 if true else (s | nope) }}", "{% if false %}{% for i in l %}{{ s | nope }}{% endfor %}{% endif %}", "{% if false %}{{ s is nope }}{% endif %}", "{{ (s | nope) if false else 1 }}", "{% if false %}{% set q | nope %}a{% endset %}{% endif %}", "{% if s is nope %}{% endif %}", "{% macro f() %}{{ 1 | nope }}{% endmacro %}",
    "{{ 1 + }}", "{{ (1 }}", "{{ 1) }}", "{{ [1, }}", "{{ {'a' 1} }}", "{{ a b }}", "{{ 1 2 }}", "{{ a. }}", "{{ a.'b' }}", "{{ a[ }}", "{{ a[] }}", "{{ l[0, 1] }}", "{{ f(a=1, 2) }}", "{{ dict(a=1, a=2) }}", "{{ dict(**{'a': 1}, b=2) }}", "{{ dict(*[{'a': 1}], **{'b': 2}) }}", "{{ dict(**[1]) }}", "{{ range(*[1, 4]) | list }}", "{{ range(*5) }}", "{{ 'abc }}", "{{ 1 ? 2 }}", "{{ a ! b }}", "{{ not }}", "{{ 1 if }}", "{{ 1 is }}", "{{ s | }}", "{{ @ }}", "{{ 'a\nb' }}", "{{ \"a'b\" }}", "{{ 'a\\\nb' }}", "{{ (1, 2, 3) }}{{ 1, 2 }}", "{{ 1, }}", "{{ [1,2,] }}{{ {'a':1,} }}{{ dict(a=1,) }}", "{{ '%s' % s if s else e }}", "{{ '\\U0001F642\\u4e16\\x41' }}", "{{ '\\ud83d' }}", "{{ '\\xg' }}", "{{ 'é\\n' }}", "{{ {{ 1 }} }}", "{{ a if b else }}", "{% set %}", "{% set a %}", "{% for in l %}{% endfor %}", "{% for i of l %}{% endfor %}", "{% for i in %}{% endfor %}", "{% macro %}{% endmacro %}", "{% macro f %}{% endmacro %}", "{% for i in l: %}{{ i }}{% endfor %}", "{% if n == 7: %}a{% endif %}",
    "{% set j = joiner(', ') %}{% for i in l %}{{ j() }}{{ i }}{% endfor %}", "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.next() }}{{ c.reset() }}{{ c.current }}", "{% set g = l | map('string') %}{{ g | join }}{{ g | join }}|", "{% set g = l | select('odd') %}{% for i in g %}{{ i }}{{ loop.last }}{% endfor %}{{ g | list }}", "{% for g in m | groupby('role') %}{{ g.grouper }}:{{ g.list | length }}{{ g[0] }};{% endfor %}", "{% for role, items in m | groupby('role') %}{{ role }}{{ items | map(attribute='n') | join }};{% endfor %}",
    "{% for x in range(3) | batch(2) %}{{ x }}{{ loop.length }}{% endfor %}", "{% set a = [] %}{% for i in l %}{% set a = a + [i] %}{% endfor %}{{ a }}", "{% set ns = namespace(a=[]) %}{% for i in l %}{% set ns.a = ns.a + [i] %}{% endfor %}{{ ns.a }}", "{% for i in l %}{{ i }}{% if loop.nextitem is defined %}<{{ loop.nextitem }}{% endif %}{% endfor %}", "{% for i in l %}{% set loop_outer = loop %}{% for j in [0] %}{{ loop_outer.index }}{{ loop.index }}{% endfor %}{% endfor %}", "{% for i in range(3) if i != 1 %}{{ loop.revindex }}{{ loop.previtem }}{% endfor %}",
    "{% set a = 1 %}{% if true %}{% set a = 2 %}{% endif %}{{ a }}", "{% for i in [1, 2] %}{{ q }}{% set q = i %}{% endfor %}", "{% macro f(n=n) %}{{ n }}{% endmacro %}{{ f() }}", "{{ messages }}", "{% set s = s ~ '!' %}{{ s }}", "{% for m in m %}{{ m.n }}{% endfor %}", "{{ none | default('a') }}{{ '' | default('b') }}", "{% for i in l %}{{ loop.index is divisibleby 2 }}{% endfor %}", "{{ ('a', 'b') | join(':') }}", "{{ s if s is string and s | length > 3 else 'short' }}",
]

# Letters that become several, times without a zone, and statements of templates that others extend, in one that stands alone.
STATEMENTS += [
    "{% set t = 'Straße ﬁn ΑΣ ΌΔΟΣ. Σ ΑΣΒ İ ŉ ᾳ ΐ ǆ Ǆ' %}{{ t.upper() }}",
    "{% set t = 'Straße ﬁn ΑΣ ΌΔΟΣ. Σ ΑΣΒ İ ŉ ᾳ ΐ ǆ Ǆ' %}{{ t.lower() }}",
    "{% set t = 'Straße ﬁn ΑΣ ΌΔΟΣ. Σ ΑΣΒ İ ŉ ᾳ ΐ ǆ Ǆ' %}{{ t.title() }}",
    "{% set t = 'Straße ﬁn ΑΣ ΌΔΟΣ. Σ ΑΣΒ İ ŉ ᾳ ΐ ǆ Ǆ' %}{{ t.capitalize() }}",
    "{% set t = 'Straße ﬁn ΑΣ ΌΔΟΣ. Σ ΑΣΒ İ ŉ ᾳ ΐ ǆ Ǆ' %}{{ t.swapcase() }}",
    "{% set t = 'Straße ﬁn ΑΣ ΌΔΟΣ. Σ ΑΣΒ İ ŉ ᾳ ΐ ǆ Ǆ' %}{{ t.casefold() }}",
    "{{ 'ΣΑΣ Α.Σ ΑΣ́ x'.lower() }}",
    "{{ 'ßa ﬃ'.capitalize() }}",
    "{{ 'ßa ᾳb' | title }}",
    "{{ 'ẞ ΐΰ'.casefold() }}",
    "{{ strftime_now('%Y|%Z|%z|%f|%%z|%d') }}",
    "{{ strftime_now('%z') }}",
    "{% set x = 1 %}a{% block b %}[{{ x }}]{% endblock %}c",
    "{% set x = 1 %}{% block b %}{% set x = 2 %}{{ x }}{% endblock b %}{{ x }}",
    "{% set y = 3 %}{% block b %}{{ y }}{% endblock %}",
    "{% for i in [1,2] %}{% block b %}<{{ i }}>{% endblock %}{% endfor %}",
    "{% for i in [1,2] %}{% block b scoped %}<{{ i }}>{% endblock %}{% endfor %}",
    "{% block b %}{% block c %}in{% endblock %}{% endblock %}",
    "{% block b %}{% endblock %}{% block b %}{% endblock %}",
    "{% block b required %}{% endblock %}",
    "{% block b %}x{% endblock c %}",
    "{% for i in [1] %}{% block b %}{% break %}{% endblock %}{% endfor %}",
    "{% set h = '<b>' %}{% autoescape true %}{{ h }}{% endautoescape %}{{ h }}",
    "{% set h = '<b>' %}{% autoescape false %}{{ h }}{% endautoescape %}",
    "{% set h = '<b>' %}{% autoescape true %}{{ h|safe }}{{ h ~ '&' }}{{ (h|safe) ~ h }}{% endautoescape %}",
    "{% set w = ['<a>', 'b'] %}{% autoescape true %}{{ w|join('<') }}|{{ w|join('<'|safe) }}{% endautoescape %}",
    "{% set h = '<b>' %}{% autoescape true %}{% set y %}<i>{{ h }}</i>{% endset %}{{ y }}{% endautoescape %}",
    "{% set h = '<b>' %}{% autoescape true %}{% macro m(a) %}<i>{{ a }}</i>{% endmacro %}{{ m(h) }}{% endautoescape %}",
    "{% set h = '<b>' %}{% set x = 1 %}{% autoescape x == 1 %}{{ h }}{% set z = 5 %}{% endautoescape %}{{ z }}",
    "{% set h = '<b>' %}{% autoescape true %}{{ h|replace('<','>') }}|{{ h|replace('<'|safe,'>') }}|{{ (h|safe)|replace('<','>') }}{% endautoescape %}",
    "{% set h = '<b>' %}{% autoescape true %}{% block b %}{{ h }}{% endblock %}{% endautoescape %}",
    "{% set w = ['<a>', 'b'] %}{% autoescape true %}{{ '<' }}{{ 1 < 2 }}{{ w }}{% endautoescape %}",
    "{% set h = '<b>' %}{% autoescape true %}{% filter upper %}<i>{{ h }}</i>{% endfilter %}{% endautoescape %}",
    "{% set h = '<b>' %}{% set w = ['<a>', 'b'] %}{% autoescape true %}{{ h|upper }}{{ h|e }}{{ w|tojson }}{% endautoescape %}",
]


def random_expressions(count, seed):
    """Nested at random: what has no value in Python must have none here."""
    r = random.Random(seed)
    atoms = ["s", "e", "u", "n", "z", "neg", "f", "t", "no", "l", "w", "x", "d", "m", "missing", "1", "0", "-2", "3", "2.5", "'a'", "'b c'", "true", "none", "[]", "[1, 2]", "{'a': 1}", "(1, 'x')", "range(4)"]
    binary = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]
    filters = ["upper", "length", "first", "last", "list", "join", "join('-')", "sort", "string", "int", "float", "default('q')", "default('q', true)", "tojson", "trim", "reverse", "replace('a', 'z')", "map('string') | list", "select | list", "unique | list", "sum", "min", "max", "abs", "round", "items | list", "title", "capitalize", "escape", "batch(2) | list"]
    tests = ["defined", "none", "string", "number", "mapping", "sequence", "iterable", "odd", "true", "integer", "boolean", "lower", "in [1, 'a', none]"]

    def one(depth):
        k = r.randrange(10) if depth > 0 else 0
        if k < 2:
            return r.choice(atoms)
        if k < 5:
            return f"({one(depth - 1)} {r.choice(binary)} {one(depth - 1)})"
        if k < 7:
            return f"({one(depth - 1)} | {r.choice(filters)})"
        if k == 7:
            return f"({one(depth - 1)} is {r.choice(['', 'not '])}{r.choice(tests)})"
        if k == 8:
            # Not of constants: jinja2 slices those while it compiles, by other rules.
            return r.choice([f"{one(depth - 1)}[{r.choice(['0', '-1', repr('a'), one(depth - 1)])}]", f"{r.choice(['s', 'u', 'l', 'w', 'no', 'd', 'f', 'missing'])}[{r.choice(['1:', ':2', '::-1', '-2:'])}]"])
        return f"({one(depth - 1)} if {one(depth - 1)} else {one(depth - 1)})"

    return ["{{ " + one(r.randrange(1, 4)) + " }}" for _ in range(count)]


def statement(template):
    try:
        out = utils._compile_jinja_template(template).render(**VARIABLES)
        out.encode("utf-8")
        return out
    except Exception:
        return None


# An address tells nothing; a hash of a text differs from run to run.
def told(output):
    return output is None or " at 0x" not in output


def write(path, data):
    with lzma.open(path, "wt", preset=9 | lzma.PRESET_EXTREME, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32) as f:
        json.dump(data, f, ensure_ascii=False)


if __name__ == "__main__":
    configs, folder, out = sys.argv[1:]
    all_templates = templates(configs, folder)
    rendered = {name: [render(text, r) for r in CONVERSATIONS] for name, text in all_templates.items()}
    write(os.path.join(out, "conversations.json.xz"), {"special": SPECIAL, "conversations": CONVERSATIONS, "templates": all_templates, "rendered": rendered})
    small = ["{{ " + e.strip() + " }}" for line in EXPRESSIONS.split("\n") for e in line.split(" ## ")] + STATEMENTS + random_expressions(700, 10)
    cases = [[t, statement(t)] for t in dict.fromkeys(small)]
    cases = [c for c in cases if told(c[1])]
    write(os.path.join(out, "statements.json.xz"), {"variables": VARIABLES, "cases": cases})
    errors = sum(r is None for rs in rendered.values() for r in rs)
    print(f"{len(all_templates)} templates x {len(CONVERSATIONS)} conversations ({errors} errors), {len(cases)} statements ({sum(c[1] is None for c in cases)} errors)")
