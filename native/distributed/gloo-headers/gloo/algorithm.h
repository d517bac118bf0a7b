// libtorch ships the header of its gloo backend, but not gloo's own. What that header needs of them is
// declared in this folder. libtorch has these classes; c10d_groups.cc makes none of them, and calls none but
// through libtorch.
#pragma once
