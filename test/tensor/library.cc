// A library of operators as a user would write it.
#include <ATen/ATen.h>
#include <torch/library.h>

namespace {

at::Tensor twice(const at::Tensor& x, int64_t times) {
  at::Tensor result = x;
  for (int64_t i = 0; i < times; ++i) result = result + result;
  return result;
}

std::tuple<at::Tensor, double> split_off(const at::Tensor& x) { return {x.narrow(0, 1, x.size(0) - 1), x[0].item<double>()}; }

}  // namespace

TORCH_LIBRARY(torchbind_test, library) {
  library.def("twice(Tensor x, int times=1) -> Tensor", twice);
  library.def("split_off(Tensor x) -> (Tensor rest, float first)", split_off);
}
