import { Cost, MemoryBudget } from './budget';
import { Cursor } from './cursor';
import { CheckpointCode, CheckpointError } from './errors';
import { Memo } from './memo';
import { Op } from './opcodes';
import { recalledIndices } from './steps';
import { decodeQuotedString, decodeRawUnicodeEscape, latin1 } from './text';

/** A class or function that a pickle names. */
export interface SurveyedGlobal {
  module: string;
  name: string;
  /** Whether the pickle calls it, where Python would read it. */
  called: boolean;
  /** Byte of the pickle at which it is first named. */
  offset: number;
}

export interface PickleSurvey {
  /** In the order of the pickle, each once. */
  globals: SurveyedGlobal[];
  /** Just after STOP, or where the pickle cannot be followed further. */
  end: number;
  /** Why it cannot be followed to its end; undefined where it can. */
  problem: CheckpointError | undefined;
}

/** What stands for the parts of a name that a pickle computes. */
const computed = '?';

/** Names alone are kept, which take little. */
const memoryLimit = 16 * 2 ** 20;

/** Text is kept up to this length: no name of Python is longer. */
const maxName = 1000;

/**
 * Names all that a pickle names, whatever it means to do with it: it is followed opcode by opcode, with strings and names
 * alone on the stack. So what no reader would accept, and what comes before the place at which one stops, is named too.
 * Nothing is made and nothing is called; memory is bounded.
 */
export function surveyPickle(bytes: Uint8Array): PickleSurvey {
  const surveyor = new Surveyor(bytes);
  let problem: CheckpointError | undefined;
  try {
    surveyor.run();
  } catch (error) {
    if (!(error instanceof CheckpointError)) throw error;
    problem = error;
  }
  return { globals: [...surveyor.globals.values()], end: surveyor.cursor.position, problem };
}

/** A string, a name, or something else. */
type Item = string | SurveyedGlobal | undefined;

/** How many values an opcode takes off the stack, and whether it leaves one. */
const effects = new Map<number, readonly [taken: number, left: 0 | 1]>([
  [Op.TUPLE1, [1, 1]],
  [Op.TUPLE2, [2, 1]],
  [Op.TUPLE3, [3, 1]],
  [Op.APPEND, [1, 0]],
  [Op.SETITEM, [2, 0]],
  [Op.BUILD, [1, 0]],
  [Op.BINPERSID, [1, 1]],
  [Op.POP, [1, 0]],
]);

/** Bytes of arguments that say nothing here. */
const skipped = new Map<number, number>([
  [Op.BININT, 4],
  [Op.BININT1, 1],
  [Op.BININT2, 2],
  [Op.BINFLOAT, 8],
]);

class Surveyor {
  readonly globals = new Map<string, SurveyedGlobal>();
  readonly cursor: Cursor;
  private readonly stack: Item[] = [];
  private readonly marks: number[] = [];
  private readonly memo: Memo;
  private readonly budget = new MemoryBudget(memoryLimit);
  private highest = 0;
  private opStart = 0;

  constructor(bytes: Uint8Array) {
    this.cursor = new Cursor(bytes, undefined);
    this.memo = new Memo(recalledIndices(bytes));
  }

  run(): void {
    for (;;) {
      this.opStart = this.cursor.position;
      const op = this.cursor.uint8();
      if (op === Op.STOP) return;
      const known = this.text(op) || this.plain(op) || this.structure(op) || this.memoOp(op) || this.call(op);
      if (!known) throw this.cursor.error(`0x${op.toString(16)} is no opcode of a pickle`, undefined, this.opStart);
    }
  }

  /** Opcodes that push text. */
  private text(op: number): boolean {
    const { cursor } = this;
    switch (op) {
      case Op.BINUNICODE:
        return this.push(decoded(cursor.take(cursor.uint32())));
      case Op.BINSTRING:
        return this.push(decoded(cursor.take(cursor.uint32())));
      case Op.SHORT_BINUNICODE:
      case Op.SHORT_BINSTRING:
        return this.push(decoded(cursor.take(cursor.uint8())));
      case Op.BINUNICODE8:
        return this.push(decoded(cursor.take(cursor.uint64())));
      case Op.STRING: {
        const line = cursor.line();
        return this.push(decoded(decodeQuotedString(line) ?? line));
      }
      case Op.UNICODE: {
        const line = cursor.line();
        return this.push((decodeRawUnicodeEscape(line) ?? latin1(line)).slice(0, maxName));
      }
      default:
        return false;
    }
  }

  /** Opcodes that push what is neither text nor a name, or do nothing. */
  private plain(op: number): boolean {
    const { cursor } = this;
    switch (op) {
      case Op.INT:
      case Op.LONG:
      case Op.FLOAT:
      case Op.PERSID:
        cursor.line();
        return this.push(undefined);
      case Op.BININT:
      case Op.BININT1:
      case Op.BININT2:
      case Op.BINFLOAT:
        cursor.take(skipped.get(op)!);
        return this.push(undefined);
      case Op.SHORT_BINBYTES:
      case Op.LONG1:
        cursor.take(cursor.uint8());
        return this.push(undefined);
      case Op.BINBYTES:
      case Op.LONG4:
        cursor.take(cursor.uint32());
        return this.push(undefined);
      case Op.BINBYTES8:
      case Op.BYTEARRAY8:
        cursor.take(cursor.uint64());
        return this.push(undefined);
      case Op.NONE:
      case Op.NEWTRUE:
      case Op.NEWFALSE:
      case Op.EMPTY_TUPLE:
      case Op.EMPTY_LIST:
      case Op.EMPTY_DICT:
      case Op.EMPTY_SET:
      case Op.NEXT_BUFFER:
        return this.push(undefined);
      case Op.PROTO:
        cursor.uint8();
        return true;
      case Op.FRAME:
        cursor.uint64();
        return true;
      case Op.READONLY_BUFFER:
        return true;
      default:
        return false;
    }
  }

  /** Opcodes that join what is on the stack. */
  private structure(op: number): boolean {
    const effect = effects.get(op);
    if (effect !== undefined) {
      const [taken, left] = effect;
      // As in Python: directly after MARK, POP takes the mark.
      if (op === Op.POP && this.marks.at(-1) === this.stack.length) this.marks.pop();
      else for (let i = 0; i < taken; i++) this.stack.pop();
      return left === 1 ? this.push(undefined) : true;
    }
    switch (op) {
      case Op.MARK:
        this.spend(Cost.slot);
        this.marks.push(this.stack.length);
        return true;
      case Op.TUPLE:
      case Op.LIST:
      case Op.DICT:
      case Op.FROZENSET:
        this.popMark();
        return this.push(undefined);
      case Op.APPENDS:
      case Op.SETITEMS:
      case Op.ADDITEMS:
      case Op.POP_MARK:
        this.popMark();
        return true;
      case Op.DUP:
        return this.push(this.stack.at(-1));
      default:
        return false;
    }
  }

  private memoOp(op: number): boolean {
    const { cursor } = this;
    const put = (index: number): boolean => {
      this.spend(this.memo.costOf(index));
      this.memo.set(index, this.stack.at(-1));
      return true;
    };
    switch (op) {
      case Op.BINPUT:
        return put(cursor.uint8());
      case Op.LONG_BINPUT:
        return put(cursor.uint32());
      case Op.PUT:
        return put(Number(latin1(cursor.line())));
      case Op.MEMOIZE:
        return put(this.memo.size);
      case Op.BINGET:
        return this.push(this.memo.get(cursor.uint8()) as Item);
      case Op.LONG_BINGET:
        return this.push(this.memo.get(cursor.uint32()) as Item);
      case Op.GET:
        return this.push(this.memo.get(Number(latin1(cursor.line()))) as Item);
      default:
        return false;
    }
  }

  /** Opcodes that name things, and that call what is named. */
  private call(op: number): boolean {
    const { cursor } = this;
    switch (op) {
      case Op.GLOBAL: {
        const module = decoded(cursor.line());
        return this.push(this.named(module, decoded(cursor.line())));
      }
      case Op.STACK_GLOBAL: {
        const [name, module] = [this.stack.pop(), this.stack.pop()];
        return this.push(this.named(textOr(module), textOr(name)));
      }
      case Op.INST: {
        const module = decoded(cursor.line());
        const type = this.named(module, decoded(cursor.line()));
        this.popMark();
        return this.called(type);
      }
      case Op.OBJ:
        return this.called(this.popMark()[0]);
      case Op.EXT1:
        return this.push(this.named('copyreg', `extension ${cursor.uint8()}`));
      case Op.EXT2:
        return this.push(this.named('copyreg', `extension ${cursor.uint16()}`));
      case Op.EXT4:
        return this.push(this.named('copyreg', `extension ${cursor.uint32()}`));
      case Op.REDUCE:
      case Op.NEWOBJ:
        this.stack.pop();
        return this.called(this.stack.pop());
      case Op.NEWOBJ_EX:
        this.stack.splice(-2);
        return this.called(this.stack.pop());
      default:
        return false;
    }
  }

  private named(module: string, name: string): SurveyedGlobal {
    const id = JSON.stringify([module, name]);
    let found = this.globals.get(id);
    if (found === undefined) {
      found = { module, name, called: false, offset: this.opStart };
      this.spend(2 * Cost.object + Cost.entry + 3 * (Cost.string + id.length));
      this.globals.set(id, found);
    }
    return found;
  }

  private called(callee: Item): boolean {
    if (typeof callee === 'object') callee.called = true;
    return this.push(undefined);
  }

  private push(item: Item): true {
    if (typeof item === 'string') this.spend(Cost.string + item.length);
    if (this.stack.length >= this.highest) {
      this.highest++;
      this.spend(Cost.slot);
    }
    this.stack.push(item);
    return true;
  }

  private spend(bytes: number): void {
    if (!this.budget.take(bytes)) throw this.cursor.error(this.budget.message, CheckpointCode.limit, this.opStart);
  }

  private popMark(): Item[] {
    return this.stack.splice(this.marks.pop() ?? 0);
  }
}

function textOr(item: Item): string {
  return typeof item === 'string' ? item : computed;
}

const lenientUtf8 = new TextDecoder();

/** Text as well as it can be read. */
function decoded(bytes: Uint8Array): string {
  return lenientUtf8.decode(bytes.subarray(0, maxName));
}
