import path from 'node:path';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import * as torchbind from '../../lib/index';
import {
  canCast,
  finfo,
  getDefaultDtype,
  iinfo,
  ones,
  promoteTypes,
  resultType,
  setDefaultDtype,
  tensor,
  Tensor,
  tidy,
  TorchBindError,
} from '../../lib/index';
import type { DType, Scalar } from '../../lib/index';
import { dtypeCode } from '../../lib/tensor/dtype';
import { native } from '../../lib/native/native';
import { pythonJson, pythonTimeout } from '../helpers/python';

type Info = (number | string)[];

interface Answer {
  promote: Record<string, string>;
  cast: Record<string, boolean>;
  operators: Record<string, string>;
  zeroDim: Record<string, string>;
  scalars: Record<string, string>;
  finfo: Record<string, Info>;
  iinfo: Record<string, Info>;
}

let python: Answer;

beforeAll(async () => {
  python = await pythonJson<Answer>(path.join(__dirname, 'dtypes.py'));
}, pythonTimeout);

afterEach(() => setDefaultDtype('float32'));

const vector = (dtype: string): Tensor => ones(2).to(dtype as DType);
const camel = (name: string): string => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());

/** The dtype of what a call gives, or 'error'. */
function dtypeOf(call: () => Tensor): string {
  try {
    return tidy(() => call().dtype);
  } catch (error) {
    expect(error).toBeInstanceOf(TorchBindError);
    return 'error';
  }
}

function compare<T>(expected: Record<string, T>, call: (...parts: string[]) => T): void {
  const entries = Object.keys(expected);
  expect(entries.length).toBeGreaterThan(7);
  expect(Object.fromEntries(entries.map((key) => [key, call(...key.split(' '))]))).toEqual(expected);
}

describe('type promotion is that of PyTorch', () => {
  test('promoteTypes, for all pairs', () => {
    const promote = (a: string, b: string): string => {
      try {
        return promoteTypes(a as DType, b as DType);
      } catch {
        return 'error';
      }
    };
    compare(python.promote, promote as (...parts: string[]) => string);
  });

  test('canCast, for all pairs', () => {
    compare(python.cast, (a, b) => canCast(a as DType, b as DType));
  });

  test('ten operators, for all pairs', () => {
    const functions = torchbind as unknown as Record<string, (a: Tensor, b: Tensor) => Tensor>;
    compare(python.operators, (op, a, b) => dtypeOf(() => functions[camel(op!)]!(vector(a!), vector(b!))));
  });

  test('tensors without dimensions, for all pairs', () => {
    compare(python.zeroDim, (a, b) => dtypeOf(() => vector(a!).add(ones([]).to(b as DType))));
  });

  test('plain numbers, for all dtypes', () => {
    const numbers: Record<string, Scalar> = { bool: true, int: 3, float: 1.5, complex: { re: 0, im: 1 } };
    compare(python.scalars, (a, kind) => dtypeOf(() => vector(a!).add(numbers[kind!]!)));
  });

  test('resultType takes tensors and numbers', () => {
    expect(resultType(vector('int32'), 1.5)).toBe('float32');
    expect(resultType(1.5, vector('float16'))).toBe('float16');
    expect(resultType(vector('int8'), vector('bfloat16'))).toBe('bfloat16');
  });
});

test('finfo and iinfo give what PyTorch gives', () => {
  compare(python.finfo, (name) => {
    const i = finfo(name as DType);
    return [i.bits, i.eps, i.max, i.min, i.tiny, i.smallestNormal, i.resolution, i.dtype];
  });
  compare(python.iinfo, (name) => {
    const i = iinfo(name as DType);
    return [i.bits, String(i.min), String(i.max), i.dtype];
  });
  expect(() => finfo('int8')).toThrow(/iinfo/);
  expect(() => iinfo('float32')).toThrow(/finfo/);
});

test('every dtype has the size that libtorch gives it', () => {
  for (const [name, code] of Object.entries(dtypeCode)) {
    expect([name, native().itemSize(code)]).toEqual([name, torchbindItemSize(name as DType)]);
  }
  expect(Object.keys(dtypeCode)).toHaveLength(46);
});

const torchbindItemSize = (dtype: DType): number => torchbind.empty(0, { dtype }).itemsize;

test('dtypes are constants of their names', () => {
  expect(ones(2, { dtype: torchbind.bfloat16 }).dtype).toBe('bfloat16');
  expect([torchbind.long, torchbind.half, torchbind.double]).toEqual(['int64', 'float16', 'float64']);
});

test('the default dtype is that of what is made without one', () => {
  expect(getDefaultDtype()).toBe('float32');
  setDefaultDtype('float64');
  expect([ones(1).dtype, tensor([0.5]).dtype, tensor([{ re: 1, im: 0 }]).dtype]).toEqual([
    'float64',
    'float64',
    'complex128',
  ]);
  expect(tensor([0.1]).item()).toBe(0.1);
  expect(() => setDefaultDtype('int64')).toThrow(/floating-point/);
});

test('to() takes dtypes, devices, both, tensors and options', () => {
  const x = ones(1, 2, 3, 4);
  expect(x.to('float64').dtype).toBe('float64');
  expect(x.to('cpu')).toHaveProperty('dtype', 'float32');
  expect(x.to('cpu', 'int64').dtype).toBe('int64');
  expect(x.to(ones(1).half()).dtype).toBe('float16');
  expect(x.to('meta').device).toBe('meta');
  expect(x.to({ memoryFormat: 'channels_last' }).stride()).toEqual([24, 1, 8, 2]);
  const copy = x.to('float32', { copy: true });
  copy.fill_(2);
  expect(x.sum().item()).toBe(24);
  expect([x.long().dtype, x.byte().dtype, x.cfloat().dtype, x.bool().dtype]).toEqual([
    'int64',
    'uint8',
    'complex64',
    'bool',
  ]);
  expect(() => x.to({ dtpe: 'float32' } as never)).toThrow(/Did you mean 'dtype'/);
  expect(() => x.to(5 as never)).toThrow(/number 5/);
});
