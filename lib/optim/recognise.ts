import { takes } from '../errors';
import { readStateDict } from './state-dict';

/** Classes of `torch.optim` that a state dict can be of. */
export type TorchOptimizer =
  | 'Adadelta'
  | 'Adafactor'
  | 'Adagrad'
  | 'Adam'
  | 'AdamW'
  | 'Adamax'
  | 'ASGD'
  | 'LBFGS'
  | 'Muon'
  | 'NAdam'
  | 'RAdam'
  | 'RMSprop'
  | 'Rprop'
  | 'SGD'
  | 'SparseAdam';

/** Which class wrote a state dict. */
export interface RecognisedOptimizer {
  /** undefined where no class of `torch.optim` writes these keys. */
  name: TorchOptimizer | undefined;
  /**
   * Another class that writes the same keys: before torch 2.6 `Adam` and `AdamW` do not say which of them it was. The
   * program that wrote the file decides.
   */
  alternative?: TorchOptimizer;
  /** The keys that were seen, for messages. */
  saw: string;
}

/** The keys that a class writes. */
interface Signature {
  name: TorchOptimizer;
  /** Hyperparameters that every group has. */
  group: string;
  /** Hyperparameters of a similar class. */
  without?: string;
  /** All that the state of a parameter may hold. */
  state: string;
  alternative?: TorchOptimizer;
}

const ADAM_STATE = 'step exp_avg exp_avg_sq max_exp_avg_sq';

/** The first that fits counts. Each class writes its hyperparameters into every group; few differ in the state alone. */
const SIGNATURES: readonly Signature[] = [
  {
    name: 'LBFGS',
    group: 'lr max_iter history_size',
    state: 'func_evals n_iter al d t old_dirs old_stps ro H_diag prev_flat_grad prev_loss',
  },
  { name: 'Adafactor', group: 'lr beta2_decay eps d', state: 'step row_var col_var variance' },
  { name: 'Muon', group: 'lr momentum ns_coefficients ns_steps', state: 'momentum_buffer' },
  { name: 'SGD', group: 'lr momentum dampening nesterov', state: 'momentum_buffer' },
  { name: 'RMSprop', group: 'lr alpha eps centered', state: 'step square_avg momentum_buffer grad_avg' },
  { name: 'ASGD', group: 'lr lambd alpha t0', state: 'step eta mu ax' },
  { name: 'Rprop', group: 'lr etas step_sizes', state: 'step prev step_size' },
  { name: 'Adadelta', group: 'lr rho eps', state: 'step square_avg acc_delta' },
  { name: 'Adagrad', group: 'lr lr_decay weight_decay', without: 'betas', state: 'step sum' },
  { name: 'NAdam', group: 'lr betas eps momentum_decay', state: 'step mu_product exp_avg exp_avg_sq' },
  { name: 'Adam', group: 'lr betas eps weight_decay amsgrad', state: ADAM_STATE },
  { name: 'RAdam', group: 'lr betas eps weight_decay decoupled_weight_decay', state: 'step exp_avg exp_avg_sq' },
  { name: 'SparseAdam', group: 'lr betas eps', without: 'weight_decay', state: 'step exp_avg exp_avg_sq' },
  {
    name: 'Adamax',
    group: 'lr betas eps weight_decay',
    without: 'bias_correction correct_bias',
    state: 'step exp_avg exp_inf',
    alternative: 'RAdam',
  },
  // Until torch 2.2, which added decoupled decay to it.
  {
    name: 'RAdam',
    group: 'lr betas eps weight_decay',
    without: 'bias_correction correct_bias',
    state: 'step exp_avg exp_avg_sq',
  },
];

/**
 * Which class of `torch.optim` wrote a state dict, by the keys of its groups and of its parameters' states. A state that
 * lacks some of its class's keys does not hide the class: loading it names what is missing.
 *
 * @throws ERR_TORCHBIND_OPTIMIZER_STATE for what is not the state dict of an optimizer
 */
export const recogniseOptimizer = takes(
  1,
  function recogniseOptimizer(stateDict: ReadonlyMap<string, unknown>): RecognisedOptimizer {
    const { state, groups } = readStateDict(stateDict);
    const hyperparameters = groups.map(({ values }) => values);
    const states = [...state.values()];
    const saw = `groups with ${keysOf(hyperparameters)}; state with ${keysOf(states)}`;
    const found = SIGNATURES.find((signature) => fits(signature, hyperparameters, states));
    if (found === undefined) return { name: undefined, saw };
    if (found.name === 'Adam') return { ...adamOrAdamW(hyperparameters), saw };
    const isSettled = found.alternative === undefined || states.some((values) => values.size > 0);
    return isSettled ? { name: found.name, saw } : { name: found.name, alternative: found.alternative!, saw };
  },
);

type Dict = ReadonlyMap<unknown, unknown>;

function fits({ group, without, state }: Signature, groups: readonly Dict[], states: readonly Dict[]): boolean {
  const known = new Set<unknown>(state.split(' '));
  return (
    groups.length > 0 &&
    groups.every((values) => group.split(' ').every((key) => values.has(key))) &&
    !groups.some((values) => without?.split(' ').some((key) => values.has(key)) === true) &&
    states.every((values) => [...values.keys()].every((key) => known.has(key)))
  );
}

/** `torch.optim.Adam` takes the decay of each group as it says; AdamW's is decoupled in all. */
function adamOrAdamW(groups: readonly Dict[]): Pick<RecognisedOptimizer, 'name' | 'alternative'> {
  const decoupled = groups.map((values) => values.get('decoupled_weight_decay'));
  if (decoupled.every((value) => value === undefined)) return { name: 'AdamW', alternative: 'Adam' };
  return { name: decoupled.every((value) => value === true) ? 'AdamW' : 'Adam' };
}

function keysOf(dicts: readonly Dict[]): string {
  const keys = new Set(dicts.flatMap((dict) => [...dict.keys()].map(String)));
  for (const ofAll of ['params', 'param_names']) keys.delete(ofAll);
  return keys.size === 0 ? 'nothing' : [...keys].slice(0, 20).join(', ');
}
