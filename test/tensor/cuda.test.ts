/** `cuda` and `backends` if there is no GPU: what asks is answered as Python answers, what acts on a device is refused. */
import { afterEach, describe, expect, it } from 'vitest';
import {
  areDeterministicAlgorithmsEnabled,
  backends,
  cuda,
  getFloat32MatmulPrecision,
  ones,
  setFloat32MatmulPrecision,
  TorchBindError,
  useDeterministicAlgorithms,
} from '../../lib/index';
import { native } from '../../lib/native/native';
import { pythonCode, pythonTimeout } from '../helpers/python';

const PYTHON = `
import json, torch
c, b = torch.backends.cuda, torch.backends.cudnn
print(json.dumps({
    "available": torch.cuda.is_available(), "count": torch.cuda.device_count(), "bf16": torch.cuda.is_bf16_supported(),
    "tf32": torch.cuda.is_tf32_supported(), "allocated": torch.cuda.memory_allocated(),
    "matmul.allowTf32": c.matmul.allow_tf32, "cudnn.allowTf32": b.allow_tf32, "enabled": b.enabled,
    "benchmark": b.benchmark, "deterministic": b.deterministic,
    "sdp": [c.flash_sdp_enabled(), c.mem_efficient_sdp_enabled(), c.math_sdp_enabled(), c.cudnn_sdp_enabled()],
    "precision": torch.get_float32_matmul_precision(), "algorithms": torch.are_deterministic_algorithms_enabled(),
}))`;

afterEach(() => {
  setFloat32MatmulPrecision('highest');
  backends.cudnn.benchmark = false;
});

it(
  'answers what Python answers, before anything is set',
  async () => {
    const own = {
      available: cuda.isAvailable(),
      count: cuda.deviceCount(),
      bf16: cuda.isBf16Supported(),
      tf32: cuda.isTf32Supported(),
      allocated: cuda.memoryAllocated(),
      'matmul.allowTf32': backends.cuda.matmul.allowTf32,
      'cudnn.allowTf32': backends.cudnn.allowTf32,
      enabled: backends.cudnn.enabled,
      benchmark: backends.cudnn.benchmark,
      deterministic: backends.cudnn.deterministic,
      sdp: [
        backends.cuda.flashSdpEnabled(),
        backends.cuda.memEfficientSdpEnabled(),
        backends.cuda.mathSdpEnabled(),
        backends.cuda.cudnnSdpEnabled(),
      ],
      precision: getFloat32MatmulPrecision(),
      algorithms: areDeterministicAlgorithmsEnabled(),
    };
    expect(own).toEqual(JSON.parse(await pythonCode(PYTHON)));
  },
  pythonTimeout,
);

describe('switches', () => {
  it('are read as they were set, and go together as in Python', () => {
    setFloat32MatmulPrecision('high');
    expect(backends.cuda.matmul.allowTf32).toBe(true);
    setFloat32MatmulPrecision('highest');
    expect(backends.cuda.matmul.allowTf32).toBe(false);
    backends.cuda.enableMathSdp(false);
    expect(backends.cuda.mathSdpEnabled()).toBe(false);
    backends.cuda.enableMathSdp(true);
    backends.cudnn.benchmark = true;
    expect(backends.cudnn.benchmark).toBe(true);
  });

  it('say what they take', () => {
    expect(() => (backends.cudnn.enabled = 1 as never)).toThrow('backends.cudnn.enabled: expected true or false, got');
    expect(() => setFloat32MatmulPrecision('low' as never)).toThrow(
      "must be 'highest', 'high' or 'medium', got 'low'.",
    );
    expect(() => native().getSwitch('nothing' as never)).toThrow("Unknown switch 'nothing'.");
  });

  it('of deterministic algorithms', () => {
    useDeterministicAlgorithms(true, { warnOnly: true });
    expect(native().deterministicAlgorithms()).toEqual([true, true]);
    useDeterministicAlgorithms(false);
    expect(areDeterministicAlgorithmsEnabled()).toBe(false);
  });
});

describe.runIf(!cuda.isAvailable())('without a device', () => {
  it.each<[string, () => unknown]>([
    ['new cuda.Stream()', () => new cuda.Stream()],
    ['new cuda.Event()', () => new cuda.Event({ enableTiming: true })],
    ['new cuda.CUDAGraph()', () => new cuda.CUDAGraph()],
    ['cuda.currentStream()', () => cuda.currentStream()],
    ['cuda.defaultStream()', () => cuda.defaultStream('cuda:0')],
    ['cuda.device()', () => cuda.device(0, () => 1)],
    ['cuda.getDeviceProperties()', () => cuda.getDeviceProperties()],
    ['cuda.getDeviceName()', () => cuda.getDeviceName(0)],
    ['cuda.getDeviceCapability()', () => cuda.getDeviceCapability()],
    ['cuda.memorySummary(0)', () => cuda.memorySummary(0)],
    ['a native function', () => native().newStream('cuda:0', 0)],
    ['a native event', () => native().newEvent(true)],
    ['the driver', () => native().driverVersion()],
  ])('%s is refused', (_, act) => {
    let error: unknown;
    try {
      act();
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(TorchBindError);
    expect((error as TorchBindError).code).toBe('ERR_TORCHBIND_DEVICE');
  });

  it('memorySummary is a table of zeros', () => {
    expect(cuda.memorySummary()).toMatch(/\| Allocated memory +\| +0 B \| +0 B \|/);
  });

  it('nothing is captured', () => {
    expect(cuda.isCurrentStreamCapturing()).toBe(false);
    expect(backends.cuda.isBuilt()).toBe(false);
    expect(backends.cudnn.isAvailable()).toBe(false);
    expect(backends.cudnn.version()).toBeNull();
  });
});

describe('wrong arguments', () => {
  it.each<[string, () => unknown, string]>([
    ['a stream that is none', () => cuda.stream({} as never, () => 1), 'cuda.stream(): expected a Stream'],
    ['an async function', () => cuda.device(0, async () => Promise.resolve(1)), 'cuda.device: an async function'],
    ['a tensor of the CPU', () => cuda.recordStream(ones(1), {} as never), 'the tensor is on cpu'],
    ['unknown options', () => new cuda.Event({ timing: true } as never), "'timing'"],
    ['junk for a stream', () => native().streamInfo({} as never), 'Expected a stream, got'],
    ['junk for an event', () => native().queryEvent(1 as never), 'Expected an event, got'],
  ])('%s', (_, act, message) => {
    expect(act).toThrow(message);
  });
});
