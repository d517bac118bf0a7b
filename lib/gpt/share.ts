import { adoptPosted, heldTensors, postModule, type PostedModule } from '../compute/posted-module';
import { postModel, type PostedModel, receiveModel } from '../compute/posted-model';
import { checkArgument, takes, TorchBindError } from '../errors';
import { Module } from '../nn/module';
import { isPlainObject } from '../objects';
import { HuggingFaceTokenizer, type HuggingFaceTokenizerOptions } from '../tokenizers';
import { tokenizerFromJson } from '../tokenizers/from-json';
import type { Tokenizer } from '../tokenizers/tokenizer';
import * as tensors from '../tensor/transfer';
import { Tensor } from '../tensor/tensor';
import type { TensorTicket } from '../tensor/transfer';
import { GPT } from './gpt';

/** A module in transit to another thread: a plain object that `postMessage` and `workerData` can carry. */
export interface ModuleTicket {
  readonly torchbindModule: {
    readonly module: PostedModule;
    /** Of a GPT what it is made with. */
    readonly gpt:
      | (Omit<PostedModel, 'module'> & { tokenizer: PostedTokenizer | null; generationJson: GPT['generationJson'] })
      | null;
  };
}

/** A tokenizer as plain data: its `tokenizer.json`, and what goes with one of Hugging Face. */
interface PostedTokenizer {
  json: unknown;
  settings: Pick<HuggingFaceTokenizer, 'chatTemplate' | 'specialTokens'> | null;
}

function postTokenizer(tokenizer: Tokenizer): PostedTokenizer {
  const json = tokenizer.toJson();
  if (!(tokenizer instanceof HuggingFaceTokenizer)) return { json, settings: null };
  const { chatTemplate, specialTokens } = tokenizer;
  return { json, settings: { chatTemplate, specialTokens } };
}

function receiveTokenizer({ json, settings }: PostedTokenizer): Tokenizer {
  if (settings === null) return tokenizerFromJson(json);
  const { bos_token: bos, eos_token: eos } = settings.specialTokens;
  return new HuggingFaceTokenizer(json, { ...settings, startToken: bos ?? eos } as HuggingFaceTokenizerOptions);
}

/**
 * Makes a ticket with which one other thread of this process can `receive` a tensor, or a module with all its tensors.
 * Nothing is copied: both threads use the same memory and see each other's writes, as with `torch.multiprocessing`. A
 * leaf keeps `requiresGrad`, with a separate gradient in each thread.
 *
 * A ticket keeps the memory alive until it is received or discarded, even after this thread has ended. If this thread
 * is terminated or fails, its messages may be lost, so its tickets expire a minute later.
 *
 * @throws ERR_TORCHBIND_TICKET for a tensor with a graph: share `tensor.detach()`
 */
export const share = takes(1, shareAny as (value: Tensor | Module) => TensorTicket | ModuleTicket, 'share') as {
  (tensor: Tensor): TensorTicket;
  (module: Module): ModuleTicket;
};

function shareAny(value: Tensor | Module): TensorTicket | ModuleTicket {
  if (!(value instanceof Module)) return tensors.share(value);
  const held = heldTensors(value);
  const tickets: number[] = [];
  try {
    for (const { tensor } of held) tickets.push(tensors.share(tensor).torchbindTicket);
    if (!(value instanceof GPT)) return { torchbindModule: { module: postModule(value, held, tickets), gpt: null } };
    const { module, ...gpt } = postModel(value, held, tickets);
    const tokenizer = value.tokenizer === null ? null : postTokenizer(value.tokenizer);
    return { torchbindModule: { module, gpt: { ...gpt, tokenizer, generationJson: value.generationJson } } };
  } catch (error) {
    for (const torchbindTicket of tickets) tensors.discard({ torchbindTicket });
    throw error;
  }
}

/**
 * Receives the tensor or the GPT of a ticket. For any other module pass `module`, one of the same structure made in
 * this thread: it takes over the weights, and its own are freed.
 *
 * A GPT comes with its tokenizer, but without optimizer, step and origin. Hooks and methods of a subclass stay in the
 * other thread too.
 *
 * @throws ERR_TORCHBIND_TICKET if the ticket was received or discarded before, or if its sender failed a minute ago;
 *   ERR_TORCHBIND_INVALID_ARGUMENT naming the differences between the modules
 */
export const receive = takes(
  2,
  receiveAny as (ticket: TensorTicket | ModuleTicket, module?: Module) => Tensor | Module,
  'receive',
) as {
  (ticket: TensorTicket): Tensor;
  (ticket: ModuleTicket): GPT;
  <M extends Module>(ticket: ModuleTicket, module: M): M;
};

function receiveAny(ticket: TensorTicket | ModuleTicket, into?: Module): Tensor | Module {
  if (!isModuleTicket(ticket)) {
    checkArgument(into === undefined, 'a ticket of a module with it', ticket, 'receive(): module');
    return tensors.receive(ticket);
  }
  const { module, gpt } = ticket.torchbindModule;
  if (into !== undefined) {
    checkArgument(into instanceof Module, 'a module', into, 'receive(): module');
    adoptPosted(into, module);
    return into;
  }
  if (gpt === null) {
    throw new TorchBindError(
      `receive(): expected a module for the weights of a ${module.modules[0]?.className}, got none. Make one as the sender did: receive(ticket, new ...).`,
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  }
  const tokenizer = gpt.tokenizer === null ? null : receiveTokenizer(gpt.tokenizer);
  const { model } = receiveModel({ ...gpt, module }, (config, options) => new GPT(config, { ...options, tokenizer }));
  model.generationJson = gpt.generationJson;
  return model;
}

/** Frees the memory of a ticket. Does nothing if the ticket was received or discarded before. */
export const discard = takes(1, function discard(ticket: TensorTicket | ModuleTicket): void {
  if (!isModuleTicket(ticket)) return tensors.discard(ticket);
  for (const { ticket: torchbindTicket } of ticket.torchbindModule.module.tensors) tensors.discard({ torchbindTicket });
});

function isModuleTicket(ticket: unknown): ticket is ModuleTicket {
  return isPlainObject(ticket) && isPlainObject((ticket as Partial<ModuleTicket>).torchbindModule);
}
