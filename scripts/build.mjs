#!/usr/bin/env node
// npm run build: compiles what changed, and nothing is fetched that set-up has fetched.
import { setup } from './setup.mjs';
import { main } from './steps.mjs';

main(() => setup());
