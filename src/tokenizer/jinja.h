// Chat templates: texts in Jinja, rendered as transformers does (jinja2's ImmutableSandboxedEnvironment with trim_blocks, lstrip_blocks,
// break and continue, {% generation %}, and tojson, raise_exception and strftime_now of its own), by an interpreter of our own. A
// template comes with a model from anyone: steps, memory, nesting and output are bounded.
#pragma once

#include <cstdint>
#include <ctime>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "formats/json.h"

namespace ingot {

struct JinjaLimits {
  int64_t bytes = int64_t{256} << 20, steps = 100'000'000;
};

// `variables` is an object; `now` is what strftime_now() tells, the present where it is left out. An error names the line.
Result<std::string> render_jinja(std::string_view text, const OrderedJson& variables, const std::optional<std::tm>& now = {},
                                 const JinjaLimits& limits = {});

struct ChatRequest {
  OrderedJson messages = OrderedJson::array();  // objects: role, content (a text or a list of parts), and whatever the template reads besides
  OrderedJson tools, documents;                 // null: what `variables` has by these names, else none
  bool add_generation_prompt = true;
  std::map<std::string, std::string> special_tokens;  // "bos_token" and its like
  OrderedJson variables = OrderedJson::object();      // others, as enable_thinking; they take the place of special tokens
  std::optional<std::tm> now;
  JinjaLimits limits;
};

// What the model reads. As in transformers, members of a message that are null are left out, and reasoning is there by all of its names.
Result<std::string> render_chat(const std::string& chat_template, const ChatRequest& request);

}  // namespace ingot
