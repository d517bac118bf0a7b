import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { describe, expect, it } from 'vitest';

const child = path.join(__dirname, 'children/lifetime.cjs');

function run(name: string, flags: string[] = []): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [...flags, child, name], { encoding: 'utf8' });
  return { status, stdout: stdout.trim(), stderr };
}

describe('a process with a compute thread', () => {
  const through = run('through');

  it('lives until what it awaits is there, and no longer', () => {
    expect(through).toMatchObject({ status: 0, stderr: '' });
    expect(JSON.parse(through.stdout)).toEqual([
      [expect.any(Number), expect.any(Number), expect.any(Number)],
      expect.stringMatching(/^the.{5}$/s),
    ]);
  });

  it('does not live for a stream that nobody reads', () => {
    expect(run('paused')).toEqual({ status: 0, stdout: '"read"', stderr: '' });
  });

  it('exits in the middle of training when told to', () => {
    expect(run('exit')).toEqual({ status: 7, stdout: '', stderr: '' });
  });

  it('computes the same in a worker of the program', () => {
    expect(run('inWorker')).toEqual(through);
  });

  it('outlives workers that are terminated while they train', () => {
    expect(run('terminated')).toEqual(through);
  });

  it('computes on its own thread where there can be no other, and says so once', () => {
    const flags = ['--allow-fs-read=*', '--allow-fs-write=*', '--allow-addons', '--allow-child-process'];
    const permission = process.allowedNodeEnvironmentFlags.has('--permission')
      ? '--permission'
      : '--experimental-permission';
    const { status, stdout, stderr } = run('through', [permission, ...flags]);
    expect([status, stdout]).toEqual([0, through.stdout]);
    expect(stderr.match(/TORCHBIND_NO_WORKER/g)).toHaveLength(1);
    expect(stderr).toContain('--allow-worker');
  });
});
