// An array over a few elements of a storage that is larger than an ArrayBuffer of Node 20 may be.
import { createRequire } from 'node:module';
const { empty } = createRequire(import.meta.url)('../../../dist/index.js');

const large = empty([2 ** 32 + 8], { dtype: 'uint8' }); // memory that nobody touches
const few = large.narrow(0, 0, 4);
try {
  console.log(few.toTypedArray({ copy: false }).length);
} catch (error) {
  console.log(error.code, error.message);
}
for (let i = 0; i < 50; i++) empty([100]);
await new Promise((resolve) => setTimeout(resolve, 10));
globalThis.gc();
console.log(few.add(1).shape);
