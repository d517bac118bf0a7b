#!/usr/bin/env node
// npm run prebuilds: puts the compiled addon into prebuilds/, as the package carries it.
import { chmodSync, readdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { promisify } from 'node:util';
import { inRoot, main, say, SetupError } from './steps.mjs';
import { setup } from './setup.mjs';

main(async () => {
  await setup(); // node_modules must be there for prebuildify
  const shim = inRoot('scripts/prebuild-shim.mjs');
  chmodSync(shim, 0o755);
  rmSync(inRoot('prebuilds'), { recursive: true, force: true });
  const prebuildify = promisify(createRequire(import.meta.url)('prebuildify'));
  await prebuildify({ cwd: inRoot(), napi: true, strip: true, nodeGyp: shim, targets: [] });
  for (const file of checkedFiles()) say(`wrote ${file}`);
  // prebuildify moves the loader out of build/Release: put it back for use in this clone.
  rmSync(inRoot('build/addon.stamp'), { force: true });
});

/** The loader and the core, and no library of libtorch: prebuildify packs whatever it finds beside the addon. */
function checkedFiles() {
  const directory = path.join('prebuilds', `${process.platform}-${process.arch}`);
  const names = readdirSync(inRoot(directory)).sort();
  const isOurs =
    names.length === 2 && names.includes('torchbind.node') && /^torchbind_core\.(so|dylib|dll)$/.test(names[1]);
  if (!isOurs)
    throw new SetupError(
      `${directory} should hold torchbind.node and torchbind_core alone, and holds: ${names.join(', ')}`,
    );
  return names.map((name) => path.join(directory, name));
}
