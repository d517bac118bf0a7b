// Compiles native/ with cmake-js against a libtorch, into build/Release.
import { existsSync, readFileSync, rmSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { fingerprint, inRoot, once, runQuietly, say } from './steps.mjs';

const cmakeJs = inRoot('node_modules/cmake-js/bin/cmake-js');

export async function buildAddon({ root: libtorch, version }, reporter) {
  const facts = [libtorch, version, librarySize(libtorch), process.platform, process.arch, process.versions.modules];
  const key = fingerprint(['native', 'CMakeLists.txt', 'package-lock.json'], facts);
  await once('addon', key, inRoot('build/Release/torchbind.node'), async () => {
    say(`compiling the addon against libtorch ${version} (a minute or two)`);
    if (isOfAnotherDirectory()) rmSync(inRoot('build'), { recursive: true, force: true });
    await configureAndBuild({ root: libtorch }, reporter, inRoot('build'));
  });
}

/** torchbind.node alone, which locks the cache for `install` before libtorch is there. */
export async function buildLoader(reporter) {
  const facts = [process.platform, process.arch, process.versions.modules];
  const key = fingerprint(['native', 'CMakeLists.txt', 'package-lock.json'], facts);
  await once('loader', key, inRoot('build/Release/torchbind.node'), async () => {
    if (isOfAnotherDirectory()) rmSync(inRoot('build'), { recursive: true, force: true });
    await configureAndBuild({ root: '' }, reporter, inRoot('build'));
  });
}

/** The addon in `<out>/Release`; `extra` are further options of cmake-js. */
export async function configureAndBuild({ root: libtorch }, reporter, out, extra = []) {
  const options = ['--log-level', 'error', '--out', out, `--CDTORCHBIND_LIBTORCH_DIR=${libtorch}`, ...extra];
  const onText = (text) => report(text, reporter);
  await runQuietly('cmake-js configure', process.execPath, [cmakeJs, 'configure', ...options]);
  const jobs = ['--parallel', String(Math.min(availableParallelism(), 4))]; // each compiler takes about 1 GB
  await runQuietly('compiling the addon', process.execPath, [cmakeJs, 'build', ...options, ...jobs], { onText });
}

/** CMake refuses a build directory that was made in another place, as in a clone that was moved. */
function isOfAnotherDirectory() {
  const cache = inRoot('build/CMakeCache.txt');
  if (!existsSync(cache)) return false;
  const home = /^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$/m.exec(readFileSync(cache, 'utf8'))?.[1];
  return home !== undefined && path.resolve(home) !== path.resolve(inRoot());
}

function librarySize(libtorch) {
  const names = ['libtorch_cpu.so', 'libtorch_cpu.dylib', 'torch_cpu.dll'].map((name) =>
    path.join(libtorch, 'lib', name),
  );
  return statSync(names.find((name) => existsSync(name))).size;
}

/** ninja prints "[3/17] Building ...", make "[ 17%] Building ...". */
function report(text, reporter) {
  const ninja = [...text.matchAll(/^\[(\d+)\/(\d+)\]/gm)].at(-1);
  if (ninja) reporter.progress(Number(ninja[1]), Number(ninja[2]), 'files');
  const make = [...text.matchAll(/^\[ *(\d+)%\]/gm)].at(-1);
  if (make) reporter.progress(Number(make[1]), 100, 'files');
}
