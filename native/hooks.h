// JavaScript functions that receive gradients during the backward pass.
#pragma once

#include "napi_setup.h"

namespace torchbind {

void init_hooks(Napi::Env env, Napi::Object& exports);

}  // namespace torchbind
