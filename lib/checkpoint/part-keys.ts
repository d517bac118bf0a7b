/** Under which keys programs keep the parts of a checkpoint, in the order in which they are looked for. */
export const partKeys = {
  weights: ['model_state_dict', 'state_dict', 'model', 'module', 'net', 'weights'],
  optimizer: ['optimizer_state_dict', 'optimizer', 'optimizer_states', 'optim', 'optim_state_dict'],
  step: ['step', 'iter_num', 'global_step', 'iteration', 'global_steps'],
  config: ['model_args', 'config', 'model_config', 'hyperparameters', 'hyper_parameters', 'hparams', 'args'],
} as const;

/** The optimizer's state. Lightning keeps a list of states, one for each optimizer; a GPT has one. */
export function optimizerStateIn(value: unknown): unknown {
  return Array.isArray(value) && value.length === 1 ? (value as unknown[])[0] : value;
}
