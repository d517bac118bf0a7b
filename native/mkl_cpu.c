// libtorch holds MKL, and MKL asks this function whether the processor is Intel's; if not, it computes with
// slow generic kernels. Opened before libtorch, this library answers first, and MKL goes by what the
// processor can do. Called once, at MKL's first product; see docs/decisions/cpu-kernels.md.
int mkl_serv_intel_cpu_true(void);
int mkl_serv_intel_cpu_true(void) { return 1; }
