#include "device.h"

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/Parallel.h>
#include <c10/core/DefaultDtype.h>
#include <c10/core/ScalarTypeToTypeMeta.h>

#include "addon.h"
#include "arguments.h"
#include "errors.h"

// A function of OpenMP 5.0 in the runtime that libtorch brings; null without one.
#if defined(__GNUC__)
extern "C" __attribute__((weak)) int omp_pause_resource_all(int kind);
#endif

namespace torchbind {
namespace {

void require_accelerator() {
  if (!at::getAccelerator() || at::accelerator::deviceCount() == 0) {
    throw Error(
        "ERR_TORCHBIND_DEVICE",
        "This process has no accelerator: libtorch was built for the CPU, or no GPU answers. See what "
        "`torchbind doctor` says.");
  }
}

c10::DeviceIndex accelerator_index(const Napi::Value& value) { return to_accelerator(value).index(); }

Napi::Value accelerator(const Napi::CallbackInfo& info) {
  const auto type = at::getAccelerator();
  if (!type || at::accelerator::deviceCount() == 0) return info.Env().Null();
  return Napi::String::New(info.Env(), c10::DeviceTypeName(*type, /*lower_case=*/true));
}

Napi::Value device_count(const Napi::CallbackInfo& info) {
  const int count = at::getAccelerator() ? at::accelerator::deviceCount() : 0;
  return Napi::Number::New(info.Env(), count);
}

Napi::Value current_device(const Napi::CallbackInfo& info) {
  require_accelerator();
  return Napi::Number::New(info.Env(), at::accelerator::getDeviceIndex());
}

Napi::Value set_device(const Napi::CallbackInfo& info) {
  at::accelerator::setDeviceIndex(accelerator_index(info[0]));
  return info.Env().Undefined();
}

Napi::Value synchronize(const Napi::CallbackInfo& info) {
  if (to_device(info[0], "device").is_cpu()) return info.Env().Undefined();
  at::accelerator::synchronizeDevice(accelerator_index(info[0]));
  return info.Env().Undefined();
}

Napi::Value empty_cache(const Napi::CallbackInfo& info) {
  if (at::getAccelerator()) at::accelerator::emptyCache();
  return info.Env().Undefined();
}

Napi::Value device_memory(const Napi::CallbackInfo& info) {
  const auto stats = at::accelerator::getDeviceStats(accelerator_index(info[0]));
  constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("allocated", static_cast<double>(stats.allocated_bytes[kAll].current));
  result.Set("reserved", static_cast<double>(stats.reserved_bytes[kAll].current));
  result.Set("peakAllocated", static_cast<double>(stats.allocated_bytes[kAll].peak));
  result.Set("peakReserved", static_cast<double>(stats.reserved_bytes[kAll].peak));
  return result;
}

using StatArray = c10::CachingAllocator::StatArray;

// As `[current, peak, allocated, freed]`, over pools of all sizes.
Napi::Value statistic(Napi::Env env, const StatArray& pools) {
  const auto& all = pools[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)];
  Napi::Array result = Napi::Array::New(env, 4);
  uint32_t at = 0;
  for (const int64_t value : {all.current, all.peak, all.allocated, all.freed})
    result.Set(at++, static_cast<double>(value));
  return result;
}

Napi::Value device_statistics(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto stats = at::accelerator::getDeviceStats(accelerator_index(info[0]));
  Napi::Object result = Napi::Object::New(env);
  result.Set("allocated_bytes", statistic(env, stats.allocated_bytes));
  result.Set("active_bytes", statistic(env, stats.active_bytes));
  result.Set("requested_bytes", statistic(env, stats.requested_bytes));
  result.Set("reserved_bytes", statistic(env, stats.reserved_bytes));
  result.Set("inactive_split_bytes", statistic(env, stats.inactive_split_bytes));
  result.Set("allocation", statistic(env, stats.allocation));
  result.Set("active", statistic(env, stats.active));
  result.Set("segment", statistic(env, stats.segment));
  result.Set("inactive_split", statistic(env, stats.inactive_split));
  result.Set("num_alloc_retries", static_cast<double>(stats.num_alloc_retries));
  result.Set("num_ooms", static_cast<double>(stats.num_ooms));
  return result;
}

Napi::Value reset_peak_memory(const Napi::CallbackInfo& info) {
  at::accelerator::resetPeakStats(accelerator_index(info[0]));
  return info.Env().Undefined();
}

Napi::Value free_memory(const Napi::CallbackInfo& info) {
  const auto [free, total] = at::accelerator::getMemoryInfo(accelerator_index(info[0]));
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("free", static_cast<double>(free));
  result.Set("total", static_cast<double>(total));
  return result;
}

Napi::Value default_dtype(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(c10::get_default_dtype_as_scalartype()));
}

Napi::Value set_default_dtype(const Napi::CallbackInfo& info) {
  const c10::ScalarType dtype = to_scalar_type(info[0], "dtype");
  if (!c10::isFloatingType(dtype)) invalid("The default dtype must be a floating-point type.");
  c10::set_default_dtype(c10::scalarTypeToTypeMeta(dtype));
  return info.Env().Undefined();
}

Napi::Value get_num_threads(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), at::get_num_threads());
}

Napi::Value set_num_threads(const Napi::CallbackInfo& info) {
  const int64_t count = to_int64(info[0], "count");
  if (count < 1 || count > 4096) invalid("The number of threads must be between 1 and 4096.");
  at::set_num_threads(static_cast<int>(count));
  return info.Env().Undefined();
}

// Each thread that has computed keeps a pool of OpenMP threads. GCC's runtime lets idle threads of a pool
// spin only while all pools together fit the machine, so a pool that nobody uses slows down
// the one in use.
Napi::Value end_thread_pool(const Napi::CallbackInfo& info) {
#if defined(__GNUC__)
  constexpr int kPauseSoft = 1;  // omp_pause_soft: the next parallel region starts a pool again
  if (omp_pause_resource_all != nullptr) omp_pause_resource_all(kPauseSoft);
#endif
  return info.Env().Undefined();
}

}  // namespace

c10::Device to_accelerator(const Napi::Value& value) {
  require_accelerator();
  const c10::Device device = to_device(value, "device");
  if (device.type() != *at::getAccelerator()) {
    throw Error("ERR_TORCHBIND_DEVICE",
                "'" + device.str() + "' is not an accelerator: give a device such as 'cuda:0'.");
  }
  at::globalContext().lazyInitDevice(device.type());
  return device.has_index() ? device : c10::Device(device.type(), at::accelerator::getDeviceIndex());
}

std::string accelerator_name() {
  require_accelerator();
  return c10::DeviceTypeName(*at::getAccelerator(), /*lower_case=*/true);
}

void init_device(Napi::Env, Napi::Object& exports) {
  expose<accelerator>(exports, "accelerator");
  expose<device_count>(exports, "deviceCount");
  expose<synchronize>(exports, "synchronize");
  expose<empty_cache>(exports, "emptyCache");
  expose<device_memory>(exports, "deviceMemory");
  expose<device_statistics>(exports, "deviceStatistics");
  expose<current_device>(exports, "currentDevice");
  expose<set_device>(exports, "setDevice");
  expose<reset_peak_memory>(exports, "resetPeakMemory");
  expose<free_memory>(exports, "freeMemory");
  expose<default_dtype>(exports, "defaultDtype");
  expose<set_default_dtype>(exports, "setDefaultDtype");
  expose<get_num_threads>(exports, "getNumThreads");
  expose<set_num_threads>(exports, "setNumThreads");
  expose<end_thread_pool>(exports, "endThreadPool");
}

}  // namespace torchbind
