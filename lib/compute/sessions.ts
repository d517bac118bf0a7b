import type { GPTModel } from '../models/gpt-model';
import { releaseReplica, shareReplica } from './models';
import type { Replica } from './replica';

/** The replicas that keep the caches of sessions, which stay open between the turns. */
const replicas = new Map<number, Replica>();

/** Keeps a replica open for a session. A cache that the session has on another one is freed: the model was changed. */
export function holdSession(model: GPTModel, session: number, replica: Replica): void {
  if (replicas.get(session) === replica) return;
  releaseSession(model, session);
  shareReplica(model, replica);
  replicas.set(session, replica);
}

export function forkSession(model: GPTModel, from: number, to: number): void {
  const replica = replicas.get(from);
  if (replica === undefined) return;
  replica.post({ type: 'fork', from, to });
  holdSession(model, to, replica);
}

export function releaseSession(model: GPTModel, session: number): void {
  const replica = replicas.get(session);
  if (replica === undefined) return;
  replicas.delete(session);
  replica.post({ type: 'forget', session });
  releaseReplica(model, replica, { keep: true });
}
