import type { FastifyInstance, FastifyReply } from 'fastify';
import { formatComparison } from '../checkpoint/compare-text';
import { HttpError } from './http-error';
import type { ModelPool } from './model-pool';
import { refuse } from './parameters';
import { RunLogs } from './run-log';
import { listRuns, managerOf } from './runs';

interface Named {
  Params: { name: string };
}

/** What the page of runs asks for. */
export class RunRoutes {
  private readonly logs = new RunLogs();

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
      const manager = await managerOf(this.directory(), params.name);
      const [a, b] = [stepIn(textIn(query, 'a')), stepIn(textIn(query, 'b'))];
      return { text: formatComparison(await manager.compare(a, b, { signal: endOf(reply) }), { tensors: 20 }) };
    });
    app.post<Named>('/api/runs/:name/rollback', { config: { access: 'change' } }, async ({ params, body }) => {
      const manager = await managerOf(this.directory(), params.name);
      const step = stepIn((body as { step?: unknown } | null)?.step);
      await manager.rollback(step);
      await this.pool.reload();
      return { name: params.name, step };
    });
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
