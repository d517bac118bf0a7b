#include "cuda_driver.h"

#if defined(__linux__)
#include <dlfcn.h>
#endif

#include <array>
#include <cstdint>
#include <cstdio>
#include <string>

#include "device.h"
#include "errors.h"

namespace torchbind {
namespace {

// Numbers of CUdevice_attribute in cuda.h, with Python's names in camelCase.
struct Attribute {
  const char* name;
  int number;
};
constexpr std::array kAttributes = {
    Attribute{"major", 75},
    Attribute{"minor", 76},
    Attribute{"multiProcessorCount", 16},
    Attribute{"warpSize", 10},
    Attribute{"maxThreadsPerBlock", 1},
    Attribute{"maxThreadsPerMultiProcessor", 39},
    Attribute{"regsPerMultiprocessor", 82},
    Attribute{"sharedMemoryPerBlock", 8},
    Attribute{"sharedMemoryPerBlockOptin", 97},
    Attribute{"sharedMemoryPerMultiprocessor", 81},
    Attribute{"l2CacheSize", 38},
    Attribute{"clockRate", 13},
    Attribute{"memoryClockRate", 36},
    Attribute{"memoryBusWidth", 37},
    Attribute{"isIntegrated", 18},
};

constexpr size_t kNameBytes = 256;
struct Uuid {
  unsigned char bytes[16];
};

// Functions of libcuda.so.1 by name; those of other drivers than NVIDIA's are not known here.
class Driver {
 public:
  static const Driver& get() {
    static const Driver driver;
    return driver;
  }

  int (*init)(unsigned) = nullptr;
  int (*device_get)(int*, int) = nullptr;
  int (*device_get_name)(char*, int, int) = nullptr;
  int (*device_total_mem)(size_t*, int) = nullptr;
  int (*device_get_attribute)(int*, int, int) = nullptr;
  int (*device_get_uuid)(Uuid*, int) = nullptr;
  int (*driver_get_version)(int*) = nullptr;

 private:
  Driver() {
#if defined(__linux__)
    void* library = dlopen("libcuda.so.1", RTLD_LAZY);
    if (library == nullptr) missing();
    find(library, "cuInit", init);
    find(library, "cuDeviceGet", device_get);
    find(library, "cuDeviceGetName", device_get_name);
    find(library, "cuDeviceTotalMem_v2", device_total_mem);
    find(library, "cuDeviceGetAttribute", device_get_attribute);
    find(library, "cuDeviceGetUuid", device_get_uuid);
    find(library, "cuDriverGetVersion", driver_get_version);
    if (init(0) != 0) missing();
#else
    missing();
#endif
  }

#if defined(__linux__)
  template <typename F>
  static void find(void* library, const char* name, F& function) {
    function = reinterpret_cast<F>(dlsym(library, name));
    if (function == nullptr) missing();
  }
#endif

  [[noreturn]] static void missing() {
    throw Error("ERR_TORCHBIND_DEVICE",
                "The NVIDIA driver does not answer: see what `torchbind doctor` says.");
  }
};

void check(int status, const char* what) {
  if (status != 0) {
    throw Error("ERR_TORCHBIND_DEVICE", std::string("The NVIDIA driver gave no ") + what + " (error " +
                                            std::to_string(status) + ").");
  }
}

std::string uuid_text(const Uuid& uuid) {
  std::string text;
  for (size_t i = 0; i < sizeof(uuid.bytes); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    char digits[3];
    std::snprintf(digits, sizeof(digits), "%02x", static_cast<unsigned>(uuid.bytes[i]));
    text += digits;
  }
  return text;
}

// deviceProperties(device): properties of a CUDA device. Devices are numbered as in libtorch;
// CUDA_VISIBLE_DEVICES applies to the driver too.
Napi::Value device_properties(const Napi::CallbackInfo& info) {
  const c10::Device device = to_accelerator(info[0]);
  if (!device.is_cuda()) invalid("deviceProperties() is for CUDA devices, got " + device.str() + ".");
  const Driver& driver = Driver::get();
  int number = 0;
  check(driver.device_get(&number, device.index()), "such device");
  char name[kNameBytes] = {};
  check(driver.device_get_name(name, kNameBytes - 1, number), "name");
  size_t memory = 0;
  check(driver.device_total_mem(&memory, number), "size of memory");
  Uuid uuid{};
  check(driver.device_get_uuid(&uuid, number), "UUID");
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("name", std::string(name));
  result.Set("totalMemory", static_cast<double>(memory));
  result.Set("uuid", uuid_text(uuid));
  for (const auto& [key, attribute] : kAttributes) {
    int value = 0;
    check(driver.device_get_attribute(&value, attribute, number), key);
    result.Set(key, value);
  }
  return result;
}

// driverVersion(): the CUDA version that the driver can serve, as 13000 for 13.0.
Napi::Value driver_version(const Napi::CallbackInfo& info) {
  int version = 0;
  check(Driver::get().driver_get_version(&version), "version");
  return Napi::Number::New(info.Env(), version);
}

}  // namespace

void init_cuda_driver(Napi::Env, Napi::Object& exports) {
  expose<device_properties>(exports, "deviceProperties");
  expose<driver_version>(exports, "driverVersion");
}

}  // namespace torchbind
