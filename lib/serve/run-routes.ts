import type { FastifyInstance, FastifyReply } from 'fastify';
import { formatComparison } from '../checkpoint/compare-text';
import type { CheckpointManager } from '../gpt';
import { HttpError } from './http-error';
import type { ModelPool } from './model-pool';
import { refuse } from './parameters';
import { RunLogs } from './run-log';
import { checkpointsOf, listRuns, managerOf } from './runs';

interface Named {
  Params: { name: string };
}

/** What the page of runs asks for. */
export class RunRoutes {
  private readonly logs = new RunLogs();
  private isComparing = false;

  constructor(
    private readonly root: string | undefined,
    private readonly pool: ModelPool,
  ) {}

  add(app: FastifyInstance, endOf: (reply: FastifyReply) => AbortSignal): void {
    app.get('/api/runs', async () => ({ runs: this.root === undefined ? [] : await listRuns(this.root) }));
    app.get<Named>('/api/runs/:name/charts', async ({ params, query }, reply) => {
      const { checkpointDir } = await managerOf(this.directory(), params.name);
      const charts = await this.logs.charts(checkpointDir, textIn(query, 'version'));
      return charts ?? reply.code(204).send();
    });
    app.get<Named>('/api/runs/:name/compare', async ({ params, query }, reply) => {
      const [a, b] = [stepIn(textIn(query, 'a')), stepIn(textIn(query, 'b'))];
      const manager = await this.kept(params.name, a, b);
      return { text: await this.compare(manager, a, b, endOf(reply)) };
    });
    app.post<Named>('/api/runs/:name/rollback', { config: { access: 'change' } }, async ({ params, body }) => {
      const step = stepIn((body as { step?: unknown } | null)?.step);
      const manager = await this.kept(params.name, step);
      await manager.rollback(step);
      await this.pool.reload();
      return { name: params.name, step };
    });
  }

  /** The weights of two checkpoints are read whole: one comparison at a time. */
  private async compare(manager: CheckpointManager, a: number, b: number, signal: AbortSignal): Promise<string> {
    if (this.isComparing) throw new HttpError(429, 'Another comparison is running. Try again later.', { code: 'busy' });
    this.isComparing = true;
    try {
      return formatComparison(await manager.compare(a, b, { signal }), { tensors: 20 });
    } finally {
      this.isComparing = false;
    }
  }

  /** @throws HttpError 404 for a step that is not kept */
  private async kept(name: string, ...steps: number[]): Promise<CheckpointManager> {
    const root = this.directory();
    const manager = await managerOf(root, name);
    const there = (await checkpointsOf(root, name)).filter(({ kind }) => kind === 'step').map(({ step }) => step);
    const missing = steps.find((step) => !there.includes(step));
    if (missing === undefined) return manager;
    const message = `'${name}' has no bundle of step ${missing}. Its steps: ${there.join(', ') || 'none'}.`;
    throw new HttpError(404, message, { code: 'step_not_found', param: 'step' });
  }

  private directory(): string {
    if (this.root !== undefined) return this.root;
    throw new HttpError(404, 'This server shows no runs: it was started without a root.', { code: 'no_root' });
  }
}

function textIn(query: unknown, name: string): string | undefined {
  const value = (query as Record<string, unknown>)[name];
  return typeof value === 'string' ? value : undefined;
}

function stepIn(value: unknown): number {
  const step = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value;
  if (Number.isSafeInteger(step) && (step as number) >= 0) return step as number;
  throw refuse("Expected the step of a bundle that is kept in 'step', 'a' and 'b'.", 'step');
}
