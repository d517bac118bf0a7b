import type { Batch } from '../data';
import type { ThreadOption } from '../generation/generate';
import type { GPTModel } from '../models/gpt-model';
import type { Precision } from '../models/precision';
import type { Parameter } from '../nn/parameter';
import type { AnyOptimizer } from '../optim';
import { dispose } from '../tensor/scope';
import type { Tensor } from '../tensor/tensor';
import { transfer } from '../tensor/transfer';
import { Averager } from './averager';
import { acquireReplica, releaseReplica } from './models';
import { type PostedState, postState, putState, receiveState } from './posted-state';
import type { Applied, PostedBatch } from './protocol';
import type { Replica } from './replica';
import { optimizerClass } from './replicable';
import {
  accumulate,
  type AccumulateOptions,
  applyGradients,
  type ApplyOptions,
  evaluationLoss,
  LateLosses,
  type Made,
  type OnlyBatch,
  type PartOptions,
  updateFrom,
} from './update';

/**
 * Computes the updates of a training run, on a compute thread where that gives the same. Model, optimizer and scaler belong to
 * the caller: their tensors are shared, all else is brought up to date with each answer.
 */
export class TrainingEngine {
  private replica: Replica | undefined;
  /** The optimizer's state as the compute thread has it: the parts of each parameter. */
  private sent = new Map<Parameter, Map<string, unknown>>();
  private sentGroups = '';
  /** Whether the next batch is the first of its update. */
  private isFirst = true;
  private readonly late = new LateLosses();
  /** Of this thread's parameters. */
  private readonly averager = new Averager();
  /** Whether the replica has a reducer. */
  private hasJoined = false;

  constructor(
    private readonly model: GPTModel,
    private readonly optimizer: AnyOptimizer,
    private readonly thread: ThreadOption,
    /** Whether gradients are averaged over several ranks. */
    private readonly averages: boolean,
  ) {}

  /**
   * Looks where the next update can be computed. Programs may change the model, its hooks and the optimizer between any two.
   */
  async beginUpdate(): Promise<void> {
    await this.prepare();
    if (this.replica === undefined) return this.zeroGrad();
    if (!this.hasSentState()) await this.sendOptimizer(this.replica);
    this.isFirst = true;
  }

  /** Acquires a replica of the model on the compute thread, unless the present one still fits. */
  async prepare(): Promise<void> {
    const { model, replica } = this;
    if (replica?.isLike(model) === true && this.canSendOptimizer(replica)) return;
    this.release();
    if (this.thread === 'main' || optimizerClass(this.optimizer) === undefined) return;
    // The native thread of `average` cannot call JavaScript, as the backward pass of both does.
    if (this.averages && (model.activationCheckpointing || model.chunkedLoss)) return;
    const opened = await acquireReplica(model);
    if (opened === undefined) return;
    if (this.canSendOptimizer(opened)) {
      this.averager.leave();
      this.replica = opened;
      opened.trains = true;
    } else releaseReplica(model, opened, { keep: true });
  }

  /** Drops the gradients of an abandoned update. */
  async dropGradients(): Promise<void> {
    if (this.replica === undefined) this.zeroGrad();
    else await this.replica.call({ type: 'zeroGrad' });
  }

  private zeroGrad(): void {
    this.optimizer.zeroGrad();
    this.late.clear();
    this.averager.drop();
  }

  /**
   * Adds the gradients of a batch, which is freed, and gives its loss; a loss that is not finite adds none. With `readsLate` nobody
   * waits for the loss here: `apply` gives the sum of the update's, and makes no update where one is not finite.
   */
  async accumulate(batch: Batch, options: AccumulateOptions & { readsLate: boolean }): Promise<number | undefined> {
    const { replica } = this;
    const { parts, precision, scaler, readsLate } = options;
    if (replica === undefined)
      return using(batch, () => accumulate(this.model, batch, options, readsLate ? this.late : undefined));
    const { isFirst } = this;
    this.isFirst = false;
    const state = scaler?.getState() ?? null;
    const call = { batch: post(batch), isFirst, parts, precision, scaler: state, readsLate };
    return replica.call<number | undefined>({ type: 'accumulate', ...call });
  }

  /**
   * Clips the gradients and makes the update.
   *
   * @param only the only batch of the update, which was not accumulated before and is freed: with a loss that is not finite no update
   *   is made
   * @param onApplied is called in the same turn of the event loop in which this thread learns of the update, before any
   *   other code
   */
  async apply(options: ApplyOptions, only: OnlyBatch | undefined, onApplied: (made: Made) => void): Promise<Made> {
    const { replica, model, optimizer } = this;
    if (replica === undefined) {
      const apply = (): Made => applyGradients(model, optimizer, options, this.late);
      const made = only === undefined ? apply() : using(only.batch, () => updateFrom(model, only, apply));
      onApplied(made);
      return made;
    }
    const { gradClip, scaler } = options;
    const posted = only === undefined ? undefined : { batch: post(only.batch), precision: only.precision };
    const groups = optimizer.paramGroups.map(hyperparametersOf);
    const take = (applied: Applied): void => {
      if (applied.scaler !== null) scaler?.setState(applied.scaler);
      for (const part of applied.state) this.takeState(replica, part);
      onApplied(applied);
    };
    const call = { only: posted, gradClip, scaler: scaler?.getState() ?? null, groups };
    return replica.call<Applied>({ type: 'apply', ...call }, take);
  }

  /** Whether `average` can be called: the place where updates are computed has a reducer. */
  get isJoined(): boolean {
    return this.replica === undefined ? this.averager.isOf(trainedParameters(this.model)) : this.hasJoined;
  }

  /**
   * Makes a reducer where the next update is computed. It waits for the other ranks, which must all do this now.
   *
   * @param states parameters and buffers that are given the values of rank 0
   */
  async join(group: string, states: readonly Tensor[]): Promise<void> {
    const { replica } = this;
    const parameters = trainedParameters(this.model);
    if (replica === undefined) return this.averager.join({ group, parameters, states });
    const posted = {
      group,
      parameters: parameters.map(([name, parameter]): [string, number] => [name, replica.numberOf(parameter)!]),
      states: states.map((tensor) => replica.numberOf(tensor)!),
    };
    await replica.call({ type: 'join', averaged: posted });
    this.hasJoined = true;
  }

  /** The loss of the last batch of an update on several ranks. The batch is freed. */
  async forward(batch: Batch, precision: Precision): Promise<number> {
    const { replica, isFirst } = this;
    this.isFirst = false;
    if (replica === undefined) return using(batch, () => this.averager.forward(this.model, batch, precision));
    return replica.call<number>({ type: 'forward', batch: post(batch), isFirst, precision });
  }

  /** Adds its gradients, and averages those of all of the update over the ranks. */
  async average({ parts, scaler }: PartOptions): Promise<void> {
    const { replica } = this;
    if (replica === undefined) this.averager.backward({ parts, scaler });
    else await replica.call({ type: 'average', parts, scaler: scaler?.getState() ?? null });
  }

  /** The loss of a batch, which is freed, in evaluation mode. */
  async loss(batch: Batch, precision: Precision): Promise<number> {
    const { replica } = this;
    if (replica === undefined) return using(batch, () => evaluationLoss(this.model, batch, precision));
    return replica.call<number>({ type: 'loss', batch: post(batch), precision });
  }

  close(): void {
    this.averager.leave();
    this.release();
  }

  private release(): void {
    const { replica } = this;
    this.replica = undefined;
    this.hasJoined = false;
    this.sent.clear();
    this.late.clear();
    if (replica === undefined) return;
    replica.trains = false;
    releaseReplica(this.model, replica, { keep: false });
  }

  private canSendOptimizer(replica: Replica): boolean {
    return this.optimizer.paramGroups.every(({ params }) =>
      params.every((parameter) => replica.numberOf(parameter) !== undefined),
    );
  }

  /** Whether the compute thread has the optimizer's state as it is: `loadStateDict` and the program may replace it. */
  private hasSentState(): boolean {
    const { state, paramGroups } = this.optimizer;
    if (state.size !== this.sent.size || this.sentGroups !== describeGroups(paramGroups)) return false;
    for (const [parameter, parts] of state) {
      const sent = this.sent.get(parameter);
      if (sent?.size !== parts.size) return false;
      for (const [key, value] of parts) if (!Object.is(sent.get(key), value)) return false;
    }
    return true;
  }

  private async sendOptimizer(replica: Replica): Promise<void> {
    const { optimizer } = this;
    const parts = [...optimizer.state].flatMap(([owner, entries]) => {
      const parameter = replica.numberOf(owner);
      return parameter === undefined ? [] : Array.from(entries, ([key, value]) => ({ parameter, key, value }));
    });
    const state = postState(parts, (tensors) => replica.lend(tensors));
    const groups = optimizer.paramGroups.map(({ params }) => params.map((parameter) => replica.numberOf(parameter)!));
    this.sent = new Map([...optimizer.state].map(([parameter, entries]) => [parameter, new Map(entries)]));
    this.sentGroups = describeGroups(optimizer.paramGroups);
    await replica.call({
      type: 'optimizer',
      optimizer: { className: optimizerClass(optimizer)!, groups, state },
    });
  }

  private takeState(replica: Replica, posted: PostedState): void {
    const parameter = replica.held[posted.parameter]!.tensor as Parameter;
    const value = receiveState(posted);
    for (const state of [this.optimizer.state, this.sent]) putState(state, parameter, posted.key, value);
  }
}

function trainedParameters(model: GPTModel): [name: string, parameter: Parameter][] {
  return model.namedParameters().filter(([, { requiresGrad }]) => requiresGrad);
}

/** The sizes of an optimizer's groups: it may be given further ones. */
function describeGroups(groups: readonly { params: readonly Parameter[] }[]): string {
  return groups.map(({ params }) => params.length).join(' ');
}

function hyperparametersOf(group: object): Record<string, unknown> {
  const { params, extra, paramNames, ...rest } = group as Record<string, unknown>;
  void [params, extra, paramNames]; // of no use to a step
  return rest;
}

function using<T>(batch: Batch, compute: () => T): T {
  try {
    return compute();
  } finally {
    dispose(batch);
  }
}

export function post({ x, y }: Batch): PostedBatch {
  return { x: transfer(x).torchbindTicket, y: transfer(y).torchbindTicket };
}
