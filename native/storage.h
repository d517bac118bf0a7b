// Typed arrays in and out, and views of storages.
#pragma once

#include "napi_setup.h"

namespace torchbind {

// Deleter of the storages that sliceBytes() makes: it frees the storage that they are cut from.
void release_slice(void* context);

void init_storage(Napi::Env env, Napi::Object& exports);

}  // namespace torchbind
