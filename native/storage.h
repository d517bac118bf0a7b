// Typed arrays in and out, and views of storages.
#pragma once

#include "napi_setup.h"

namespace torchbind {

void init_storage(Napi::Env env, Napi::Object& exports);

}  // namespace torchbind
