import { describe, expect, it } from 'vitest';
import { CheckpointCode, CheckpointError, TorchBindError } from '../../lib';
import { postError, receiveError } from '../../lib/workers/errors';

const throughPost = (error: unknown): Error => receiveError(structuredClone(postError(error)));

describe('errors from worker threads', () => {
  it('keep class, code, message and cause', () => {
    const cause = new RangeError('too far');
    const error = throughPost(new TorchBindError('expected a, got b', 'ERR_TORCHBIND_TENSOR', { cause }));
    expect(error).toBeInstanceOf(TorchBindError);
    expect(error).toMatchObject({ message: 'expected a, got b', code: 'ERR_TORCHBIND_TENSOR' });
    expect(error.cause).toBeInstanceOf(RangeError);
    expect((error.cause as Error).message).toBe('too far');
  });

  it('keep the names of subclasses and the codes of the system', () => {
    expect(throughPost(new CheckpointError('no', CheckpointCode.container))).toBeInstanceOf(CheckpointError);
    expect(throughPost(Object.assign(new Error('gone'), { code: 'ENOENT' }))).toMatchObject({ code: 'ENOENT' });
    expect(throughPost('text').message).toBe('text');
  });

  it('show where the caller called, and below it the other thread', () => {
    const posted = postError(new TypeError('wrong'));
    function outerCaller(): string {
      return new Error('here').stack!;
    }
    const { stack } = receiveError(posted, outerCaller());
    expect(stack).toMatch(/^TypeError: wrong\n\s+at outerCaller[^]*in the worker thread:\n\s+at /);
  });
});
