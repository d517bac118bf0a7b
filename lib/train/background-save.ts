/** Saves that go on while training does: one at a time. */
export class BackgroundSaves {
  private pending: { step: number; done: boolean; error: Error | undefined; promise: Promise<void> } | undefined;

  /** Hands a save over. The one before must have been taken. */
  start(step: number, writing: Promise<void>): void {
    const entry = { step, done: false, error: undefined as Error | undefined, promise: writing };
    entry.promise = writing
      .catch((error: unknown) => void (entry.error = error instanceof Error ? error : new Error(String(error))))
      .finally(() => (entry.done = true));
    this.pending = entry;
  }

  /** The step that was saved since this was asked last, or the error; undefined while the save is under way. */
  take(): { step: number; error: Error | undefined } | undefined {
    if (this.pending?.done !== true) return undefined;
    const { step, error } = this.pending;
    this.pending = undefined;
    return { step, error };
  }

  /** Waits for the save that is under way. */
  async settle(): Promise<void> {
    await this.pending?.promise;
  }
}
