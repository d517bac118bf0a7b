const { Worker, isMainThread, parentPort } = require('node:worker_threads');
const { arange, tidy, tensor } = require('../../../dist/index.js');

if (isMainThread) {
  const results = Array.from(
    { length: 8 },
    () =>
      new Promise((resolve, reject) => {
        new Worker(__filename).on('message', resolve).on('error', reject);
      }),
  );
  void Promise.all(results).then((values) => console.log(JSON.stringify(values)));
} else {
  const weight = tensor([1.0], { dtype: 'float32', requiresGrad: true });
  const total = tidy(() => {
    for (let i = 0; i < 200; i++) tidy(() => weight.mul(arange(10)).sum().backward());
    return weight.grad.div(200).item();
  });
  parentPort.postMessage(total);
}
