// Nodes of the graph whose forward and backward are JavaScript functions.
#pragma once

#include "napi_setup.h"

namespace torchbind {

void init_custom_function(Napi::Env env, Napi::Object& exports);

}  // namespace torchbind
