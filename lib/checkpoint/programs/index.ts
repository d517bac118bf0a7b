import { buildLlm } from './build-llm';
import { bundle } from './bundle';
import { distributed } from './distributed';
import { hfGpt2 } from './hf-gpt2';
import { hfTrainer } from './hf-trainer';
import { legacy } from './legacy';
import { nanogpt } from './nanogpt';
import { peft } from './peft';
import { release } from './release';
import type { DirectoryProgram, FileProgram, Program } from './program';
import { stateDict } from './state-dict';
import { trainingDict } from './training-dict';

/**
 * The programs whose files are read and written here. A new one is a file in this directory and a line in one of the two
 * lists, in which the first that recognises its files takes them.
 */
export const directoryPrograms: readonly DirectoryProgram[] = [release, bundle, hfTrainer, hfGpt2, peft, distributed];
export const filePrograms: readonly FileProgram[] = [nanogpt, buildLlm, legacy, trainingDict, stateDict];

export const programs: readonly Program[] = [...directoryPrograms, ...filePrograms];
