import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    setupFiles: ['test/setup.ts'],
    // A native addon wants a process of its own, which a crash in one file cannot take the others along with.
    pool: 'forks',
    // libtorch computes on all cores: more files at a time only wait for each other.
    maxWorkers: 2,
    // Tests compare bits with Python, which stock kernels alone give. test/native/cpu-kernels.test.ts runs the others.
    // Two processes with two threads each on two cores spend their time waiting for one another.
    env: { OMP_NUM_THREADS: '1', TORCHBIND_CPU_KERNELS: 'stock' },
    // For machines that other work slows down, and for Python, which takes seconds to import PyTorch.
    testTimeout: 60_000,
    hookTimeout: 180_000,
  },
});
