import { HttpError } from './http-error';

interface Waiting {
  places: number;
  enter: () => void;
}

/** Limits the number of concurrent sequences; further requests wait in order. */
export class Queue {
  private taken = 0;
  private readonly waiting = new Set<Waiting>();

  constructor(private readonly limits: { maxConcurrent: number; maxQueue: number; queueTimeout: number }) {}

  /** Sequences that are being generated. */
  get active(): number {
    return this.taken;
  }

  /** Requests that wait. */
  get length(): number {
    return this.waiting.size;
  }

  /**
   * Takes places, when they are free and those who came before have theirs. Returns what gives them back, once.
   *
   * @throws HttpError 429 where too many wait already, 503 after the time for waiting; the signal's reason
   */
  async enter(places: number, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    const { maxConcurrent, maxQueue } = this.limits;
    if (this.waiting.size > 0 || this.taken + places > maxConcurrent) {
      if (this.waiting.size >= maxQueue) throw busy(429, 'Too many requests are waiting.', 'queue_full');
      await this.wait(places, signal);
    } else this.taken += places;
    let isTaken = true;
    return () => {
      if (!isTaken) return;
      isTaken = false;
      this.taken -= places;
      this.admit();
    };
  }

  private wait(places: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
        this.waiting.delete(waiting);
      };
      const giveUp = (reason: Error): void => {
        leave();
        reject(reason);
        this.admit(); // Those behind may need fewer places.
      };
      const onAbort = (): void => giveUp(signal.reason as Error);
      const onTimeout = (): void => giveUp(busy(503, 'The server had no time for this request.', 'queue_timeout'));
      const timer = setTimeout(onTimeout, this.limits.queueTimeout);
      const waiting: Waiting = {
        places,
        enter: () => {
          leave();
          resolve();
        },
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.waiting.add(waiting);
    });
  }

  /** Lets in from the front. The first is never passed over, so one that needs many places gets them. */
  private admit(): void {
    for (const waiting of this.waiting) {
      if (this.taken + waiting.places > this.limits.maxConcurrent) return;
      this.taken += waiting.places;
      waiting.enter();
    }
  }
}

function busy(status: number, message: string, code: string): HttpError {
  return new HttpError(status, `${message} Try again later.`, { code, headers: { 'retry-after': '1' } });
}
