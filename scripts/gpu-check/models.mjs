// Models and data that several sections use.

const TEXT = 'the quick brown fox jumps over the lazy dog; pack my box with five dozen liquor jugs.\n';

/** A small GPT of characters; `dropout` makes it draw random numbers. */
export function smallGpt(tb, device, { dropout = 0, seed = 1, blockSize = 32, nEmbd = 64 } = {}) {
  tb.manualSeed(seed);
  const tokenizer = tb.CharTokenizer.fromText(TEXT);
  const config = { vocabSize: tokenizer.vocabSize, blockSize, nLayer: 2, nHead: 4, nEmbd, dropout, batchSize: 8 };
  // Made on the CPU, so that every device has the same weights.
  const model = new tb.GPT(config, { tokenizer });
  return device === 'cpu' ? model : moved(tb, model, config, tokenizer, device);
}

function moved(tb, model, config, tokenizer, device) {
  const there = new tb.GPT(config, { tokenizer, device, init: false });
  there.loadStateDict(model.stateDict());
  return there;
}

export function trainingText() {
  return TEXT.repeat(40);
}

/** GPT-2 with 124 million parameters, its vocabulary and context; in a rehearsal a small one. */
export function gpt2Config(isSmall) {
  const facts = { activation: 'gelu_tanh', bias: true, lmHeadBias: false, tieWeights: true, dropout: 0 };
  return isSmall
    ? { ...facts, vocabSize: 512, blockSize: 64, nLayer: 2, nHead: 2, nEmbd: 64 }
    : { ...facts, vocabSize: 50257, blockSize: 1024, nLayer: 12, nHead: 12, nEmbd: 768 };
}
