/** The documentation as a static site: every public export is documented, and every link leads to a page and a heading. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { pythonTimeout, repositoryRoot } from '../helpers/python';
import { sharedTemporaryDirectory } from '../helpers/tmp';

test(
  'npm run site builds it without a problem',
  () => {
    const out = path.join(sharedTemporaryDirectory(), 'site');
    const printed = execFileSync(process.execPath, ['scripts/site.mjs', out], {
      cwd: repositoryRoot,
      encoding: 'utf8',
    });
    const [, pages, exports, problems] = /^(\d+) pages, (\d+) exports, (\d+) problems$/m.exec(printed)!;
    expect(Number(pages)).toBeGreaterThan(900);
    expect(Number(exports)).toBeGreaterThan(900);
    expect(Number(problems)).toBe(0);
    expect(existsSync(path.join(out, 'assets/search.js'))).toBe(true);
  },
  pythonTimeout,
);
