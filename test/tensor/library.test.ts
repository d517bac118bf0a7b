import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { expect, test } from 'vitest';
import { ops, tensor, Tensor, TorchBindError } from '../../lib/index';
import { libtorchDirectory } from '../../lib/native/native';
import { sharedTemporaryDirectory } from '../helpers/tmp';

const library = path.join(sharedTemporaryDirectory(), 'operators.so');

/** Compiles test/tensor/library.cc against the libtorch in use. */
function compile(): void {
  const include = path.join(libtorchDirectory(), 'include');
  execFileSync(process.env.CXX ?? 'c++', [
    ...['-std=c++20', '-shared', '-fPIC', '-O0', '-w', '-I', include],
    ...['-I', path.join(include, 'torch/csrc/api/include')],
    ...[path.join(__dirname, 'library.cc'), '-o', library],
  ]);
}

test('operators of a library of one’s own appear in ops', { timeout: 300_000 }, () => {
  expect(() => ops.torchbind_test!.twice).toThrow(TorchBindError);
  compile();
  ops.loadLibrary(library);
  const x = tensor([1, 2, 3]);
  expect((ops.torchbind_test!.twice!(x) as Tensor).tolist()).toEqual([2, 4, 6]);
  expect((ops.torchbind_test!.twice!.default!(x, { times: 3 }) as Tensor).tolist()).toEqual([8, 16, 24]);
  const parts = ops.torchbind_test!.split_off!<{ rest: Tensor; first: number }>(x);
  expect(parts.rest.tolist()).toEqual([2, 3]);
  expect(parts.first).toBe(1);
  expect(() => ops.torchbind_test!.twice!(x, 'three')).toThrow(/torchbind_test::twice\(Tensor x, int times=1\)/);
});

test('a file that is no library is refused', () => {
  expect(() => ops.loadLibrary(__filename)).toThrow(/Cannot load the operator library/);
});
