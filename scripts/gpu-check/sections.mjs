// The sections of the check, in the order in which they run, with the time that each may take on an H100.
// What matters most comes first: where time runs out, what is left is named in the table.
export const sections = [
  { name: 'device', seconds: 30, title: 'properties, streams, events, memory figures, switches' },
  { name: 'operators', seconds: 60, title: '300 operators and their gradients, against the CPU' },
  { name: 'autograd', seconds: 30, title: 'graphs, custom Functions and hooks on the device' },
  { name: 'optim', seconds: 30, title: 'AdamW and SGD, fused, against the CPU and Python' },
  { name: 'random', seconds: 30, title: 'generators and dropout' },
  { name: 'train', seconds: 60, title: 'fit, exact resume, precisions, bundles on the other device' },
  { name: 'exchange', seconds: 60, title: 'Python resumes what was saved here, and the other way round' },
  { name: 'generate', seconds: 40, title: 'generation with a cache, one and many sequences' },
  { name: 'workers', seconds: 30, title: 'tensors and models shared between worker threads' },
  { name: 'memory', seconds: 60, title: 'leaks, out of memory, an event loop that turns' },
  { name: 'graphs', seconds: 60, title: 'capture of a training step and of a decode step' },
  { name: 'speed', seconds: 150, title: 'steps, decoding and operators next to Python' },
];
