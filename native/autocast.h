// Autocast: operators choose the dtype that they compute in.
#pragma once

#include "napi_setup.h"

namespace torchbind {

void init_autocast(Napi::Env env, Napi::Object& exports);

}  // namespace torchbind
