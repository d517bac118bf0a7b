import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { describeDiagnosis, type Diagnosis } from '../../lib/install/doctor';
import { useKernels } from '../../lib/native/cpu-kernels';
import type { Processor } from '../../lib/native/loader';
import { repositoryRoot } from '../helpers/python';

interface Facts {
  setting: string;
  fastMkl: boolean;
  processor: Processor;
  capability: string;
  product: number[];
}

function run(setting: string | undefined): { status: number | null; stderr: string; main: Facts; worker: Facts } {
  const env = { ...process.env, TORCHBIND_CPU_KERNELS: setting };
  const child = path.join(__dirname, 'children/kernels.cjs');
  const { status, stdout, stderr } = spawnSync(process.execPath, [child], {
    cwd: repositoryRoot,
    env,
    encoding: 'utf8',
  });
  return { status, stderr, ...(JSON.parse(stdout === '' ? '{}' : stdout) as { main: Facts; worker: Facts }) };
}

const needsFastMkl = ({ vendor, avx512 }: Processor): boolean => vendor === 'AuthenticAMD' && avx512;

describe('the kernels of a process', () => {
  test('are chosen by TORCHBIND_CPU_KERNELS, and worker threads have the same whatever their environment says', () => {
    const [auto, stock, byDefault] = [run('auto'), run('stock'), run(undefined)];
    for (const [{ main, worker, stderr }, setting] of [
      [auto, 'auto'],
      [stock, 'stock'],
      [byDefault, 'auto'],
    ] as const) {
      expect(stderr).toBe('');
      expect(main.setting).toBe(setting);
      expect(main.fastMkl).toBe(setting === 'auto' && needsFastMkl(main.processor));
      expect(worker).toEqual(main);
      expect(main.capability).toMatch(/^[A-Z0-9 ]+$/);
    }
    expect(auto.main.product).toEqual(byDefault.main.product);
    // Sums of 96 products of float32 in another order.
    auto.main.product.forEach((value, i) => expect(Math.abs(value - stock.main.product[i]!)).toBeLessThan(1e-4));
    if (!auto.main.fastMkl) expect(auto.main.product).toEqual(stock.main.product);
  });

  test('that there are not are refused', () => {
    const { status, stderr } = run('fast');
    expect(status).toBe(1);
    expect(stderr).toContain("TORCHBIND_CPU_KERNELS must be 'auto' or 'stock', got 'fast'");
  });

  test('are decided by the processor alone', () => {
    const choose = (processor: Processor, setting: string): [library: string, ownRows: number] => {
      let opened = '';
      const loader = {
        processor: () => processor,
        chooseKernels: (chosen: string, library: string) => {
          opened = library;
          return { setting: chosen, fastMkl: library !== '', problem: null };
        },
      };
      const { ownRows } = useKernels(loader as never, '/a/torchbind.node', { TORCHBIND_CPU_KERNELS: setting });
      return [opened, ownRows];
    };
    const zen4 = { vendor: 'AuthenticAMD', avx2: true, avx512: true };
    const zen3 = { ...zen4, avx512: false };
    expect(choose(zen4, 'auto')).toEqual([path.normalize('/a/torchbind_mkl.so'), 16]);
    expect(choose(zen3, 'auto')).toEqual(['', 16]);
    expect(choose(zen4, 'stock')).toEqual(['', 0]);
    expect(choose({ vendor: 'AuthenticAMD', avx2: false, avx512: false }, 'auto')).toEqual(['', 0]);
    expect(choose({ vendor: 'GenuineIntel', avx2: true, avx512: true }, 'auto')).toEqual(['', 0]);
    expect(choose({ vendor: '', avx2: false, avx512: false }, 'auto')).toEqual(['', 0]);
  });
});

test('doctor says which kernels compute, from what MKL uses in a process of its own', () => {
  for (const setting of ['auto', 'stock']) {
    const env = { ...process.env, TORCHBIND_CPU_KERNELS: setting };
    const main = path.join(repositoryRoot, 'dist/cli/main.js');
    const { stdout } = spawnSync(process.execPath, [main, 'doctor', '--json'], { env, encoding: 'utf8' });
    const diagnosis = JSON.parse(stdout) as Diagnosis;
    const { kernels, mklLevel } = diagnosis.probe;
    expect(diagnosis.environment.TORCHBIND_CPU_KERNELS).toBe(setting);
    expect(kernels!.setting).toBe(setting);
    expect(describeDiagnosis(diagnosis)).toContain(`CPU kernels: ${setting}: `);
    if (kernels!.processor.vendor !== 'AuthenticAMD') continue;
    expect(mklLevel! >= 7).toBe(kernels!.fastMkl);
    expect(describeDiagnosis(diagnosis)).toContain(`MKL computes ${kernels!.fastMkl ? 'with' : 'without'} AVX-512`);
  }
});
