/**
 * Runs the real PyTorch that the tests compare with.
 *
 * A Python process spends seconds on `import torch`: a test file should do all its Python work in one script,
 * started in `beforeAll`, that writes its files and prints one JSON document.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

export const repositoryRoot = path.resolve(__dirname, '../..');

/** For a test or hook that waits on Python, in milliseconds: a first `import torch` on a busy machine takes its time. */
export const pythonTimeout = 300_000;

export interface PythonOptions {
  /** Text for the script's standard input. */
  input?: string;
  cwd?: string;
}

interface Interpreter {
  command: string;
  env: NodeJS.ProcessEnv;
}

/** Runs a .py file to its end and returns what it printed. Throws with Python's traceback when it fails. */
export function runPython(script: string, args: string[] = [], options: PythonOptions = {}): Promise<string> {
  return spawnPython([script, ...args], options);
}

/** Runs a .py file and parses what it printed as JSON. */
export async function pythonJson<T>(script: string, args: string[] = [], input?: string): Promise<T> {
  return parse<T>(await spawnPython([script, ...args], { input }));
}

/** Runs a few lines of Python code; `args` are its `sys.argv[1:]`. */
export function pythonCode(code: string, args: string[] = [], options: PythonOptions = {}): Promise<string> {
  return spawnPython(['-c', code, ...args], options);
}

/** Starts a .py file that a test talks with, and ends itself. */
export async function startPython(script: string, args: string[] = []): Promise<ChildProcess> {
  const { command, env } = await interpreter();
  return spawn(command, [script, ...args], { cwd: repositoryRoot, env, stdio: ['pipe', 'pipe', 'inherit'] });
}

/**
 * A .py file that answers requests through `serve` of session.py, for a file whose tests ask Python about what Node wrote: each
 * further process would import PyTorch again. Make it in `beforeAll`, and end it in `afterAll`.
 */
export class PythonSession {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#lines = createInterface(child.stdout!)[Symbol.asyncIterator]();
    // What a Python that has ended does not read: its missing answer tells.
    child.stdin!.on('error', () => undefined);
  }

  static async start(script: string): Promise<PythonSession> {
    return new PythonSession(await startPython(script));
  }

  /** What the action printed. One request at a time. Throws with Python's traceback when it fails. */
  async ask(action: string, ...args: string[]): Promise<string> {
    this.#child.stdin!.write(`${JSON.stringify([action, ...args])}\n`);
    const line = await this.#lines.next();
    if (line.done === true) throw new Error(`Python ended before it answered ${action}; its message is above`);
    const { printed, error } = JSON.parse(line.value) as { printed?: string; error?: string };
    if (printed === undefined) throw new Error(`python ${[action, ...args].join(' ')} failed\n${error}`);
    return printed;
  }

  async askJson<T>(action: string, ...args: string[]): Promise<T> {
    return parse<T>(await this.ask(action, ...args));
  }

  end(): void {
    this.#child.kill('SIGKILL');
  }
}

async function spawnPython(args: string[], options: PythonOptions): Promise<string> {
  const { command, env } = await interpreter();
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: options.cwd ?? repositoryRoot, env });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    // A script that ends before it has read its input closes the pipe: its exit status tells, not EPIPE.
    child.stdin.on('error', () => undefined).end(options.input ?? '');
    child.on('error', reject);
    child.on('close', (status, signal) => {
      if (status === 0) resolve(stdout);
      else reject(new Error(`python ${args.join(' ')} ended with ${signal ?? `status ${status}`}\n${stderr}`));
    });
  });
}

/** JSON as Python prints it, where NaN and the infinities are bare words: refused here, so that no test compares them. */
function parse<T>(text: string): T {
  try {
    return JSON.parse(text) as T;
  } catch (error) {
    throw new Error(`Python printed no JSON document but: ${text.slice(0, 500)}`, { cause: error });
  }
}

let found: Promise<Interpreter> | undefined;

function interpreter(): Promise<Interpreter> {
  found ??= findInterpreter();
  return found;
}

async function findInterpreter(): Promise<Interpreter> {
  const script = pathToFileURL(path.join(repositoryRoot, 'scripts/python-env.mjs')).href;
  const { pythonEnvironment } = (await import(script)) as { pythonEnvironment: () => Interpreter };
  const { command, env } = pythonEnvironment();
  // Text is UTF-8 whatever the locale, and transformers draws no bars.
  const plain = { PYTHONIOENCODING: 'utf-8', HF_HUB_DISABLE_PROGRESS_BARS: '1', LD_PRELOAD: '' }; // no sanitizer of Node's
  return { command, env: { ...process.env, ...plain, ...env } };
}
