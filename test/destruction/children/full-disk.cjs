// Saves to a small file system with ever less room, and sees to it that the bundle before stands where one fails.
const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const { readdirSync, statfsSync, truncateSync, writeFileSync } = require('node:fs');
const path = require('node:path');
const { CharTokenizer, GPT, optim, setNumThreads } = require('../../../dist/index.js');

const disk = process.argv[2];
const megabyte = 1 << 20;

async function main() {
  setNumThreads(1);
  const tokenizer = new CharTokenizer(['a', 'b', 'c']);
  const model = new GPT({ vocabSize: 3, blockSize: 8, nLayer: 1, nHead: 1, nEmbd: 48, device: 'cpu' }, { tokenizer });
  const optimizer = new optim.AdamW(model.parameters());
  const directory = path.join(disk, 'run');
  const ballast = path.join(disk, 'ballast');
  let step = 0;
  const save = () => model.saveCheckpointBundle(directory, { step: ++step, optimizer, keep: { last: 1 } });
  const found = async () => {
    const opened = await GPT.load(directory);
    opened.dispose();
    return opened.step;
  };
  await save();
  await save();
  let [failed, saved] = [0, 0];
  for (let room = 0; room <= megabyte / 2; room += 16384) {
    writeFileSync(ballast, '');
    const { bavail, bsize } = statfsSync(disk);
    truncateSync(ballast, 0);
    writeFileSync(ballast, Buffer.alloc(Math.max(0, bavail * bsize - room)));
    const before = step;
    const error = await save().then(
      () => undefined,
      (reason) => reason,
    );
    const now = await found();
    if (error === undefined) {
      saved++;
      assert.equal(now, step);
    } else {
      failed++;
      assert.equal(error.code, 'ERR_TORCHBIND_SAVE', error.stack);
      assert.match(error.message, /no space left|ENOSPC/i);
      assert([before, step].includes(now) || now === before);
      step = now;
    }
    writeFileSync(ballast, '');
    assert.deepEqual(
      readdirSync(directory).filter((name) => name.startsWith('.saving')),
      [],
    );
  }
  await save();
  assert.equal(await found(), step);
  console.log(JSON.stringify({ failed, saved }));
}

execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'none', disk]);
main()
  .catch((error) => {
    console.error(error);
    process.exitCode = 1;
  })
  .finally(() => execFileSync('umount', ['-l', disk]));
