// The Python process next to a section: one request a line, one answer a line.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import readline from 'node:readline';
import { inRoot } from '../steps.mjs';

export class Partner {
  #child;
  #answers;

  constructor({ command, env }) {
    this.#child = spawn(command, [inRoot('scripts/gpu-check/python/partner.py')], {
      env: { ...process.env, ...env, PYTHONDONTWRITEBYTECODE: '1' },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#child.stdin.on('error', () => undefined); // of a process that has ended, whose answer is missing too
    this.#answers = readline.createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** @throws what Python says */
  async ask(request) {
    this.#child.stdin.write(`${JSON.stringify(request)}\n`);
    const { value, done } = await this.#answers.next();
    if (done) throw new Error('the Python next to the check ended; its message is above');
    const answer = JSON.parse(value);
    if (answer.error !== undefined) throw new Error(`Python: ${answer.error}`);
    return answer;
  }

  async stop() {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const closed = once(this.#child, 'close');
    this.#child.stdin.end();
    await closed;
  }
}
