// 20,000 tensors of 4 MB, none kept, in one synchronous loop.
const { memory, setNumThreads, zeros } = require('../../../dist/index.js');
setNumThreads(1); // threads would only wait for each other on a busy machine
for (let i = 0; i < 20_000; i++) zeros([1024, 1024]);
console.log(JSON.stringify({ peakMegabytes: process.resourceUsage().maxRSS / 1024, tensors: memory().numTensors }));
