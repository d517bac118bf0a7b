// torchbind.node: loads libtorch's libraries by path, so that the addon proper finds them already loaded. It
// also contains the file locks, because `install` needs them before libtorch exists.
#include <napi.h>

#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#endif

#include <mutex>
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

// The processor's vendor and vector instructions that the system lets programs use, from CPUID alone; empty
// and false on machines other than x86-64 Linux.
Napi::Value processor(const Napi::CallbackInfo& info) {
  std::string vendor;
  bool avx2 = false;
  bool avx512 = false;
#if defined(__x86_64__) && defined(__linux__)
  unsigned int most = 0;
  unsigned int text[3] = {0, 0, 0};
  if (__get_cpuid(0, &most, &text[0], &text[2], &text[1]) != 0)
    vendor.assign(reinterpret_cast<const char*>(text), sizeof(text));
  __builtin_cpu_init();
  avx2 = __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
  avx512 = __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
           __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0;
#endif
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("vendor", vendor);
  result.Set("avx2", avx2);
  result.Set("avx512", avx512);
  return result;
}

// What the first thread of the process chose.
struct Kernels {
  std::mutex mutex;
  bool chosen = false;
  std::string setting;
  std::string library;
  std::string problem;
};

Kernels& kernels() {
  static auto* const instance = new Kernels;
  return *instance;
}

// chooseKernels(setting, library): the first call decides for the process, and opens the library if it is not
// empty. Every call gives what was decided.
Napi::Value choose_kernels(const Napi::CallbackInfo& info) {
  if (!info[0].IsString() || !info[1].IsString())
    throw Napi::TypeError::New(info.Env(), "chooseKernels() expects a setting and a path.");
  Kernels& chosen = kernels();
  const std::lock_guard<std::mutex> lock(chosen.mutex);
  if (!chosen.chosen) {
    chosen.chosen = true;
    chosen.setting = info[0].As<Napi::String>().Utf8Value();
    chosen.library = info[1].As<Napi::String>().Utf8Value();
    if (!chosen.library.empty()) chosen.problem = load_library(chosen.library);
  }
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("setting", chosen.setting);
  result.Set("fastMkl", !chosen.library.empty() && chosen.problem.empty());
  result.Set("problem",
             chosen.problem.empty() ? info.Env().Null() : Napi::String::New(info.Env(), chosen.problem));
  return result;
}

// mklLevel(): which of its kernels MKL computes with, as its own number: 7 are those for AVX-512. Null where
// libtorch is not loaded or has no such function.
Napi::Value mkl_level(const Napi::CallbackInfo& info) {
#ifndef _WIN32
  if (void* const detect = dlsym(RTLD_DEFAULT, "mkl_serv_cpu_detect"); detect != nullptr)
    return Napi::Number::New(info.Env(), reinterpret_cast<int (*)()>(detect)());
#endif
  return info.Env().Null();
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("preload", Napi::Function::New<preload>(env, "preload"));
  exports.Set("processor", Napi::Function::New<processor>(env, "processor"));
  exports.Set("chooseKernels", Napi::Function::New<choose_kernels>(env, "chooseKernels"));
  exports.Set("mklLevel", Napi::Function::New<mkl_level>(env, "mklLevel"));
  torchbind::FileLocks::expose(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(torchbind_loader, init)
