// A training step and a decode step in the form that can be captured: memory that stays where it is, and no value read.

/** In place of `cuda.CUDAGraph` in a rehearsal: a replay calls the function. */
class Rehearsal {
  #recorded;
  capture(fn) {
    this.#recorded = fn;
  }
  replay() {
    this.#recorded();
  }
  reset() {
    this.#recorded = undefined;
  }
}

export function makeGraph(tb, isCuda) {
  return isCuda ? new tb.cuda.CUDAGraph() : new Rehearsal();
}

/** Runs a function a few times on a side stream, as PyTorch asks for before a capture. */
function warmUp(tb, isCuda, fn, times = 3) {
  const run = () => {
    for (let i = 0; i < times; i++) fn();
  };
  if (!isCuda) return run();
  const stream = new tb.cuda.Stream();
  stream.waitStream(tb.cuda.currentStream());
  tb.cuda.stream(stream, run);
  tb.cuda.currentStream().waitStream(stream);
}

/** One update of a model: forward, backward and optimizer. `loss` is filled by each run and read when it is wanted. */
export class TrainingStep {
  #graph;

  constructor(tb, model, optimizer, { batch, block, precision = 'float32', isCuda }) {
    Object.assign(this, { tb, model, optimizer, precision, isCuda });
    const { device } = model;
    this.x = tb.zeros(batch, block, { dtype: 'int64', device });
    this.y = tb.zeros(batch, block, { dtype: 'int64', device });
    this.loss = tb.zeros([], { device });
  }

  /** Calls the operators one by one. */
  runEagerly() {
    const { tb, model, optimizer, precision, x, y } = this;
    tb.tidy(() => {
      optimizer.zeroGrad();
      const forward = () => model.forward(x, y).loss;
      const type = model.device.split(':')[0];
      const loss = precision === 'float32' ? forward() : tb.autocast({ device: type, dtype: precision }, forward);
      loss.backward();
      optimizer.step();
      this.loss.copy_(loss.detach());
    });
  }

  /** Warming up makes updates: three of them. */
  capture() {
    warmUp(this.tb, this.isCuda, () => this.runEagerly());
    this.#graph = makeGraph(this.tb, this.isCuda);
    this.#graph.capture(() => this.runEagerly());
  }

  run() {
    this.#graph.replay();
  }

  /** Takes a batch; from pinned memory without waiting. */
  feed(x, y) {
    this.x.copy_(x, true);
    this.y.copy_(y, true);
  }

  dispose() {
    this.#graph?.reset();
  }
}

/** Greedy decoding of a batch with caches of one size: token and position lie on the device, and each run moves them on. */
export class DecodeStep {
  #graph;

  constructor(tb, model, { batch, length, isCuda }) {
    Object.assign(this, { tb, model, batch, length, isCuda });
    const { device, config } = model;
    const { nLayer, nHead, nEmbd } = config;
    const { dtype } = model.tokenEmbedding.weight;
    const cache = () => tb.zeros(batch, nHead, length, nEmbd / nHead, { device, dtype });
    this.keys = Array.from({ length: nLayer }, cache);
    this.values = Array.from({ length: nLayer }, cache);
    this.token = tb.zeros(batch, 1, { dtype: 'int64', device });
    this.position = tb.zeros(1, { dtype: 'int64', device });
    this.places = tb.arange(length, { device });
    /** (B, L): the token at each place, and after the last place nothing. */
    this.out = tb.zeros(batch, length + 1, { dtype: 'int64', device });
  }

  runEagerly() {
    const { tb, model, batch, token, position, places } = this;
    const { nHead, nEmbd } = model.config;
    tb.noGrad(() =>
      tb.tidy(() => {
        const mask = places.le(position).unsqueeze(0); // (1, L)
        let x = model.tokenEmbedding.forward(token).add(model.positionEmbedding.forward(position)); // (B, 1, C)
        [...model.blocks].forEach((block, i) => {
          const qkv = block.attn.qkv.forward(block.ln1.forward(x)).view([batch, 1, 3, nHead, nEmbd / nHead]);
          const [q, k, v] = qkv.permute([2, 0, 3, 1, 4]).unbind(0); // (B, nh, 1, hs) each
          this.keys[i].indexCopy_(2, position, k);
          this.values[i].indexCopy_(2, position, v);
          const y = tb.nn.functional.scaledDotProductAttention(q, this.keys[i], this.values[i], { attnMask: mask });
          x = x.add(block.attn.proj.forward(y.transpose(1, 2).reshape([batch, 1, nEmbd])));
          x = x.add(block.mlp.forward(block.ln2.forward(x)));
        });
        const logits = model.lmHead.forward(model.lnF.forward(x)); // (B, 1, V)
        token.copy_(logits.argmax(-1));
        position.add_(1);
        this.out.indexCopy_(1, position, token);
      }),
    );
  }

  /** Warms up, captures, and begins anew. */
  capture() {
    warmUp(this.tb, this.isCuda, () => {
      this.position.zero_();
      this.runEagerly();
    });
    this.#graph = makeGraph(this.tb, this.isCuda);
    this.#graph.capture(() => this.runEagerly());
    this.reset();
  }

  reset() {
    this.position.zero_();
    this.out.zero_();
  }

  run() {
    this.#graph.replay();
  }

  /** The tokens that follow a prompt (B, T): `step` is `run` or `runEagerly`. Nothing is read before the end. */
  generate(prompt, count, step) {
    this.reset();
    const steps = prompt.size(1) + count - 1;
    for (let i = 0; i < steps; i++) {
      if (i < prompt.size(1)) this.token.copy_(prompt.narrow(1, i, 1));
      step.call(this);
    }
    return this.out.narrow(1, prompt.size(1), count);
  }

  dispose() {
    this.#graph?.reset();
  }
}
