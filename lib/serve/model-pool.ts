import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { CheckpointCode, CheckpointError } from '../errors';
import { CheckpointManager, GPT } from '../gpt';
import { HttpError } from './http-error';
import type { Settings } from './options';
import { checkpointsOf, runNames } from './runs';
import type { DeviceName } from '../tensor/schema-types';

/** Weights in memory. */
interface Loaded {
  readonly gpt: GPT;
  /** Whether the pool has loaded it: a model that the program gave is the program's to dispose of. */
  readonly isOwned: boolean;
  /** When it was loaded or given: to ask a model that is being trained would wait for its update. */
  readonly step: number | null;
  /** The manifest of the opened bundle, as text; null without one. */
  readonly manifest: string | null;
  /** Requests that use it. */
  users: number;
  /** Newer weights have taken its place. */
  isReplaced: boolean;
}

/** A model that requests can name. */
interface Slot {
  readonly id: string;
  /** A model of the program's, or where to load one. */
  source: GPT | string;
  /** False for a model of the root that a request has named: it may be unloaded. */
  readonly isPinned: boolean;
  loaded: Loaded | undefined;
  loading: Promise<Loaded> | undefined;
  /** A manifest that could not be loaded, which is not tried again. */
  refused: string | null;
  /** Counts uses, so that the one not used for longest is known. */
  lastUse: number;
}

/** A model in use: its weights stay as they are until it is released. */
export interface Lease {
  readonly id: string;
  readonly gpt: GPT;
  readonly step: number | null;
  release(): void;
}

/**
 * The models of a server. A request takes a lease and keeps those weights to its end; a new bundle serves the requests after it, and
 * the old weights are freed when their last request has ended.
 */
export class ModelPool {
  private readonly slots = new Map<string, Slot>();
  private uses = 0;
  private timer: NodeJS.Timeout | undefined;
  private isClosed = false;

  constructor(
    models: ReadonlyMap<string, GPT | string>,
    private readonly settings: Settings,
  ) {
    for (const [id, source] of models) this.slots.set(id, newSlot(id, source, true));
    if (settings.watchInterval > 0) this.watchLater();
  }

  /** Loads the models that were passed, so that their errors appear immediately. */
  async open(): Promise<void> {
    for (const slot of [...this.slots.values()]) await this.load(slot);
  }

  /** The models that requests can name, and their steps where these are known. */
  async list(): Promise<{ id: string; step: number | null }[]> {
    const served = [...this.slots.values()].filter(({ isPinned }) => isPinned);
    const listed = new Map(served.map(({ id, loaded }) => [id, loaded?.step ?? null]));
    const { root } = this.settings;
    for (const name of root === undefined ? [] : await runNames(root)) {
      for (const { kind, step } of await checkpointsOf(root!, name)) {
        if (kind === 'bundle' && !listed.has(name)) listed.set(name, step);
        if (kind === 'step') listed.set(`${name}@${step}`, step);
      }
    }
    return [...listed].map(([id, step]) => ({ id, step }));
  }

  /** The steps of the models that are served, for `/health` and metrics. */
  steps(): Record<string, number | null> {
    const loaded = [...this.slots.values()].filter((slot) => slot.loaded !== undefined);
    return Object.fromEntries(loaded.map(({ id, loaded }) => [id, loaded!.step]));
  }

  /** The id of the model that serves requests which name none. */
  get defaultId(): string | undefined {
    const [first] = this.slots.keys();
    return first;
  }

  /** @throws HttpError 404 for a model that is not there, 503 where too many are in use */
  async lease(id: string): Promise<Lease> {
    const slot = this.slots.get(id) ?? (await this.slotOfRoot(id));
    slot.lastUse = ++this.uses;
    const loaded = slot.loaded ?? (await this.load(slot));
    loaded.users++;
    let isReleased = false;
    const release = (): void => {
      if (isReleased) return;
      isReleased = true;
      loaded.users--;
      disposeIfUnused(loaded);
    };
    return { id, gpt: loaded.gpt, step: loaded.step, release };
  }

  /** From now on requests for a model get this one. */
  async publish(id: string, source: GPT | string): Promise<void> {
    const slot = this.slots.get(id);
    if (slot === undefined) {
      const added = newSlot(id, source, true);
      this.slots.set(id, added);
      await this.load(added);
      return;
    }
    await slot.loading?.catch(() => undefined);
    const loaded = await open(source, this.settings.device);
    replace(slot, loaded);
    slot.source = source;
  }

  /** Looks whether there are newer bundles, and loads them. */
  async reload(): Promise<void> {
    for (const slot of [...this.slots.values()]) await this.reloadSlot(slot);
  }

  close(): void {
    this.isClosed = true;
    clearTimeout(this.timer);
    for (const slot of this.slots.values()) {
      if (slot.loaded !== undefined) retire(slot.loaded);
      slot.loaded = undefined;
    }
    this.slots.clear();
  }

  private watchLater(): void {
    this.timer = setTimeout(() => {
      void this.reload().finally(() => {
        if (!this.isClosed) this.watchLater();
      });
    }, this.settings.watchInterval);
    this.timer.unref();
  }

  private async reloadSlot(slot: Slot): Promise<void> {
    const { source, loaded } = slot;
    if (typeof source !== 'string' || loaded === undefined || slot.loading !== undefined) return;
    const manifest = await manifestAt(source);
    if (manifest === null || manifest === loaded.manifest || manifest === slot.refused) return;
    try {
      const newer = await open(source, this.settings.device);
      if (this.isClosed || slot.loaded !== loaded) return disposeIfOwned(newer);
      replace(slot, newer);
    } catch (error) {
      slot.refused = manifest;
      const message = `The new bundle of '${slot.id}' cannot be loaded; the one before is still served: ${(error as Error).message}`;
      this.settings.onError(new Error(message, { cause: error }));
    }
  }

  private load(slot: Slot): Promise<Loaded> {
    slot.loading ??= open(slot.source, this.settings.device)
      .then((loaded) => {
        slot.loaded = loaded;
        return loaded;
      })
      .catch((error: unknown) => {
        if (slot.isPinned) throw error;
        this.slots.delete(slot.id);
        throw error instanceof CheckpointError && error.code === CheckpointCode.open ? noSuchModel(slot.id) : error;
      })
      .finally(() => (slot.loading = undefined));
    return slot.loading;
  }

  /** A model of the root: `dante`, or `dante@500` for a step that is kept. */
  private async slotOfRoot(id: string): Promise<Slot> {
    const source = await this.sourceInRoot(id);
    if (source === undefined) throw noSuchModel(id);
    const known = this.slots.get(id); // another request may have added it meanwhile
    if (known !== undefined) return known;
    this.makeRoom();
    const slot = newSlot(id, source, false);
    this.slots.set(id, slot);
    return slot;
  }

  private async sourceInRoot(id: string): Promise<string | undefined> {
    const { root } = this.settings;
    if (root === undefined) return undefined;
    const [, name, step] = /^(.+?)(?:@(\d+))?$/s.exec(id) ?? [];
    if (name === undefined || !(await runNames(root)).includes(name)) return undefined;
    if (step === undefined) return new CheckpointManager(name, { root }).checkpointDir;
    const kept = (await checkpointsOf(root, name)).find(
      (entry) => entry.kind === 'step' && entry.step === Number(step),
    );
    return kept?.path;
  }

  /** Unloads the model that was not used for longest, if there are as many as allowed. */
  private makeRoom(): void {
    const unpinned = [...this.slots.values()].filter(({ isPinned }) => !isPinned);
    if (unpinned.length < this.settings.limits.maxLoadedModels) return;
    const idle = unpinned.filter(({ loaded, loading }) => loading === undefined && (loaded?.users ?? 0) === 0);
    const [oldest] = idle.sort((a, b) => a.lastUse - b.lastUse);
    if (oldest === undefined) {
      const message = `All ${unpinned.length} models that may be in memory are in use. Try again later.`;
      throw new HttpError(503, message, { code: 'models_busy', headers: { 'retry-after': '1' } });
    }
    this.slots.delete(oldest.id);
    if (oldest.loaded !== undefined) retire(oldest.loaded);
  }
}

function noSuchModel(id: string): HttpError {
  const message = `The model '${id.slice(0, 100)}' does not exist. GET /v1/models lists the models.`;
  return new HttpError(404, message, { code: 'model_not_found', param: 'model' });
}

function newSlot(id: string, source: GPT | string, isPinned: boolean): Slot {
  return { id, source, isPinned, loaded: undefined, loading: undefined, refused: null, lastUse: 0 };
}

async function open(source: GPT | string, device: DeviceName | undefined): Promise<Loaded> {
  const isOwned = typeof source === 'string';
  // Before the weights: where a save comes in between, the next look finds another manifest.
  const manifest = isOwned ? await manifestAt(source) : null;
  const gpt = isOwned ? await GPT.load(source, device === undefined ? {} : { device }) : source;
  return { gpt, isOwned, step: gpt.step, manifest, users: 0, isReplaced: false };
}

async function manifestAt(source: string): Promise<string | null> {
  return readFile(path.join(source, 'manifest.json'), 'utf8').catch(() => null);
}

function replace(slot: Slot, newer: Loaded): void {
  const older = slot.loaded;
  slot.loaded = newer;
  slot.refused = null;
  if (older !== undefined) retire(older);
}

function retire(loaded: Loaded): void {
  loaded.isReplaced = true;
  disposeIfUnused(loaded);
}

function disposeIfUnused(loaded: Loaded): void {
  if (loaded.isReplaced && loaded.users === 0) disposeIfOwned(loaded);
}

function disposeIfOwned({ gpt, isOwned }: Loaded): void {
  if (isOwned) gpt.dispose();
}
