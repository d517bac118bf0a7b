/** Everything that decides whether torchbind works on this machine, for a bug report. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { cacheDirectory, cacheProblem } from './cache';
import { discoverLibtorch, type Discovery } from './discover';
import { PINNED_VERSION } from './libtorch';
import { hasNvidiaDriver, platformName } from './platform';

export interface Diagnosis {
  ok: boolean;
  node: string;
  platform: string;
  pinned: string;
  /** Its directory, or why it was not found. */
  cache: string;
  nvidiaDriver: boolean;
  /** Those that are set. */
  environment: Record<string, string>;
  libtorch: Discovery;
  /** What a process of its own found when it loaded the addon. */
  probe: Probe;
}

interface Probe {
  ok: boolean;
  addon?: string;
  torch?: string;
  accelerator?: string | null;
  cudaProblem?: string | null;
  kernels?: { setting: string; fastMkl: boolean; problem: string | null; processor: { vendor: string } };
  /** MKL's number for the kernels that it computes with: 7 are those for AVX-512. Null where it has none. */
  mklLevel?: number | null;
  error?: string;
}

const VARIABLES = [
  'TORCHBIND_LIBTORCH',
  'LIBTORCH',
  'TORCHBIND_USE_PYTORCH',
  'TORCHBIND_MIRROR',
  'TORCHBIND_BYPASS_VERSION_CHECK',
  'TORCHBIND_CPU_KERNELS',
  'XDG_CACHE_HOME',
  'LD_LIBRARY_PATH',
  'HTTPS_PROXY',
  'NO_PROXY',
];

/** Looks at this machine. The addon is loaded in a process of its own, which may crash without harm. */
export function diagnose(env: NodeJS.ProcessEnv = process.env): Diagnosis {
  const probe = probeAddon(env);
  const set = VARIABLES.flatMap((name) => (env[name] ? [[name, withoutPassword(env[name])] as const] : []));
  return {
    ok: probe.ok,
    node: process.versions.node,
    platform: platformName(),
    pinned: PINNED_VERSION,
    cache: cacheProblem(env) ?? cacheDirectory(env),
    nvidiaDriver: hasNvidiaDriver(),
    environment: Object.fromEntries(set),
    libtorch: discoverLibtorch(env),
    probe,
  };
}

/** The diagnosis as lines for a person. */
export function describeDiagnosis(diagnosis: Diagnosis): string {
  const { libtorch, probe } = diagnosis;
  const lines = [
    `Node ${diagnosis.node}, ${diagnosis.platform}, NVIDIA driver: ${diagnosis.nvidiaDriver ? 'yes' : 'no'}`,
    `cache: ${diagnosis.cache}`,
    ...Object.entries(diagnosis.environment).map(([name, value]) => `${name}=${value}`),
    ...libtorch.refused.map(({ source, path, reason }) => `not taken (${source}): ${path}: ${reason}`),
  ];
  if (libtorch.found !== undefined) {
    lines.push(`libtorch ${libtorch.found.version} (${libtorch.found.source}): ${libtorch.found.root}`);
  }
  if (probe.addon !== undefined) lines.push(`addon: ${probe.addon}`);
  if (probe.kernels !== undefined) lines.push(describeKernels(probe.kernels, probe.mklLevel));
  if (probe.cudaProblem) lines.push(`CUDA is not used: ${probe.cudaProblem}`);
  if (probe.accelerator) lines.push(`accelerator: ${probe.accelerator}`);
  lines.push(probe.ok ? 'torchbind loads and computes.' : `torchbind does not work here: ${probe.error}`);
  return lines.join('\n');
}

/** MKL's number for its kernels for AVX-512; the others have smaller ones. */
const AVX512 = 7;

function describeKernels(
  { setting, fastMkl, problem, processor }: NonNullable<Probe['kernels']>,
  mklLevel: number | null = null,
): string {
  const bits =
    setting === 'stock'
      ? 'results are those of Python on this machine, bit for bit'
      : fastMkl
        ? "faster on this processor; results differ from Python's by rounding (TORCHBIND_CPU_KERNELS=stock gives Python's bits)"
        : "training is Python's bit for bit; generation may use other products on this processor";
  const failed = problem === null ? '' : `; MKL stays on its slow path: ${problem}`;
  const mkl = mklLevel === null ? 'no MKL' : `MKL computes ${mklLevel >= AVX512 ? 'with' : 'without'} AVX-512`;
  return `CPU kernels: ${setting}: ${bits}${failed}. Processor: ${processor.vendor || 'unknown'}; ${mkl}`;
}

function probeAddon(env: NodeJS.ProcessEnv): Probe {
  const imported = (name: string): string => `require(${JSON.stringify(path.join(__dirname, '../native', name))})`;
  const code = `
    const { native, loadedAddon } = ${imported('native.js')};
    const { loader } = ${imported('loader.js')};
    try {
      const torch = native().versions().torch;
      const { addon, cudaProblem, kernels } = loadedAddon();
      // A product: at the first one MKL chooses its kernels.
      const ones = native().fromTypedArray(new Float32Array(256).fill(1), [16, 16], 6);
      native().call(native().findOperator('aten::mm', ''), ones, ones);
      console.log(JSON.stringify({ ok: true, addon, torch, accelerator: native().accelerator(), cudaProblem, kernels, mklLevel: loader().mklLevel() }));
    } catch (error) {
      console.error(error.message);
      process.exitCode = 1;
    }`;
  const child = spawnSync(process.execPath, ['-e', code], {
    env,
    encoding: 'utf8',
    timeout: 120_000,
    windowsHide: true,
  });
  if (child.status === 0) return JSON.parse(child.stdout.split('\n').find((line) => line.startsWith('{'))!) as Probe;
  return {
    ok: false,
    error: child.stderr.trim() || `the process ended with ${child.signal ?? `status ${child.status}`}`,
  };
}

function withoutPassword(value: string): string {
  return value.replace(/\/\/[^@/]*@/g, '//***@');
}
