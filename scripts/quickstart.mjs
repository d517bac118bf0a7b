#!/usr/bin/env node
// npm run quickstart: sets up what is missing, then runs the example.
import { inRoot, main, runVisibly } from './steps.mjs';
import { setup } from './setup.mjs';

main(async (args) => {
  await setup();
  return runVisibly(process.execPath, [inRoot('examples/quickstart.mjs'), ...args], { stdio: 'inherit' });
});
