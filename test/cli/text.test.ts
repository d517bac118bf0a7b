import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { readText } from '../../lib/cli/text';
import { temporaryDirectory } from '../helpers/tmp';

test.each([
  ['line ends of Windows', 'to be\r\nor not\r\n'],
  ['line ends of old Macs', 'to be\ror not\r'],
  ['a mixture', 'a\n\rb\r\r\nc\n'],
  ['a byte order mark', '\ufeffto be\n'],
])('%s are read as Python reads them', async (_, text) => {
  const file = path.join(temporaryDirectory(), 'text.txt');
  writeFileSync(file, text);
  const program = "import json, sys; print(json.dumps(open(sys.argv[1], encoding='utf-8').read()))";
  const python = JSON.parse(execFileSync('python3', ['-c', program, file], { encoding: 'utf8' })) as string;
  expect(await readText(file)).toBe(python);
});
