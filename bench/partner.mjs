// The Python process that runs the other side's rounds.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import readline from 'node:readline';
import { fileURLToPath } from 'node:url';
import { pythonEnvironment } from '../scripts/python-env.mjs';

export class Partner {
  #child;
  #answers;

  static async start(name = 'partner.py') {
    const { command, env } = await pythonEnvironment();
    return new Partner(command, { ...process.env, ...env }, name);
  }

  constructor(command, env, name) {
    const script = fileURLToPath(new URL(name, import.meta.url));
    this.#child = spawn(command, [script], { env, stdio: ['pipe', 'pipe', 'inherit'] });
    this.#answers = readline.createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** One request, one answer. */
  async ask(request) {
    this.#child.stdin.write(`${JSON.stringify(request)}\n`);
    const { value, done } = await this.#answers.next();
    if (done) throw new Error('the Python side of the benchmark ended; its message is above');
    return JSON.parse(value);
  }

  async stop() {
    if (this.#child.exitCode !== null) return;
    const closed = once(this.#child, 'close');
    this.#child.stdin.end();
    await closed;
  }
}
