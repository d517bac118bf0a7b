// Tensors that are alive after each way to leave a scope, outside any other scope. With --expose-gc the collector runs
// in between, and must not free what a scope still holds.
const { memory, ones, tidy } = require('../../../dist/index.js');

const collect = globalThis.gc ?? (() => undefined);
const pause = () => new Promise((resolve) => setImmediate(resolve));
const work = () => {
  const a = ones(1000);
  collect();
  return a.add(1).sum().item();
};

async function asynchronous(fail) {
  const a = ones(1000);
  await pause();
  collect();
  if (fail) throw new Error('midway');
  return tidy(() => a.add(work()).sum().item());
}

function* numbers() {
  for (;;) yield tidy(work);
}

const ways = {
  sync: () => tidy(() => tidy(work) + work()),
  thrown: () => {
    try {
      tidy(() => tidy(() => work().missing.property));
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
    }
  },
  async: () => Promise.all([1, 2, 3].map(() => tidy(() => asynchronous(false)))),
  rejected: () => Promise.allSettled([true, false, true].map((fail) => tidy(() => asynchronous(fail)))),
  generator: () => {
    for (const value of numbers()) if (value === 2000) return;
  },
  /** Nobody waits for it, but it frees its tensors all the same. */
  abandoned: async () => {
    void tidy(() => asynchronous(false));
    await pause();
    await pause();
    await pause();
  },
};

async function main() {
  const left = {};
  for (const [name, way] of Object.entries(ways)) {
    await way();
    left[name] = memory().numTensors;
  }
  console.log(JSON.stringify(left));
}

void main();
