// Backward kernels that trust the row numbers which the forward pass has saved. JavaScript can change those
// through an array over their memory, or from another thread, and no version counter sees it: here they are
// looked at once more before a kernel writes where they point.
#pragma once

namespace torchbind {

// Replaces the kernels, once for the process.
void check_saved_rows();

}  // namespace torchbind
