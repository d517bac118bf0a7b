// Python's x[...] and x[...] = value.
#pragma once

#include "napi_setup.h"

namespace torchbind {

void init_indexing(Napi::Env env, Napi::Object& exports);

}  // namespace torchbind
