import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import { repositoryRoot } from '../helpers/python';
import { temporaryDirectory } from '../helpers/tmp';

interface SymbolVersions {
  checkSymbolVersions: (files: readonly string[]) => void;
  neededSymbols: (bytes: Buffer, file: string) => { symbol: string; version: string }[];
}

const load = async (): Promise<SymbolVersions> =>
  (await import(pathToFileURL(path.join(repositoryRoot, 'scripts/symbol-versions.mjs')).href)) as SymbolVersions;
const built = ['torchbind.node', 'torchbind_core.so', 'torchbind_distributed.so'].map((name) =>
  path.join(repositoryRoot, 'build/Release', name),
);

describe.runIf(process.platform === 'linux')('the versions of symbols', () => {
  test('the addon loads wherever libtorch does: on glibc 2.28 with the libstdc++ of gcc 8', async () => {
    const { checkSymbolVersions, neededSymbols } = await load();
    for (const file of built) expect(neededSymbols(readFileSync(file), file).length).toBeGreaterThan(5);
    checkSymbolVersions(built);
  });

  test('a library that needs more is refused, with each symbol and its version', async () => {
    const { checkSymbolVersions } = await load();
    const file = path.join(temporaryDirectory(), 'torchbind_core.so');
    // The names of the versions lie in one table of texts: another name there is another version everywhere.
    const text = readFileSync(built[1]!, 'latin1').replace('GLIBC_2.14\0', 'GLIBC_2.29\0');
    writeFileSync(file, text.replace('CXXABI_1.3.9\0', 'CXXABI_1.4.0\0'), 'latin1');
    expect(() => checkSymbolVersions([file])).toThrow(/memcpy \(GLIBC_2\.29\)/);
    expect(() => checkSymbolVersions([file])).toThrow(/torchbind_core\.so: _ZdlPvm \(CXXABI_1\.4\.0\)/);
    expect(() => checkSymbolVersions([file])).toThrow(/native\/symbol_versions\.h/);
  });

  test('what is no library is refused', async () => {
    const { checkSymbolVersions } = await load();
    expect(() => checkSymbolVersions([__filename])).toThrow(/symbols\.test\.ts is not an ELF file/);
  });
});
