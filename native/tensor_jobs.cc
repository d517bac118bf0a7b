#include "tensor_jobs.h"

#include <ATen/ATen.h>

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "addon.h"
#include "arguments.h"
#include "errors.h"
#include "fixed_storage.h"
#include "off_loop.h"
#include "steady.h"
#include "storage.h"

namespace torchbind {
namespace {

// Not movable, so not in a vector.
using SteadyTensors = std::deque<SteadyTensor>;

SteadyTensors steady(const Napi::Value& value, const char* name) {
  SteadyTensors tensors;
  for (const at::Tensor& tensor : to_tensors(value, name)) tensors.emplace_back(tensor);
  return tensors;
}

// Contiguous copies on the CPU.
class PackTensors final : public OffLoopWork {
 public:
  PackTensors(Napi::Env env, SteadyTensors sources, std::optional<c10::ScalarType> dtype)
      : OffLoopWork(env), sources_(std::move(sources)), dtype_(dtype) {}

 private:
  void run() override {
    const at::NoGradGuard no_grad;
    for (const SteadyTensor& source : sources_) {
      const at::Tensor& tensor = source.tensor();
      const at::TensorOptions options =
          at::TensorOptions().dtype(dtype_.value_or(tensor.scalar_type())).device(at::kCPU);
      copies_.push_back(at::empty(tensor.sizes(), options));
      copies_.back().copy_(tensor);
    }
  }

  Napi::Value result(Napi::Env env) override {
    Napi::Array handles = Napi::Array::New(env, copies_.size());
    for (uint32_t i = 0; i < copies_.size(); ++i) handles.Set(i, from_tensor(env, copies_[i]));
    return handles;
  }

  SteadyTensors sources_;
  std::optional<c10::ScalarType> dtype_;
  std::vector<at::Tensor> copies_;
};

// Copies values into tensors whose memory stays where it is meanwhile.
class CopyTensors final : public OffLoopWork {
 public:
  CopyTensors(Napi::Env env, const std::vector<at::Tensor>& targets, SteadyTensors sources)
      : OffLoopWork(env), sources_(std::move(sources)) {
    for (const at::Tensor& target : targets) {
      fixed_.emplace_back(storage_with_bytes(target));
      targets_.push_back(target.detach());
    }
  }

 private:
  void run() override {
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < targets_.size(); ++i) targets_[i].copy_(sources_[i].tensor());
  }

  Napi::Value result(Napi::Env env) override { return env.Undefined(); }

  std::deque<FixedStorage> fixed_;
  std::vector<at::Tensor> targets_;
  SteadyTensors sources_;
};

// Whether each tensor has the elements of the other of the same place: in equal numbers, or in equal bits.
class EqualTensors final : public OffLoopWork {
 public:
  EqualTensors(Napi::Env env, SteadyTensors first, SteadyTensors second)
      : OffLoopWork(env), first_(std::move(first)), second_(std::move(second)) {}

 private:
  void run() override {
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < first_.size(); ++i)
      equal_.push_back(are_equal(first_[i].tensor(), second_[i].tensor()));
  }

  static bool are_equal(const at::Tensor& a, const at::Tensor& b) {
    if (a.scalar_type() != b.scalar_type() || a.sizes() != b.sizes()) return false;
    const at::Tensor other = b.to(a.device());
    if (a.equal(other)) return true;
    // equal() says that NaN differs from NaN. Here the same bits count as equal.
    if (!a.is_floating_point()) return false;
    const c10::ScalarType bits[] = {at::kByte, at::kShort, at::kInt, at::kLong};
    const c10::ScalarType integer = bits[a.itemsize() == 1   ? 0
                                         : a.itemsize() == 2 ? 1
                                         : a.itemsize() == 4 ? 2
                                                             : 3];
    return a.view(integer).equal(other.view(integer));
  }

  Napi::Value result(Napi::Env env) override {
    Napi::Array array = Napi::Array::New(env, equal_.size());
    for (uint32_t i = 0; i < equal_.size(); ++i) array.Set(i, Napi::Boolean::New(env, equal_[i]));
    return array;
  }

  SteadyTensors first_;
  SteadyTensors second_;
  std::vector<bool> equal_;
};

// How far elements [start, start + length) of two contiguous tensors are apart, computed in float64.
class MeasureDistance final : public OffLoopWork {
 public:
  MeasureDistance(Napi::Env env, const at::Tensor& a, const at::Tensor& b, int64_t start, int64_t length)
      : OffLoopWork(env), a_(a), b_(b), start_(start), length_(length) {}

 private:
  void run() override {
    const at::NoGradGuard no_grad;
    const at::Tensor a = a_.tensor().reshape({-1}).narrow(0, start_, length_);
    const at::Tensor b = b_.tensor().reshape({-1}).narrow(0, start_, length_);
    const at::Tensor x = wide(a);
    const at::Tensor y = wide(b);
    aa_ = product(x, x);
    bb_ = product(y, y);
    ab_ = product(x, y);
    // Two equal infinities, or NaNs, would be far apart.
    is_equal_ =
        a.scalar_type() == b.scalar_type() && a.view(at::kByte).equal(b.to(a.device()).view(at::kByte));
    if (is_equal_) return;
    const at::Tensor difference = x.sub(y);
    max_abs_ = difference.abs().max().item<double>();
    dd_ = product(difference, difference);
  }

  // Complex numbers as two.
  static at::Tensor wide(const at::Tensor& tensor) {
    const at::Tensor real =
        tensor.is_complex() ? at::view_as_real(tensor.resolve_conj()).reshape({-1}) : tensor;
    return real.to(at::TensorOptions().dtype(at::kDouble).device(at::kCPU));
  }

  static double product(const at::Tensor& a, const at::Tensor& b) { return a.dot(b).item<double>(); }

  Napi::Value result(Napi::Env env) override {
    Napi::Object sums = Napi::Object::New(env);
    sums.Set("aa", aa_);
    sums.Set("bb", bb_);
    sums.Set("ab", ab_);
    sums.Set("dd", dd_);
    sums.Set("maxAbs", max_abs_);
    sums.Set("equal", is_equal_);
    return sums;
  }

  SteadyTensor a_;
  SteadyTensor b_;
  int64_t start_;
  int64_t length_;
  double aa_ = 0;
  double bb_ = 0;
  double ab_ = 0;
  double dd_ = 0;
  double max_abs_ = 0;
  bool is_equal_ = false;
};

Napi::Value pack_tensors(const Napi::CallbackInfo& info) {
  std::optional<c10::ScalarType> dtype;
  if (!info[1].IsNull()) {
    dtype = to_scalar_type(info[1], "dtype");
    if (c10::isQIntType(*dtype)) throw Error(kUnsupported, "Tensors are not quantized by a copy.");
  }
  return OffLoopWork::start(std::make_unique<PackTensors>(info.Env(), steady(info[0], "tensors"), dtype));
}

void check_same_length(size_t first, size_t second) {
  if (first != second)
    invalid("The lists have " + std::to_string(first) + " and " + std::to_string(second) + " tensors.");
}

Napi::Value copy_tensors(const Napi::CallbackInfo& info) {
  const std::vector<at::Tensor> targets = to_tensors(info[0], "targets");
  SteadyTensors sources = steady(info[1], "sources");
  check_same_length(targets.size(), sources.size());
  for (const at::Tensor& target : targets) {
    if (!is_plain(target) || target.is_inference())
      throw Error(kUnsupported, "Values are copied into dense, plain tensors only.");
  }
  return OffLoopWork::start(std::make_unique<CopyTensors>(info.Env(), targets, std::move(sources)));
}

Napi::Value equal_tensors(const Napi::CallbackInfo& info) {
  SteadyTensors first = steady(info[0], "first");
  SteadyTensors second = steady(info[1], "second");
  check_same_length(first.size(), second.size());
  return OffLoopWork::start(std::make_unique<EqualTensors>(info.Env(), std::move(first), std::move(second)));
}

Napi::Value measure_distance(const Napi::CallbackInfo& info) {
  const at::Tensor a = to_tensor(info[0], "a");
  const at::Tensor b = to_tensor(info[1], "b");
  const int64_t start = to_int64(info[2], "start");
  const int64_t length = to_int64(info[3], "length");
  if (a.numel() != b.numel() || start < 0 || length < 1 || length > a.numel() - start)
    invalid("Elements " + std::to_string(start) + " + " + std::to_string(length) +
            " are outside the tensors.");
  return OffLoopWork::start(std::make_unique<MeasureDistance>(info.Env(), a, b, start, length));
}

// One call for all: a model may have a thousand tensors.
Napi::Value lazy_copies(const Napi::CallbackInfo& info) {
  const std::vector<at::Tensor> tensors = to_tensors(info[0], "tensors");
  const at::NoGradGuard no_grad;
  Napi::Array handles = Napi::Array::New(info.Env(), tensors.size());
  for (uint32_t i = 0; i < tensors.size(); ++i) {
    const bool has_bytes = is_plain(tensors[i]) && !tensors[i]._is_zerotensor();
    const c10::Storage copy = has_bytes ? lazy_copy(tensors[i].storage()) : c10::Storage();
    if (copy) {
      at::Tensor bytes = at::empty({0}, at::kByte);
      bytes.set_(copy, 0, {static_cast<int64_t>(copy.nbytes())}, {1});
      handles.Set(i, from_tensor(info.Env(), std::move(bytes)));
    } else {
      handles.Set(i, 0);
    }
  }
  return handles;
}

// Whether nobody has the tensor's storage but this one handle. Fixed memory is somebody else's too, but for a
// slice of a file, which is all that is left of it.
Napi::Value is_sole_owner(const Napi::CallbackInfo& info) {
  const at::Tensor& tensor = to_tensor(info[0], "tensor");
  const bool is_sole =
      tensor.has_storage() && tensor.use_count() == 1 && tensor.storage().use_count() == 1 &&
      (!is_fixed(tensor.storage()) || tensor.storage().data_ptr().get_deleter() == release_slice);
  return Napi::Boolean::New(info.Env(), is_sole);
}

}  // namespace

void init_tensor_jobs(Napi::Env, Napi::Object& exports) {
  expose<pack_tensors>(exports, "packTensors");
  expose<copy_tensors>(exports, "copyTensors");
  expose<equal_tensors>(exports, "equalTensors");
  expose<measure_distance>(exports, "measureDistance");
  expose<lazy_copies>(exports, "lazyCopies");
  expose<is_sole_owner>(exports, "isSoleOwner");
}

}  // namespace torchbind
