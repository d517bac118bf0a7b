import { withoutUndefined } from '../../../objects';
import { isGated, type GPTConfig } from '../../config';
import { isOneTensor, normKind, type Family, type Recognised, type StateView } from '../family';
import { decayMatrices, empty, headModule, weighted } from '../layout';
import type { CheckpointLayout, LayoutModule } from '../layout';

/** Key maps of decoders of Hugging Face: a line for each module, in the order of `named_modules()`. */

/** A module of the family's: its path, and the module here whose parameters it has; none for one without parameters. */
export type KeyLine = readonly [path: string, here?: string];

export interface DecoderKeys {
  /** Name of the layout. */
  readonly name: string;
  readonly description: string;
  /** What comes before the blocks, from the model itself. */
  readonly before: readonly KeyLine[];
  /** Path of the list of blocks. */
  readonly layers: string;
  /** The modules of a block, whose paths follow `layers.0.`. */
  readonly block: readonly KeyLine[];
  /** The norms of a block where they do not come before attention and MLP, the position with the most norms first. */
  readonly norms?: Partial<Record<GPTConfig['normPosition'], readonly KeyLine[]>>;
  readonly after: readonly KeyLine[];
  readonly head: string;
  /** What all models with these keys have in common. */
  readonly facts: (config: Readonly<Omit<GPTConfig, 'vocabSize'>>) => Partial<GPTConfig>;
  /** Parts of a block that must be there for a state dict to be of this layout. */
  readonly needs: readonly string[];
  /** Whether a state dict that has these is of this layout after all. */
  readonly accepts?: (state: StateView) => boolean;
}

/** Which fact says whether a module here has a bias. */
function hasBias(here: string, config: GPTConfig): boolean {
  if (/^attn\.(qkv|q|k|v)$/.test(here)) return config.bias;
  if (here === 'attn.proj') return config.projBias;
  if (here.startsWith('mlp.')) return config.mlpBias;
  return isNorm(here) && config.normBias;
}

function isNorm(here: string): boolean {
  return /^(ln1|ln2|ln1Post|ln2Post|lnF|attn\.[qk]Norm)$/.test(here);
}

/** Whether a model of this config has the module. */
function isThere(here: string, config: GPTConfig): boolean {
  if (here === 'ln2') return config.parallelResidual !== 'one-norm';
  if (here === 'ln1Post' || here === 'ln2Post') return config.normPosition === 'sandwich';
  if (here === 'attn.qNorm' || here === 'attn.kNorm') return config.qkNorm !== 'none';
  if (here === 'mlp.gate') return isGated(config.activation) && !config.fusedGate;
  return here !== 'positionEmbedding' || config.positionEncoding === 'learned';
}

function* linesOf(lines: readonly KeyLine[], path: string, here: string, config: GPTConfig): Generator<LayoutModule> {
  for (const [name, own] of lines) {
    const full = path + name;
    if (own === undefined) yield empty(full);
    else if (!isThere(own, config)) continue;
    else if (isNorm(own) && !config.normScale) yield empty(full);
    else yield weighted(full, here + own, hasBias(own, config));
  }
}

function* modules(keys: DecoderKeys, config: GPTConfig, tiedHead: boolean): Generator<LayoutModule> {
  yield empty('');
  yield* linesOf(keys.before, '', '', config);
  for (let i = 0; i < config.nLayer; i++) {
    yield empty(`${keys.layers}.${i}`);
    yield* linesOf(blockOf(keys, config), `${keys.layers}.${i}.`, `blocks.${i}.`, config);
  }
  yield* linesOf(keys.after, '', '', config);
  if (tiedHead || !config.tieWeights) yield headModule(keys.head, config);
}

/** A block whose norms stand elsewhere has other names for them, after its other modules. */
function blockOf({ block, norms = {} }: DecoderKeys, { normPosition }: GPTConfig): readonly KeyLine[] {
  const own = norms[normPosition];
  return own === undefined ? block : [...block.filter(([, here]) => here !== 'ln1' && here !== 'ln2'), ...own];
}

function layoutOf(keys: DecoderKeys, tiedHead: boolean): CheckpointLayout {
  const { name, description, facts } = keys;
  return {
    name,
    description,
    facts,
    initialisation: 'normal_02',
    optimizerGroups: { ...decayMatrices, weightDecay: [0, 0], betas: [0.9, 0.999] },
    modules: (config) => [...modules(keys, config, tiedHead)],
  };
}

/** The family of checkpoints with these keys. */
export function decoderFamily(keys: DecoderKeys): Family {
  const { name, description } = keys;
  return {
    name,
    description,
    layout: layoutOf(keys, true),
    // What such keys can hold is kept; the layout refuses the rest, and config.json what transformers does not compute.
    conform: (config) => ({
      fusedQkv: keys.facts(config).fusedQkv ?? true,
      fusedGate: keys.facts(config).fusedGate ?? false,
      positionEncoding: keys.before.some(([, here]) => here === 'positionEmbedding') ? 'learned' : 'rope',
    }),
    recognise: (state) => recognise(keys, state),
  };
}

function recognise(keys: DecoderKeys, state: StateView): Recognised | undefined {
  const first = `${keys.layers}.0`;
  if (!keys.needs.every((path) => state.has(`${first}.${path}.weight`))) return undefined;
  if (keys.accepts?.(state) === false) return undefined;
  const pathOf = (here: string): string => {
    const line = [...keys.block, ...keys.after, ...keys.before].find(([, own]) => own === here);
    return line === undefined ? '' : keys.block.includes(line) ? `${first}.${line[0]}` : line[0];
  };
  const has = (here: string, name = 'weight'): boolean => pathOf(here) !== '' && state.has(`${pathOf(here)}.${name}`);
  const token = `${pathOf('tokenEmbedding')}.weight`;
  const [vocabSize, nEmbd] = state.shape(token) ?? [];
  const head = `${keys.head}.weight`;
  // Values are not compared: the config says whether two equal matrices are one.
  const tied = !state.has(head) || isOneTensor(state, head, token) === true;
  const nLayer = state.count((i) => `${keys.layers}.${i}.${keys.needs[0]}.weight`);
  const facts = withoutUndefined<Partial<GPTConfig>>({
    vocabSize,
    nEmbd,
    nLayer,
    mlpHidden: state.shape(`${pathOf('mlp.down')}.weight`)?.[1],
    bias: has('attn.qkv', 'bias') || has('attn.q', 'bias'),
    projBias: has('attn.proj', 'bias'),
    mlpBias: has('mlp.up', 'bias'),
    lmHeadBias: state.has(`${keys.head}.bias`),
    tieWeights: tied,
    ...normFacts(keys, state, first),
  });
  return {
    layout: layoutOf(keys, state.has(head)),
    facts,
    saw: [
      `${nLayer} block(s) with ${first}.${keys.needs[0]}, ${description(keys)}`,
      state.has(head)
        ? `${head} ${tied ? 'equal to' : 'other than'} ${token}`
        : `no ${head}: the head is the token embedding`,
    ],
    asks: ['nHead', 'blockSize'],
  };
}

const description = ({ description }: DecoderKeys): string => `the names of ${description}`;

/** What the names of a block's norms say. */
function normFacts({ block, norms = {} }: DecoderKeys, state: StateView, first: string): Partial<GPTConfig> {
  const has = (path: string, name = 'weight'): boolean => state.has(`${first}.${path}.${name}`);
  const positions = Object.entries(norms) as [GPTConfig['normPosition'], readonly KeyLine[]][];
  const [normPosition, lines] = positions.find(([, own]) => own.every(([path]) => has(path))) ?? [undefined, block];
  const paths = lines.filter(([, here]) => here !== undefined && /^ln[12]/.test(here)).map(([path]) => path);
  const hasQkNorm = block.some(([path, here]) => here === 'attn.qNorm' && has(path));
  return withoutUndefined<Partial<GPTConfig>>({
    ...normKind(
      paths.some((path) => has(path)),
      paths.some((path) => has(path, 'bias')),
    ),
    normPosition,
    qkNorm: hasQkNorm ? undefined : 'none',
  });
}
