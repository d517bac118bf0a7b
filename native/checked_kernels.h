// Kernels that read and write where numbers in a tensor point, without a look at them. Those of backward
// passes get what the forward pass has saved: JavaScript can change that through an array over its memory, or
// from another thread, and no version counter sees it.
#pragma once

namespace torchbind {

// Replaces the kernels, once for the process.
void use_checked_kernels();

}  // namespace torchbind
