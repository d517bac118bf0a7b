import { describe, TorchBindError } from '../errors';

/** Where this process stands among all, and where they meet: what torchrun, or any other launcher, sets. */
export interface Environment {
  rank: number;
  worldSize: number;
  masterAddress: string;
  masterPort: number;
}

const VARIABLES = {
  rank: 'RANK',
  worldSize: 'WORLD_SIZE',
  masterAddress: 'MASTER_ADDR',
  masterPort: 'MASTER_PORT',
} as const;

/**
 * The options, completed from the environment's variables.
 *
 * @throws ERR_TORCHBIND_INVALID_ARGUMENT naming the variable that is missing or not a number
 */
export function completeEnvironment(given: Partial<Environment>, env: NodeJS.ProcessEnv = process.env): Environment {
  const worldSize = given.worldSize ?? wholeNumber(env, 'worldSize', 1);
  const rank = given.rank ?? wholeNumber(env, 'rank', 0);
  if (rank >= worldSize)
    throw invalid(`rank ${rank} is not below the number of ranks, ${worldSize}. Ranks are numbered from 0.`);
  return {
    rank,
    worldSize,
    masterAddress: given.masterAddress ?? text(env, 'masterAddress'),
    masterPort: given.masterPort ?? wholeNumber(env, 'masterPort', 0),
  };
}

/** Whether a launcher started this process as one of several, or as the only one. */
export function isLaunched(env: NodeJS.ProcessEnv = process.env): boolean {
  return Object.values(VARIABLES).every((name) => env[name] !== undefined && env[name] !== '');
}

/** Whether torchrun started this process as one of several. */
export function isLaunchedByTorchrun(env: NodeJS.ProcessEnv = process.env): boolean {
  return isLaunched(env) && env.TORCHELASTIC_RUN_ID !== undefined && Number(env.WORLD_SIZE) > 1;
}

/** Whether torchrun's agent hosts the store. Otherwise rank 0 hosts it. */
export function agentHoldsStore(env: NodeJS.ProcessEnv = process.env): boolean {
  return env.TORCHELASTIC_USE_AGENT_STORE?.toLowerCase() === 'true';
}

/**
 * What is put in front of the store's keys after a restart. torchrun's store outlives an attempt: without a prefix, ranks may
 * read the addresses of processes that have ended.
 */
export function attemptPrefix(env: NodeJS.ProcessEnv = process.env): string {
  const attempt = Number(env.TORCHELASTIC_RESTART_COUNT ?? 0);
  return attempt > 0 ? `attempt_${attempt}` : '';
}

function text(env: NodeJS.ProcessEnv, option: keyof Environment): string {
  const value = env[VARIABLES[option]];
  if (value !== undefined && value !== '') return value;
  throw invalid(
    `neither the option '${option}' nor the environment variable ${VARIABLES[option]} is set. Start the program with torchrun ` +
      '(torchrun --no-python --nproc-per-node 2 node train.mjs), or set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT.',
  );
}

function wholeNumber(env: NodeJS.ProcessEnv, option: keyof Environment, least: number): number {
  const value = text(env, option);
  const number = Number(value);
  if (!Number.isSafeInteger(number) || number < least)
    throw invalid(
      `${VARIABLES[option]} must be a whole number of at least ${least}, got ${describe(value)} in the environment.`,
    );
  return number;
}

function invalid(message: string): TorchBindError {
  return new TorchBindError(`initProcessGroup: ${message}`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}
