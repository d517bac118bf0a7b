import { BatchDecoder } from './batch-decoder';
import type { DecodedSequence, DecodeRequest, Decoder, SearchRequest, TokenSink } from './decoder';
import type { GPTModel } from '../models/gpt-model';

/** Decodes on the thread that it is made on: a step, a turn of the event loop, the next step. */
class TurnDecoder implements Decoder {
  private readonly decoder: BatchDecoder;
  private scheduled = false;

  constructor(model: GPTModel) {
    this.decoder = new BatchDecoder(model);
  }

  add(request: DecodeRequest | SearchRequest, sink: TokenSink): DecodedSequence {
    const sequence = this.decoder.add(request, sink);
    return {
      grant: (count) => {
        sequence.grant(count);
        this.schedule();
      },
      remove: () => sequence.remove(),
    };
  }

  fork(from: number, to: number): void {
    this.decoder.fork(from, to);
  }

  forget(session: number): void {
    this.decoder.forget(session);
  }

  private schedule(): void {
    if (this.scheduled || !this.decoder.ready) return;
    this.scheduled = true;
    setImmediate(() => {
      this.scheduled = false;
      this.decoder.step();
      this.schedule();
    });
  }
}

const decoders = new WeakMap<GPTModel, Decoder>();

/** The decoder of a model: all that is generated from the model at the same time goes through it, and is decoded together. */
export function decoderOf(model: GPTModel): Decoder {
  let decoder = decoders.get(model);
  if (decoder === undefined) decoders.set(model, (decoder = new TurnDecoder(model)));
  return decoder;
}
