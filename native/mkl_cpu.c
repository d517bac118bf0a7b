// libtorch contains MKL, and MKL asks this function whether the processor is Intel's. If not, MKL uses slow
// generic kernels. This library is opened before libtorch, so its answer counts, and MKL chooses kernels by
// the processor's features. The function is called once, at MKL's first product; see
// docs/decisions/cpu-kernels.md.
int mkl_serv_intel_cpu_true(void);
int mkl_serv_intel_cpu_true(void) { return 1; }
