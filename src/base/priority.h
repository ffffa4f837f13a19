// Work behind the back of somebody else's.
#pragma once

namespace ingot {

// The calling thread, and those that it starts, from now on leave the processor to others that want it (nice +10); alone they are as fast as ever. Not undone.
void work_behind();

}  // namespace ingot
