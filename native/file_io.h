// File bytes <-> storages: mapped, or read and written off the main thread.
#pragma once

#include "napi_setup.h"

namespace torchbind {

// Deleter of the storages of mapped files.
void unmap(void* context);

void init_file_io(Napi::Env env, Napi::Object& exports);

}  // namespace torchbind
