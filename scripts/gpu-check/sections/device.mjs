// Properties, streams, events, memory figures, switches.
import { atMost, format } from '../context.mjs';

export async function run(context, tb) {
  const { cuda, backends } = tb;
  const { isCuda, device } = context;
  await context.check('cuda.isAvailable()', () => cuda.isAvailable() === isCuda);
  await context.check('the device count is that of Python', async () => {
    const { count } = await context.ask({ ask: 'device', device });
    return { ok: cuda.deviceCount() === (isCuda ? count : 0), measured: String(cuda.deviceCount()) };
  });
  await context.check('versions: the addon is compiled for the PyTorch that is loaded', () => {
    const { torch, compiledFor } = tb.versions();
    const minor = (version) => version.split('.').slice(0, 2).join('.');
    return { ok: minor(torch) === minor(compiledFor), measured: compiledFor, note: torch };
  });
  await context.check('switches are read as they were set', () => switches(tb));
  if (!isCuda) {
    await context.check('without a device, what acts on one is refused', () => refusals(tb));
    return;
  }
  await context.check('properties are those of Python', async () => {
    const { properties } = await context.ask({ ask: 'device', device });
    const own = cuda.getDeviceProperties(device);
    const differing = Object.entries(properties).filter(([key, value]) => own[key] !== value);
    return { ok: differing.length === 0, measured: own.name, note: JSON.stringify(differing) };
  });
  context.figure(
    'memory of the device',
    `${format(cuda.memGetInfo(device).total / 2 ** 30)} GiB`,
    cuda.getDeviceName(device),
  );
  await context.check('isBf16Supported and isTf32Supported', async () => {
    const { bf16, tf32 } = await context.ask({ ask: 'device', device });
    return cuda.isBf16Supported() === bf16 && cuda.isTf32Supported() === tf32;
  });
  await context.check('cuDNN answers', () => ({
    ok: backends.cudnn.isAvailable(),
    measured: String(backends.cudnn.version()),
  }));
  await context.check('events measure time', () => {
    const [start, end] = [new cuda.Event({ enableTiming: true }), new cuda.Event({ enableTiming: true })];
    const a = tb.randn(4096, 4096, { device });
    a.matmul(a);
    start.record();
    for (let i = 0; i < 10; i++) a.matmul(a);
    end.record();
    end.synchronize();
    const milliseconds = start.elapsedTime(end);
    return {
      ok: milliseconds > 1 && milliseconds < 5000,
      measured: `${format(milliseconds)} ms`,
      allowed: '1 to 5000 ms',
    };
  });
  await context.check('a side stream computes the same, and waits as it is told', () => {
    const a = tb.randn(1024, 1024, { device });
    const expected = a.matmul(a);
    const stream = new cuda.Stream();
    stream.waitStream(cuda.currentStream());
    const result = cuda.stream(stream, () => a.matmul(a));
    cuda.currentStream().waitStream(stream);
    cuda.recordStream(result, cuda.currentStream());
    const isBack = cuda.currentStream().equals(cuda.defaultStream());
    return {
      ok: isBack && tb.equal(expected, result),
      note: isBack ? '' : 'the stream before did not become current again',
    };
  });
  await context.check('synchronizeAsync lets the event loop turn', async () => {
    const a = tb.randn(8192, 8192, { device });
    for (let i = 0; i < 20; i++) a.matmul(a);
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    await cuda.currentStream().synchronizeAsync();
    clearInterval(timer);
    return { ok: turns > 5 && cuda.currentStream().query(), measured: `${turns} turns`, allowed: '> 5' };
  });
  await context.check('pinned batches copied without waiting', () => {
    const host = tb.randn(2048, 2048).pinMemory();
    if (!host.isPinned()) return { ok: false, note: 'the memory is not pinned' };
    const began = performance.now();
    const there = host.to({ device, nonBlocking: true });
    const milliseconds = performance.now() - began;
    return {
      ...atMost(milliseconds, 2, { unit: ' ms', note: '16 MiB' }),
      ok: tb.equal(there.cpu(), host) && milliseconds <= 2,
    };
  });
  await context.check('memory figures follow tensors', () => {
    const before = cuda.memoryAllocated(device);
    cuda.resetPeakMemoryStats(device);
    const block = tb.zeros(64, 2 ** 20, { device });
    const during = cuda.memoryAllocated(device) - before;
    block.dispose();
    const after = cuda.memoryAllocated(device) - before;
    const peak = cuda.maxMemoryAllocated(device) - before;
    const ok = during === 2 ** 28 && after === 0 && peak === 2 ** 28;
    return { ok, measured: `${during}, ${peak}, ${after}`, allowed: `${2 ** 28}, ${2 ** 28}, 0` };
  });
  await context.check('memorySummary', () => /Allocated memory +\| +\d+ [KMG]?i?B/.test(cuda.memorySummary(device)));
}

function switches({ backends, getFloat32MatmulPrecision, setFloat32MatmulPrecision }) {
  const flips = [
    [backends.cuda.matmul, 'allowTf32'],
    [backends.cudnn, 'allowTf32'],
    [backends.cudnn, 'benchmark'],
    [backends.cudnn, 'deterministic'],
    [backends.cudnn, 'enabled'],
  ];
  const wrong = flips.filter(([owner, key]) => {
    const before = owner[key];
    owner[key] = !before;
    const isSet = owner[key] === !before;
    owner[key] = before;
    return !isSet || owner[key] !== before;
  });
  setFloat32MatmulPrecision('high');
  const isHigh = getFloat32MatmulPrecision() === 'high' && backends.cuda.matmul.allowTf32;
  setFloat32MatmulPrecision('highest');
  return { ok: wrong.length === 0 && isHigh, note: wrong.map(([, key]) => key).join(', ') };
}

function refusals({ cuda }) {
  const acts = {
    Stream: () => new cuda.Stream(),
    Event: () => new cuda.Event(),
    CUDAGraph: () => new cuda.CUDAGraph(),
    currentStream: () => cuda.currentStream(),
    getDeviceProperties: () => cuda.getDeviceProperties(),
    synchronize: () => cuda.synchronize(),
  };
  const silent = Object.entries(acts).filter(([, act]) => {
    try {
      act();
      return true;
    } catch (error) {
      return error.code !== 'ERR_TORCHBIND_DEVICE';
    }
  });
  const answers = !cuda.isBf16Supported() && !cuda.isTf32Supported() && !cuda.isCurrentStreamCapturing();
  return { ok: silent.length === 0 && answers, note: silent.map(([name]) => name).join(', ') };
}
