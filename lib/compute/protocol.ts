import type { DecodeRequest, FoundSequence, SearchRequest, TokenLogprobs } from '../generation/decoder';
import type { EmbedRequest } from '../models/embed';
import type { Precision } from '../models/precision';
import type { GradScalerState } from '../optim';
import type { PostedError } from '../workers/errors';
import type { PostedModel } from './posted-model';
import type { PostedState } from './posted-state';
import type { OptimizerClass } from './replicable';
import type { Made } from './update';

/** What the thread of a program and a compute thread say to each other. */

/** A call that is answered. Calls for one model are made in their order. */
export type Call =
  | { type: 'open'; model: PostedModel }
  | { type: 'close' }
  | { type: 'optimizer'; optimizer: PostedOptimizer }
  | { type: 'zeroGrad' }
  | ({ type: 'accumulate' } & AccumulateCall)
  | ({ type: 'apply' } & ApplyCall)
  /** A reducer for the gradients of all ranks, in place of the one before. Like `average` it waits for the other ranks. */
  | { type: 'join'; averaged: PostedAveraged }
  /** The loss of the last batch of an update. */
  | ({ type: 'forward' } & ForwardCall)
  /** Its backward pass, which averages the gradients of the update over the ranks. */
  | { type: 'average'; parts: number; scaler: GradScalerState | null }
  | { type: 'loss'; batch: PostedBatch; precision: Precision }
  /** The answer is the ticket of a vector for each text. */
  | { type: 'embed'; request: EmbedRequest }
  /** Copies of all storages of the model and of the optimizer's state: see `CopiedStorage`. */
  | { type: 'copy' }
  /** Nothing is generated on the thread until `release`: weights are being replaced. */
  | { type: 'hold' };

/** Tickets of inputs and targets, (B, T) int64 each. */
export interface PostedBatch {
  x: number;
  y: number;
}

export interface AccumulateCall {
  batch: PostedBatch;
  /** Of an update: the gradients of the one before are dropped. */
  isFirst: boolean;
  /** Batches of the update. */
  parts: number;
  precision: Precision;
  scaler: GradScalerState | null;
  /** The loss comes with the answer to `apply`. */
  readsLate: boolean;
}

export interface ForwardCall {
  batch: PostedBatch;
  isFirst: boolean;
  precision: Precision;
}

/** `Averaged`, by the numbers of the model's tensors. */
export interface PostedAveraged {
  group: string;
  parameters: [name: string, parameter: number][];
  states: number[];
}

/** `OnlyBatch`, by tickets. */
export interface PostedOnlyBatch {
  batch: PostedBatch;
  precision: Precision;
}

export interface ApplyCall {
  /** The only batch of the update, whose gradients were not accumulated before. */
  only: PostedOnlyBatch | undefined;
  gradClip: number | undefined;
  scaler: GradScalerState | null;
  /** The hyperparameters of each group. */
  groups: Record<string, unknown>[];
}

export interface Applied extends Made {
  scaler: GradScalerState | null;
  /** What the optimizer has made for its parameters. */
  state: PostedState[];
}

/** A storage, by the number that it has in this process, and the ticket of a copy of its bytes on the CPU. */
export interface CopiedStorage {
  id: number;
  ticket: number;
}

export interface PostedOptimizer {
  className: OptimizerClass;
  /** Numbers of the model's tensors, for each group. */
  groups: number[][];
  state: PostedState[];
}

/** What is not answered: sequences to generate, under numbers that the caller gives them, and sessions whose caches are kept. */
export type Notice =
  | { type: 'add'; sequence: number; request: DecodeRequest | SearchRequest }
  | { type: 'grant'; sequence: number; count: number }
  | { type: 'remove'; sequence: number }
  | { type: 'fork'; from: number; to: number }
  | { type: 'forget'; session: number }
  | { type: 'release' };

/** To a compute thread; `id` is that of a call. Kernels use as many threads as they would on the caller's: their bits depend on it. */
export type Request = { replica: number; numThreads: number } & (
  ({ id: number } & Call) | ({ id?: undefined } & Notice)
);

export interface Answer {
  id: number;
  value?: unknown;
  error?: PostedError;
}

/** What the sequences have come to since the message before, in order. */
export interface Generated {
  id?: undefined;
  events: SequenceEvent[];
}

export type SequenceEvent = { sequence: number } & (
  | { token: number; logprobs?: TokenLogprobs }
  /** With `found`, of a search. */
  | { token?: undefined; isEnd: true; found?: FoundSequence[] | undefined }
  | { token?: undefined; error: PostedError }
);

/** From a compute thread. */
export type Reply = Answer | Generated;
