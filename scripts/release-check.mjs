#!/usr/bin/env node
// npm run release:check: the package as a stranger meets it. docs/release.md says what each part checks. It needs the network, some
// gigabytes of disk and some minutes, so it is not part of npm test.
//
//     npm run release:check                           all parts
//     npm run release:check -- size npm containers    only these
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { containerChecks } from './release-check/containers.mjs';
import { firstUse } from './release-check/first-use.mjs';
import { managerChecks, MANAGERS } from './release-check/managers.mjs';
import { lintRecipes } from './release-check/recipes.mjs';
import { NotHere } from './release-check/shell.mjs';
import { checkSize, packBoth } from './release-check/tarballs.mjs';
import { lintWorkflows } from './release-check/workflows.mjs';
import { main, say, SetupError } from './steps.mjs';

/** Checks by part: each returns a remark or nothing, or throws. */
const parts = {
  size: () => [{ what: 'the packed size', check: checkSize }],
  ...Object.fromEntries(Object.keys(MANAGERS).map((name) => [name, () => managerChecks(name)])),
  install: () => [{ what: 'npx torchbind install, from nothing to the first tensor', check: firstUse }],
  hadolint: () => [{ what: 'the container files of docs/deploy.md', check: lintRecipes }],
  containers: containerChecks,
  workflows: () => [{ what: 'the files of .github/workflows', check: lintWorkflows }],
};

main(async (args) => {
  const unknown = args.filter((name) => !(name in parts));
  if (unknown.length > 0)
    throw new SetupError(`expected some of ${Object.keys(parts).join(', ')}, got ${unknown.join(', ')}`);
  const wanted = Object.keys(parts).filter((name) => args.length === 0 || args.includes(name));
  const directory = mkdtempSync(path.join(tmpdir(), 'torchbind-release-'));
  const rows = [];
  try {
    const needsPackage = wanted.some((name) => name !== 'hadolint' && name !== 'workflows');
    const packages = needsPackage ? await packBoth(directory) : undefined;
    for (const part of wanted) {
      for (const { what, check } of parts[part]())
        rows.push(await carryOut(part, what, () => check(packages, directory)));
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  printTable(rows);
  return rows.every(({ result }) => result === 'right') ? 0 : 1;
});

async function carryOut(part, what, check) {
  say(`${part}: ${what}`);
  const start = performance.now();
  const row = { part, what, result: 'right', remark: '' };
  try {
    row.remark = (await check()) ?? '';
  } catch (error) {
    row.result = error instanceof NotHere ? 'NOT RUN' : 'WRONG';
    row.remark = error instanceof SetupError ? error.message : error.stack;
  }
  row.seconds = ((performance.now() - start) / 1000).toFixed(0);
  say(`${part}: ${row.result} after ${row.seconds} s${row.remark === '' ? '' : `: ${row.remark}`}`);
  return row;
}

function printTable(rows) {
  const lines = rows.map(({ part, what, result, seconds, remark }) => [
    part,
    what,
    result,
    `${seconds} s`,
    remark.trim().split('\n').at(-1).slice(0, 100),
  ]);
  const widths = lines[0].map((_, column) => Math.max(...lines.map((line) => line[column].length)));
  for (const line of lines)
    console.log(
      line
        .map((cell, column) => cell.padEnd(widths[column]))
        .join('  ')
        .trimEnd(),
    );
}
