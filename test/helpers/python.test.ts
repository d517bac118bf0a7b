import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { pythonCode, pythonJson, pythonTimeout } from './python';
import { temporaryDirectory } from './tmp';

test('a script gets its arguments and its input, and its JSON comes back', async () => {
  const script = path.join(temporaryDirectory(), 'echo.py');
  writeFileSync(script, 'import json, sys\nprint(json.dumps([sys.argv[1:], sys.stdin.read()]))');
  expect(await pythonJson(script, ['a', 'b'], 'größer')).toEqual([['a', 'b'], 'größer']);
});

test('a failing script is an error with its traceback', async () => {
  await expect(pythonCode('raise ValueError("wrong turn")')).rejects.toThrow(/status 1[\s\S]*wrong turn/);
});

test(
  'the interpreter has the pinned PyTorch',
  async () => {
    expect(await pythonCode('import torch; print(torch.__version__)')).toMatch(/^2\.13\./);
  },
  pythonTimeout,
);
