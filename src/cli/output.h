// Standard output and the terminal: writes that notice a full disk or a closed pipe, width, colour.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace ingot::cli {

// To standard output, unbuffered. A reader that went away (`ingot list | head -1`) ends the process the usual
// way, by SIGPIPE; any other failure is an error.
Status print(std::string_view text);
// To standard error in one write; what cannot be written there is dropped (work must go on without a
// terminal).
void print_error(std::string_view text);

bool stdout_is_terminal();
bool stderr_is_terminal();
// stderr is a terminal that moves its cursor (TERM is set and not "dumb").
bool stderr_can_redraw();
int stderr_width();  // columns now; 80 when unknown
int stdout_width();  // of a terminal, its columns; 0 where stdout is none: what is read by programs is not shortened
bool want_colour();  // of stderr: a terminal, and NO_COLOR is not set
bool locale_is_utf8();

}  // namespace ingot::cli
