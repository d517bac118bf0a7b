#include "storage.h"

#include <ATen/ATen.h>
#include <ATen/ScalarOps.h>
#include <c10/core/ScalarType.h>

#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "addon.h"
#include "arguments.h"
#include "convert.h"
#include "errors.h"
#include "fixed_storage.h"
#include "geometry.h"
#include "off_loop.h"

namespace torchbind {
namespace {

// Bytes that `numel` elements of `shape` take, or an error when that overflows.
size_t bytes_of(c10::ArrayRef<int64_t> shape, c10::ScalarType dtype) {
  uint64_t bytes = c10::elementSize(dtype);
  for (int64_t size : shape) {
    if (size < 0) invalid("Sizes of a shape cannot be negative, got " + std::to_string(size) + ".");
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes))
      invalid("The shape is too large.");
  }
  return bytes;
}

struct Bytes {
  const void* data;
  size_t size;
};

Bytes bytes_of(const Napi::Value& value) {
  if (value.IsTypedArray()) {
    const Napi::TypedArray array = value.As<Napi::TypedArray>();
    void* data = nullptr;
    napi_typedarray_type type;
    size_t length = 0;
    if (napi_get_typedarray_info(value.Env(), array, &type, &length, &data, nullptr, nullptr) != napi_ok) {
      invalid("The typed array cannot be read.");
    }
    return {data, array.ByteLength()};
  }
  if (value.IsDataView()) {
    const Napi::DataView view = value.As<Napi::DataView>();
    return {view.Data(), view.ByteLength()};
  }
  invalid("Expected a typed array for 'data', got " + type_of(value) + ".");
}

// quint4x2 and quint2x4 pack several elements into a byte, though each is counted as one.
void check_bytes(const at::Tensor& tensor, size_t size) {
  if (size == 0 || !tensor.has_storage()) return;
  const size_t offset = tensor.storage_offset() * tensor.itemsize();
  if (offset > tensor.storage().nbytes() || size > tensor.storage().nbytes() - offset) {
    throw Error(kUnsupported,
                "Elements of quint4x2 and quint2x4 share bytes: dequantize() the tensor first.");
  }
}

Napi::Value from_typed_array(const Napi::CallbackInfo& info) {
  const std::vector<int64_t> shape = to_int64s(info[1], "shape");
  const c10::ScalarType dtype = to_scalar_type(info[2], "dtype");
  const size_t expected = bytes_of(shape, dtype);
  const Bytes bytes = bytes_of(info[0]);
  if (bytes.size != expected) {
    invalid("The shape needs " + std::to_string(expected) + " bytes but the data has " +
            std::to_string(bytes.size) + ".");
  }
  at::Tensor tensor = at::empty(shape, at::TensorOptions().dtype(dtype));
  check_bytes(tensor, expected);
  if (expected > 0) std::memcpy(tensor.mutable_data_ptr(), bytes.data, expected);
  return from_tensor(info.Env(), std::move(tensor));
}

// Where memory is short, Node-API's own way to make one ends the process, and JavaScript's constructor
// throws.
Napi::ArrayBuffer new_array_buffer(Napi::Env env, size_t size) {
  const Napi::Function constructor = env.Global().Get("ArrayBuffer").As<Napi::Function>();
  try {
    const Napi::Value made = constructor.New({Napi::Number::New(env, static_cast<double>(size))});
    if (made.IsArrayBuffer() && made.As<Napi::ArrayBuffer>().ByteLength() >= size)
      return made.As<Napi::ArrayBuffer>();
  } catch (const Napi::Error&) {
    // below
  }
  throw Error("ERR_TORCHBIND_OUT_OF_MEMORY",
              "JavaScript has no memory for an ArrayBuffer of " + std::to_string(size) + " bytes.");
}

Napi::Value to_array_buffer(const Napi::CallbackInfo& info) {
  at::Tensor source = to_tensor(info[0], "tensor").detach();
  if (source.layout() != at::kStrided)
    throw Error(kUnsupported,
                "Only dense tensors have their elements one after the other: take toDense() first.");
  // Some gradients are zeros without memory (that of sgn, for one): a copy has the bytes.
  if (source._is_zerotensor()) source = source.clone();
  const at::Tensor tensor = source.resolve_conj().resolve_neg().cpu().contiguous();
  const size_t size = tensor.nbytes();
  check_bytes(tensor, size);
  Napi::ArrayBuffer buffer = new_array_buffer(info.Env(), size);
  if (size > 0) std::memcpy(buffer.Data(), tensor.const_data_ptr(), size);
  return buffer;
}

// Node-API makes the ArrayBuffer, or refuses: then some versions of Node call the finalizer all the same, at
// once or later, and others never. So the storage is released here, and the finalizer finds an empty one, of
// which a few bytes are lost where no finalizer comes.
Napi::Value buffer_over(Napi::Env env, const c10::Storage& storage) {
  const size_t size = storage.nbytes();
  const auto held = std::make_shared<c10::Storage>(storage);
  napi_value buffer = nullptr;
  const napi_status status = napi_create_external_arraybuffer(
      env, storage.mutable_data(), size,
      [](napi_env, void*, void* hint) { delete static_cast<std::shared_ptr<c10::Storage>*>(hint); },
      new std::shared_ptr<c10::Storage>(held), &buffer);
  if (status == napi_ok) return {env, buffer};
  *held = c10::Storage();
  napi_value ignored = nullptr;  // what Node threw speaks of a Buffer, which nobody asked for
  napi_get_and_clear_last_exception(env, &ignored);
  throw Error(kUnsupported, "This JavaScript engine makes no ArrayBuffer over the " + std::to_string(size) +
                                " bytes of the tensor's storage. Take a copy of the elements: "
                                "toTypedArray(), or clone() first.");
}

// An ArrayBuffer over a CPU storage, which it keeps alive. The storage can no longer be resized: that would
// free the memory under the buffer.
Napi::Value share_storage(const Napi::CallbackInfo& info) {
  const at::Tensor tensor = to_tensor(info[0], "tensor");
  if (!tensor.device().is_cpu() || !tensor.has_storage() || tensor.layout() != at::kStrided) {
    throw Error(kUnsupported, "Only the memory of dense tensors on the CPU can be shared.");
  }
  const c10::Storage& storage = tensor.storage();
  if (storage.nbytes() == 0) return Napi::ArrayBuffer::New(info.Env(), 0);
  fix_for_good(storage);
  if (storage.data() == nullptr) throw Error(kUnsupported, "The tensor has no memory of its own.");
  return buffer_over(info.Env(), storage);
}

// A tensor that counts as a plain number in type promotion.
Napi::Value wrapped_number(const Napi::CallbackInfo& info) {
  return from_tensor(info.Env(), at::native::wrapped_scalar_tensor(to_scalar(info[0], "value")));
}

Napi::Value item(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const c10::Scalar value = to_tensor(info[0], "tensor").item();
  if (value.isBoolean()) return Napi::Boolean::New(env, value.toBool());
  if (value.isComplex()) {
    const c10::complex<double> number = value.toComplexDouble();
    Napi::Array pair = Napi::Array::New(env, 2);
    pair.Set(uint32_t{0}, number.real());
    pair.Set(uint32_t{1}, number.imag());
    return pair;
  }
  if (value.type() == c10::ScalarType::UInt64) return Napi::BigInt::New(env, value.toUInt64());
  if (value.isIntegral(/*includeBool=*/false)) return from_int64(env, value.toLong());
  return Napi::Number::New(env, value.toDouble());
}

// Waits for the device: the values are computed when the copy has arrived.
class CopyToCpu final : public OffLoopWork {
 public:
  CopyToCpu(Napi::Env env, at::Tensor tensor) : OffLoopWork(env), tensor_(std::move(tensor)) {}

 private:
  void run() override {
    const at::NoGradGuard no_grad;
    tensor_ = tensor_.cpu();
  }

  Napi::Value result(Napi::Env env) override { return from_tensor(env, std::move(tensor_)); }

  at::Tensor tensor_;
};

// The values are those of now: the copy on the device is queued before whatever changes the tensor later.
Napi::Value copy_to_cpu(const Napi::CallbackInfo& info) {
  const at::Tensor& tensor = to_tensor(info[0], "tensor");
  const bool wants_one = info[1].IsBoolean() && info[1].As<Napi::Boolean>().Value();
  if (!is_plain(tensor) || (wants_one && tensor.numel() != 1)) return info.Env().Null();
  const at::NoGradGuard no_grad;
  return OffLoopWork::start(std::make_unique<CopyToCpu>(info.Env(), tensor.detach().clone()));
}

Napi::Value slice_bytes(const Napi::CallbackInfo& info) {
  const size_t offset = to_size(info[1], "offset");
  const size_t nbytes = to_size(info[2], "nbytes");
  const at::Tensor source = to_tensor(info[0], "tensor");
  const c10::Storage& storage = storage_with_bytes(source);
  if (!source.device().is_cpu()) invalid("sliceBytes() expects a CPU tensor.");
  if (offset > storage.nbytes() || nbytes > storage.nbytes() - offset) {
    invalid("Bytes " + std::to_string(offset) + " + " + std::to_string(nbytes) +
            " are outside a storage of " + std::to_string(storage.nbytes()) + " bytes.");
  }
  fix_for_good(storage);
  void* data = static_cast<char*>(storage.mutable_data()) + offset;
  // The slice holds the storage that it is cut from.
  auto* owner = new c10::Storage(storage);
  c10::DataPtr pointer(data, owner, release_slice, at::kCPU);
  c10::Storage slice(c10::Storage::use_byte_size_t(), nbytes, std::move(pointer), nullptr,
                     /*resizable=*/false);
  at::Tensor tensor = at::empty({0}, at::kByte).set_(slice, 0, {static_cast<int64_t>(nbytes)}, {1});
  return from_tensor(info.Env(), std::move(tensor));
}

void check_bounds(c10::ArrayRef<int64_t> sizes, c10::ArrayRef<int64_t> strides, int64_t offset,
                  size_t item_size, size_t nbytes) {
  if (sizes.size() != strides.size()) invalid("'shape' and 'strides' differ in length.");
  const std::optional<uint64_t> needed = elements_needed(sizes, strides, offset);
  if (!needed)
    invalid("Sizes, strides and the storage offset must be 0 or more, and small enough to add up.");
  const uint64_t elements = nbytes / item_size;
  const uint64_t wanted = *needed == 0 ? static_cast<uint64_t>(offset) : *needed;
  if (wanted > elements) {
    invalid("The view needs " + std::to_string(wanted) + " elements of a storage of " +
            std::to_string(elements) + " elements.");
  }
}

Napi::Value view_storage(const Napi::CallbackInfo& info) {
  const c10::ScalarType dtype = to_scalar_type(info[1], "dtype");
  const int64_t offset = to_int64(info[2], "storageOffset");
  const std::vector<int64_t> sizes = to_int64s(info[3], "shape");
  const std::vector<int64_t> strides = to_int64s(info[4], "strides");
  if (c10::isQIntType(dtype)) throw Error(kUnsupported, "Quantized tensors cannot be viewed from bytes.");
  const at::Tensor source = to_tensor(info[0], "tensor");
  bytes_of(sizes, dtype);
  // A view reads nothing: on the meta device there is nothing to read.
  const c10::Storage& storage = source.is_meta() ? source.storage() : storage_with_bytes(source);
  check_bounds(sizes, strides, offset, c10::elementSize(dtype), storage.nbytes());
  at::Tensor tensor = at::empty({0}, at::TensorOptions().dtype(dtype).device(source.device()));
  tensor.set_(storage, offset, sizes, strides);
  return from_tensor(info.Env(), std::move(tensor));
}

Napi::Value item_size(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(),
                           static_cast<double>(c10::elementSize(to_scalar_type(info[0], "dtype"))));
}

}  // namespace

bool is_plain(const at::Tensor& tensor) {
  return tensor.layout() == at::kStrided && !tensor.is_meta() && !tensor.is_quantized() &&
         !tensor.is_nested();
}

const c10::Storage& storage_with_bytes(const at::Tensor& tensor) {
  const c10::Storage& storage = tensor.storage();
  if (tensor._is_zerotensor() || (storage.nbytes() > 0 && storage.data() == nullptr)) {
    throw Error(
        kUnsupported,
        "The tensor has no bytes: it is on the meta device, or zeros that take no memory. A clone() of "
        "such zeros has them.");
  }
  return storage;
}

void release_slice(void* context) { delete static_cast<c10::Storage*>(context); }

void init_storage(Napi::Env, Napi::Object& exports) {
  expose<from_typed_array>(exports, "fromTypedArray");
  expose<to_array_buffer>(exports, "toArrayBuffer");
  expose<share_storage>(exports, "shareStorage");
  expose<wrapped_number>(exports, "wrappedNumber");
  expose<item>(exports, "item");
  expose<copy_to_cpu>(exports, "copyToCpu");
  expose<slice_bytes>(exports, "sliceBytes");
  expose<view_storage>(exports, "viewStorage");
  expose<item_size>(exports, "itemSize");
}

}  // namespace torchbind
