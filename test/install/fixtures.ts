/** Small archives in the form of torch's wheels, and servers on this machine that hand them out. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { onTestFinished } from 'vitest';
import { libraryFile } from '../../lib/install/libtorch';
import { findPython } from '../../lib/install/python';

export const python = findPython()!;

/** The name that this machine's wheel of a version has. */
export function wheelName(version: string): string {
  const tags: Record<string, string> = {
    'linux-x64': 'manylinux_2_28_x86_64',
    'linux-arm64': 'manylinux_2_28_aarch64',
    'darwin-arm64': 'macosx_11_0_arm64',
    'win32-x64': 'win_amd64',
  };
  return `torch-${version}-${python.cpTag}-${python.cpTag}-${tags[`${process.platform}-${process.arch}`]}.whl`;
}

/** Writes a zip file: name -> text. */
export function writeZip(file: string, members: Record<string, string>): void {
  const code = `
import json, sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w", zipfile.ZIP_DEFLATED) as archive:
    for name, text in json.load(sys.stdin).items():
        archive.writestr(name, text)`;
  mkdirSync(path.dirname(file), { recursive: true });
  const result = spawnSync(python.command, ['-c', code, file], { input: JSON.stringify(members), encoding: 'utf8' });
  if (result.status !== 0) throw new Error(result.stderr);
}

/** A wheel as pip and torchbind take it, with libraries of a few bytes. Returns its path. */
export function writeWheel(directory: string, version = '2.13.0+cpu', requirements: string[] = []): string {
  const file = path.join(directory, wheelName(version));
  const info = `torch-${version}.dist-info`;
  const requires = requirements.map((requirement) => `Requires-Dist: ${requirement}\n`).join('');
  writeZip(file, {
    'torch/version.py': `__version__ = '${version}'\n`,
    [`torch/lib/${libraryFile('torch_cpu')}`]: 'torch_cpu '.repeat(5000),
    [`torch/lib/${libraryFile('c10')}`]: 'c10',
    [`${info}/METADATA`]: `Metadata-Version: 2.1\nName: torch\nVersion: ${version}\n${requires}`,
    [`${info}/WHEEL`]: `Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: ${wheelName(version).slice(`torch-${version}-`.length, -4)}\n`,
    [`${info}/RECORD`]: '',
  });
  return file;
}

/** A directory that looks like an unpacked libtorch of a version. */
export function writeLibtorch(directory: string, version: string): string {
  mkdirSync(path.join(directory, 'lib'), { recursive: true });
  writeFileSync(path.join(directory, 'lib', libraryFile('torch_cpu')), '');
  writeFileSync(path.join(directory, 'build-version'), `${version}\n`);
  return directory;
}

export function sha256(data: Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}

/** Starts a server on the loopback interface for one test; returns its address. */
export async function serve(handler: http.RequestListener): Promise<string> {
  const server = http.createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** A package index with one wheel, as PyTorch's is laid out. Returns its address and the paths that were asked for. */
export async function serveIndex(wheel: string, digest?: string): Promise<{ mirror: string; asked: string[] }> {
  const asked: string[] = [];
  const data = readFileSync(wheel);
  const name = encodeURIComponent(path.basename(wheel));
  const mirror = await serve((request, response) => {
    asked.push(request.url!);
    if (request.url === '/cpu/torch/') {
      response.end(
        `<html><body><a href="/files/${name}#sha256=${digest ?? sha256(data)}">${name}</a><br/></body></html>`,
      );
    } else if (request.url === `/files/${name}`) {
      response.end(data);
    } else {
      response.writeHead(404).end();
    }
  });
  return { mirror, asked };
}

/** An address on this machine where nothing listens. */
export const NOWHERE = 'http://127.0.0.1:9';
