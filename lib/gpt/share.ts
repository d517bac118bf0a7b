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

/** A module on its way to another thread: a plain object that `postMessage` and `workerData` carry. */
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
 * Makes a ticket with which one other thread of this process `receive`s a tensor, or a module with all its tensors. Nothing is
 * copied: both threads use the same memory, and what one writes the other sees, as with `torch.multiprocessing`. A leaf keeps
 * `requiresGrad`, and each thread has gradients of its own.
 *
 * Until it is received or discarded a ticket keeps the memory alive, also when this thread has ended. Only where this
 * thread was terminated, or an error ended it, may its messages have been lost: what it shared is freed a minute later.
 *
 * @throws ERR_TORCHBIND_TICKET for a tensor with a graph behind it: share `tensor.detach()`
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
 * The tensor or the GPT of a ticket, as if it had been made here. Of another module the weights come into `module`, one of the
 * same structure that this thread has made; its own are freed.
 *
 * A GPT comes with its tokenizer; its optimizer, step and origin stay where they are. What it was given in JavaScript, such as
 * hooks and methods of a subclass, stays there too.
 *
 * @throws ERR_TORCHBIND_TICKET when the ticket was received or discarded before, or its sender failed a minute ago;
 *   ERR_TORCHBIND_INVALID_ARGUMENT naming what differs between the modules
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

/** Frees what a ticket holds; a ticket that was received or discarded before is let be. */
export const discard = takes(1, function discard(ticket: TensorTicket | ModuleTicket): void {
  if (!isModuleTicket(ticket)) return tensors.discard(ticket);
  for (const { ticket: torchbindTicket } of ticket.torchbindModule.module.tensors) tensors.discard({ torchbindTicket });
});

function isModuleTicket(ticket: unknown): ticket is ModuleTicket {
  return isPlainObject(ticket) && isPlainObject((ticket as Partial<ModuleTicket>).torchbindModule);
}
