// Frees large storages that another thread has taken, and the other way round.
const { parentPort } = require('node:worker_threads');
const { full, receive, share } = require('../../../dist/index.js');

parentPort.on('message', (ticket) => {
  const tensor = receive(ticket);
  const sum = tensor.sum().item();
  const value = tensor.max().item();
  tensor.dispose();
  const answer = full([500_000], -value);
  parentPort.postMessage({ sum, ticket: share(answer) });
  answer.dispose();
});
