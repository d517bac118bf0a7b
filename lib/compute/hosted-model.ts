import type { NativeLoan } from '../native/binding';
import { native } from '../native/native';
import type { Batch } from '../data';
import { embedBatch } from '../models/embed';
import { GPTModel } from '../models/gpt-model';
import type { Parameter } from '../nn/parameter';
import { type AnyOptimizer, GradScaler, type GradScalerState } from '../optim';
import { dtypeCode } from '../tensor/dtype';
import { dispose, tidy } from '../tensor/scope';
import { Tensor, wrap } from '../tensor/tensor';
import { transfer } from '../tensor/transfer';
import { HostedSequences } from './hosted-sequences';
import { type PostedModel, receiveModel } from './posted-model';
import { borrowing, lend, receiveLent } from './posted-module';
import { type PostedState, postState, putState, receiveState, type StatePart } from './posted-state';
import { Averager } from './averager';
import type {
  Applied,
  Call,
  CopiedStorage,
  Notice,
  PostedBatch,
  PostedOnlyBatch,
  PostedOptimizer,
  SequenceEvent,
} from './protocol';
import { newOptimizer } from './replicable';
import { accumulate, applyGradients, evaluationLoss, LateLosses, type Made, updateFrom } from './update';

/** A model of another thread, as this thread computes it. */
export class HostedModel {
  private readonly model: GPTModel;
  /** Parameters and buffers, by the numbers that the other thread knows them by. */
  private readonly tensors: Tensor[];
  private optimizer: AnyOptimizer | undefined;
  private readonly scaler = new GradScaler();
  private readonly late = new LateLosses();
  private readonly averager = new Averager();
  private readonly loans: NativeLoan[] = [];
  /** Parts of the optimizer's state that the other thread has. */
  private readonly known = new Set<unknown>();
  private readonly sequences: HostedSequences;

  /** @param emit is called with each token as it is generated */
  constructor(posted: PostedModel, emit: (event: SequenceEvent) => void) {
    const { model, tensors } = borrowing(() =>
      receiveModel(posted, (config, options) => new GPTModel(config, options)),
    );
    this.model = model;
    this.tensors = tensors;
    this.sequences = new HostedSequences(model, emit);
  }

  get isGenerating(): boolean {
    return this.sequences.isActive;
  }

  get hasSequences(): boolean {
    return this.sequences.size > 0;
  }

  get awaitsReaders(): boolean {
    return this.sequences.awaitsReaders;
  }

  /** One step of generation. */
  generate(): void {
    this.sequences.step();
  }

  notice(notice: Exclude<Notice, { type: 'release' }>): void {
    this.sequences.notice(notice);
  }

  /** Makes a call. The answer is a promise where it waits for other ranks: no other call may be made meanwhile. */
  run(call: Exclude<Call, { type: 'open' | 'close' | 'hold' }>): unknown {
    switch (call.type) {
      case 'optimizer':
        return this.takeOptimizer(call.optimizer);
      case 'zeroGrad':
        return this.zeroGrad();
      case 'accumulate': {
        const { batch, isFirst, parts, precision, scaler, readsLate } = call;
        if (isFirst) this.zeroGrad();
        const options = { parts, precision, scaler: this.scalerAt(scaler) };
        return this.withBatch(batch, (own) => accumulate(this.model, own, options, readsLate ? this.late : undefined));
      }
      case 'apply':
        return this.apply(call);
      case 'join': {
        const { group, parameters, states } = call.averaged;
        return this.averager.join({
          group,
          parameters: parameters.map(([name, number]) => [name, this.tensors[number] as Parameter] as const),
          states: states.map((number) => this.tensors[number]!),
        });
      }
      case 'forward':
        if (call.isFirst) this.zeroGrad();
        return this.withBatch(call.batch, (own) => this.averager.forward(this.model, own, call.precision));
      case 'average':
        return this.averager.backwardOffLoop({ parts: call.parts, scaler: this.scalerAt(call.scaler) });
      case 'copy':
        return this.copyStorages();
      case 'loss':
        return this.withBatch(call.batch, (own) => evaluationLoss(this.model, own, call.precision));
      case 'embed':
        return transfer(embedBatch(this.model, call.request)).torchbindTicket;
    }
  }

  /** Gives up what the other thread has lent. */
  close(): void {
    this.sequences.close();
    this.averager.leave();
    this.late.clear();
    this.model.zeroGrad();
    this.model.dispose();
    this.dropOptimizer();
    for (const loan of this.loans) native().endLoan(loan);
  }

  private withBatch<T>({ x, y }: PostedBatch, use: (batch: Batch) => T): T {
    return tidy(() => {
      const batch = { x: receiveLent(x), y: receiveLent(y) };
      try {
        return use(batch);
      } finally {
        dispose(batch);
      }
    });
  }

  private zeroGrad(): void {
    this.optimizer!.zeroGrad();
    this.late.clear();
    this.averager.drop();
  }

  private scalerAt(state: GradScalerState | null): GradScaler | null {
    if (state === null) return null;
    this.scaler.setState(state);
    return this.scaler;
  }

  private takeOptimizer({ className, groups, state }: PostedOptimizer): void {
    this.dropOptimizer();
    const optimizer = newOptimizer(
      className,
      groups.map((numbers) => ({ params: numbers.map((number) => this.tensors[number] as Parameter) })),
    );
    for (const posted of state) {
      const value = borrowing(() => receiveState(posted));
      this.known.add(value);
      putState(optimizer.state, this.tensors[posted.parameter] as Parameter, posted.key, value);
    }
    this.optimizer = optimizer;
  }

  private dropOptimizer(): void {
    if (this.optimizer !== undefined) dispose([...this.optimizer.state.values()]);
    this.optimizer = undefined;
    this.known.clear();
  }

  private apply({ only, gradClip, scaler: scalerState, groups }: Extract<Call, { type: 'apply' }>): Applied {
    const optimizer = this.optimizer!;
    groups.forEach((group, i) => Object.assign(optimizer.paramGroups[i]!, group));
    const scaler = this.scalerAt(scalerState);
    const apply = (): Made => applyGradients(this.model, optimizer, { gradClip, scaler }, this.late);
    const made = only === undefined ? apply() : this.updateFrom(only, apply);
    return { ...made, scaler: scaler?.getState() ?? null, state: this.newState(optimizer) };
  }

  private updateFrom({ batch, precision }: PostedOnlyBatch, apply: () => Made): Made {
    this.zeroGrad();
    return this.withBatch(batch, (own) => updateFrom(this.model, { batch: own, precision }, apply));
  }

  private copyStorages(): CopiedStorage[] {
    const state = [...(this.optimizer?.state.values() ?? [])].flatMap((parts) => [...parts.values()]);
    const tensors = [...this.tensors, ...state].filter((value): value is Tensor => value instanceof Tensor);
    const storages = new Map(tensors.map((tensor) => [native().storageInfo(tensor.handle).id, tensor]));
    return tidy(() => {
      const copies = Array.from(storages.values(), copyBytes);
      const { tickets, loan } = lend(copies);
      native().endLoan(loan); // they are the other thread's alone
      return Array.from(storages.keys(), (id, i) => ({ id, ticket: tickets[i]! }));
    });
  }

  /** What the optimizer has made in its last step, lent to the other thread. */
  private newState(optimizer: AnyOptimizer): PostedState[] {
    const made: StatePart[] = [];
    for (const [owner, parts] of optimizer.state) {
      for (const [key, value] of parts) {
        if (value instanceof Tensor && this.known.has(value)) continue;
        made.push({ parameter: this.tensors.indexOf(owner), key, value });
        this.known.add(value);
      }
    }
    return postState(made, (tensors) => this.lend(tensors));
  }

  private lend(tensors: readonly Tensor[]): number[] {
    if (tensors.length === 0) return [];
    const { tickets, loan } = lend(tensors);
    this.loans.push(loan);
    return tickets;
  }
}

/** The bytes of a tensor's storage, uint8 (nbytes), in memory of their own on the CPU. */
function copyBytes(tensor: Tensor): Tensor {
  const { nbytes } = native().storageInfo(tensor.handle);
  const bytes = wrap(native().viewStorage(tensor.handle, dtypeCode.uint8, 0, [nbytes], [1]));
  return bytes.device === 'cpu' ? bytes.clone() : bytes.to('cpu');
}
