// What a section is given: the device, Python, a directory, and the ways to report.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Partner } from './partner.mjs';

export class Context {
  #send;
  #partner;
  #began = performance.now();

  constructor({ device, seconds, python }, send) {
    this.device = device;
    /** A rehearsal runs every line with small sizes; what only a GPU has is expected to be refused as Python refuses it. */
    this.isCuda = device.startsWith('cuda');
    this.seconds = seconds;
    this.python = python;
    this.directory = mkdtempSync(path.join(tmpdir(), 'gpu-check-'));
    this.#send = send;
  }

  get secondsLeft() {
    return this.seconds - (performance.now() - this.#began) / 1000;
  }

  /** One size on a GPU, another in a rehearsal. */
  size(onGpu, inRehearsal) {
    return this.isCuda ? onGpu : inRehearsal;
  }

  /**
   * Runs one check. It gives `{ ok, measured, allowed, note }`, or true or false; what it throws is a failure, and the
   * section continues.
   */
  async check(name, run) {
    try {
      const result = await run();
      this.#send({ name, ...(typeof result === 'boolean' ? { ok: result } : result) });
    } catch (error) {
      this.#send({ name, ok: false, note: error.stack });
    }
  }

  /** A figure without a limit. */
  figure(name, measured, note = '') {
    this.#send({ name, ok: null, measured, note });
  }

  /** A Python process next to this one, which answers requests (python/partner.py). */
  async ask(request) {
    this.#partner ??= new Partner(this.python);
    return this.#partner.ask(request);
  }

  async close() {
    await this.#partner?.stop();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** `measured` is at most `allowed`. */
export function atMost(measured, allowed, { unit = '', note = '' } = {}) {
  const show = (value) => `${format(value)}${unit}`;
  return { ok: measured <= allowed, measured: show(measured), allowed: `<= ${show(allowed)}`, note };
}

export function format(value) {
  if (value === 0 || Number.isInteger(value)) return String(value);
  return Math.abs(value) >= 1e-3 && Math.abs(value) < 1e6
    ? Number(value.toPrecision(3)).toString()
    : value.toExponential(1);
}

/** The largest difference between two tensors, relative to the second's largest value. */
export function relativeDifference(tb, a, b) {
  return tb.tidy(() => {
    const [x, y] = [a, b].map((tensor) => tensor.detach().to({ device: 'cpu', dtype: 'float64' }));
    if (x.shape.join() !== y.shape.join()) return Infinity;
    if (x.numel() === 0) return 0;
    if (!tb.equal(x.isfinite(), y.isfinite())) return Infinity;
    const [finite, other] = [x, y].map((tensor) => tensor.nanToNum(0, 0, 0));
    const scale = Math.max(Number(other.abs().max().item()), 1e-30);
    return Number(finite.sub(other).abs().max().item()) / scale;
  });
}
