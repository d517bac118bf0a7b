import type { Counter, Histogram, Registry } from 'prom-client';
import { memory } from '../tensor/scope';
import type { ModelPool } from './model-pool';
import type { Peers } from './peers';
import type { Queue } from './queue';

const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300];

/** What `/metrics` shows, in Prometheus' text format. */
export class ServerMetrics {
  private readonly registry: Registry;
  private readonly requests: Counter;
  private readonly durations: Histogram;
  private readonly firstTokens: Histogram;
  private readonly generated: Counter;

  constructor({ Registry, Counter, Gauge, Histogram }: Peers['prometheus'], pool: ModelPool, queue: Queue) {
    const registry = new Registry();
    const registers = [registry];
    this.registry = registry;
    const gauge = (name: string, help: string, read: () => number): void => {
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(read());
        },
      });
    };
    gauge('torchbind_sequences_active', 'Sequences that are being generated.', () => queue.active);
    gauge('torchbind_requests_waiting', 'Requests that wait for a place.', () => queue.length);
    gauge(
      'torchbind_tensors',
      'Tensors on the thread that serves, without those of running sequences.',
      () => memory().numTensors,
    );
    gauge('torchbind_tensor_bytes', 'Bytes of these tensors.', () => memory().numBytes);
    gauge('process_resident_memory_bytes', 'Resident memory of the process.', () => process.memoryUsage.rss());
    new Gauge({
      name: 'torchbind_model_step',
      help: 'Updates that the weights which are served were trained for.',
      labelNames: ['model'],
      registers,
      collect() {
        this.reset();
        for (const [model, step] of Object.entries(pool.steps())) if (step !== null) this.set({ model }, step);
      },
    });
    this.requests = new Counter({
      name: 'torchbind_requests_total',
      help: 'Requests that were answered.',
      labelNames: ['route', 'status'],
      registers,
    });
    this.durations = new Histogram({
      name: 'torchbind_request_seconds',
      help: 'Time from a request to the end of its answer.',
      labelNames: ['route'],
      buckets: SECONDS,
      registers,
    });
    this.firstTokens = new Histogram({
      name: 'torchbind_first_token_seconds',
      help: 'Time from a request to its first token, waiting included.',
      buckets: SECONDS,
      registers,
    });
    this.generated = new Counter({
      name: 'torchbind_generated_tokens_total',
      help: 'Tokens of complete answers.',
      labelNames: ['model'],
      registers,
    });
  }

  request(route: string, status: number, milliseconds: number): void {
    this.requests.inc({ route, status });
    this.durations.observe({ route }, milliseconds / 1000);
  }

  /** @param began of `performance.now()` */
  firstToken(began: number): void {
    this.firstTokens.observe((performance.now() - began) / 1000);
  }

  tokens(model: string, count: number): void {
    this.generated.inc({ model }, count);
  }

  get contentType(): string {
    return this.registry.contentType;
  }

  text(): Promise<string> {
    return this.registry.metrics();
  }
}
