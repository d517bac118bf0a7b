#!/usr/bin/env node
// prebuildify drives node-gyp and passes flags that cmake-js would take for its own. This stands in for node-gyp, leaves
// the flags aside (Node-API needs none of them), and compiles with cmake-js.
import { setup } from './setup.mjs';
import { main } from './steps.mjs';

main(() => setup());
