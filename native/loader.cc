// torchbind.node: loads libtorch's libraries by path, so that the addon proper finds them loaded already. It
// also has the file locks, because `install` needs them before libtorch is there.
#include <napi.h>

#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

#include <string>

#include "file_lock.h"

namespace {

// Empty when the library is loaded, else what the system says.
std::string load_library(const std::string& path) {
#ifdef _WIN32
  if (LoadLibraryExA(path.c_str(), nullptr, LOAD_WITH_ALTERED_SEARCH_PATH) != nullptr) return {};
  return "Windows error " + std::to_string(GetLastError());
#else
  // Global, so that libraries loaded later resolve their symbols here.
  if (dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL) != nullptr) return {};
  return dlerror();
#endif
}

// preload(paths): loads each library in order, or throws an Error with the system's reason.
void preload(const Napi::CallbackInfo& info) {
  if (!info[0].IsArray()) throw Napi::TypeError::New(info.Env(), "preload() expects an array of paths.");
  const Napi::Array paths = info[0].As<Napi::Array>();
  for (uint32_t i = 0; i < paths.Length(); ++i) {
    const Napi::Value path = paths.Get(i);
    if (!path.IsString()) throw Napi::TypeError::New(info.Env(), "preload() expects an array of paths.");
    const std::string failure = load_library(path.As<Napi::String>().Utf8Value());
    if (!failure.empty()) throw Napi::Error::New(info.Env(), failure);
  }
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("preload", Napi::Function::New<preload>(env, "preload"));
  torchbind::FileLocks::expose(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(torchbind_loader, init)
