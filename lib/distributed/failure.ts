import { writeFileSync } from 'node:fs';
import { TorchBindError } from '../errors';

/** What a failed collective means, and what to do, by what gloo and c10d say. */
const MEANINGS: readonly (readonly [message: RegExp, code: string, meaning: string])[] = [
  [
    /NCCL plug-in was not loaded/,
    'ERR_TORCHBIND_UNSUPPORTED',
    'The plug-in needs the CUDA build of libtorch that it was compiled against: see `npx torchbind doctor`.',
  ],
  [
    /No backend type associated with device type/,
    'ERR_TORCHBIND_DISTRIBUTED',
    "The group's backend takes no tensors of that device. initProcessGroup({ backend: 'cpu:gloo,cuda:nccl' }) takes both, which fit and the " +
      'object forms need.',
  ],
  [
    /Detected mismatch between collectives/,
    'ERR_TORCHBIND_DISTRIBUTED_MISMATCH',
    'All ranks of a group must make the same calls in the same order, with tensors of one shape and dtype.',
  ],
  [
    /Unable to find address for/i,
    'ERR_TORCHBIND_DISTRIBUTED',
    'This machine has no network interface of that name with an address. GLOO_SOCKET_IFNAME names the one that the other ranks reach: ' +
      '`ip addr` (Linux) or `ifconfig` (macOS) lists them.',
  ],
  [
    /client socket has timed out.*trying to connect/is,
    'ERR_TORCHBIND_DISTRIBUTED_TIMEOUT',
    'Nothing answers at that address: rank 0, or the launcher, listens there. Check that it was started, that MASTER_ADDR and MASTER_PORT are ' +
      'the same for all ranks, and that no firewall is between them.',
  ],
  [
    /EADDRINUSE/,
    'ERR_TORCHBIND_DISTRIBUTED',
    'Another program listens on MASTER_PORT. Choose another port, the same for all ranks.',
  ],
  [
    /Connection refused|No route to host|Network is unreachable|Connect timeout|failed to connect|listening on (127\.|\[?::1)/i,
    'ERR_TORCHBIND_DISTRIBUTED',
    "If ranks are on several machines and the address is one of loopback (127.x.x.x), this machine's host name resolves to loopback: " +
      'set GLOO_SOCKET_IFNAME to the network interface that the others reach (eth0, ...).',
  ],
  [
    /Connection closed by peer|Connection reset|Broken pipe|Socket closed|recvValue failed|sendBytes failed/i,
    'ERR_TORCHBIND_RANK_LOST',
    'The rank at that address has ended or was killed; its own output says why.',
  ],
  [
    /timed? ?out|timeout/i,
    'ERR_TORCHBIND_DISTRIBUTED_TIMEOUT',
    'A rank is slow, has stopped, was never started, or is cut off. The timeout is an option of initProcessGroup.',
  ],
];

/** The error of a collective, with who waited and what it means. */
export function distributedError(error: unknown, where: string): unknown {
  if (!(error instanceof TorchBindError)) return error;
  const { message, code } = error;
  const found = MEANINGS.find(([pattern]) => pattern.test(message));
  if (found === undefined && code !== 'ERR_TORCHBIND_DISTRIBUTED')
    return new TorchBindError(`${where}: ${message}`, code, { cause: error });
  const [, foundCode, meaning] = found ?? [undefined, code, ''];
  return new TorchBindError(`${where}: ${plain(message)} ${meaning}`.trimEnd(), foundCode, { cause: error });
}

/** Without the lines of gloo's source, and its guess. */
function plain(message: string): string {
  const text = message
    .replace(/\[[^\]]*gloo\/[^\]]*:\d+\] /g, '')
    .replace(/ ?This is typically caused by a remote worker [^]*$/, '')
    .trim();
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

let reported = false;

/**
 * Writes an error that ends this process to the file in which torchrun looks for it, so that its table of failures
 * shows it. Only the first error is written, and only under torchrun.
 */
export function reportToTorchrun(error: unknown, env: NodeJS.ProcessEnv = process.env): void {
  const file = env.TORCHELASTIC_ERROR_FILE;
  if (file === undefined || file === '' || reported) return;
  reported = true;
  const { message, stack } = error instanceof Error ? error : { message: String(error), stack: undefined };
  const timestamp = String(Math.floor(Date.now() / 1000));
  const content = { message: { message, extraInfo: { py_callstack: stack ?? message, timestamp } } };
  try {
    writeFileSync(file, JSON.stringify(content), { flag: 'wx' });
  } catch {
    // The error itself is thrown and printed all the same.
  }
}

let listening = false;

/** From now on, what nobody catches is reported. The process ends with it as it would have done. */
export function reportUncaught(): void {
  if (listening) return;
  listening = true;
  process.on('uncaughtExceptionMonitor', (error) => {
    reportToTorchrun(error);
  });
}
