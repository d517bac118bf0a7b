import { Cost, MemoryBudget } from './budget';
import { Cursor } from './cursor';
import { CheckpointCode, CheckpointError } from '../errors';
import { Memo, recalledIndices, sliceOfOpcodes } from './memo';
import { Op } from './opcodes';
import { type Item, nameIndex, nameItem, other, SurveyStack, textItem, textOffset } from './survey-stack';
import { decodeQuotedString, decodeRawUnicodeEscape } from './text';

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

/** For names and the memo; the stack has its own bound. */
const memoryLimit = 8 * 2 ** 20;

/** Text is read up to this length: no name of Python is longer. */
const maxName = 1000;

/**
 * Names all that a pickle names, whatever it means to do with it: it is followed opcode by opcode, with the places of
 * strings and names alone on the stack. So what no reader would accept, and what comes before the place at which one stops,
 * is named too. Nothing is made and nothing is called; memory is bounded. Yields between slices of the work.
 */
export function* surveyPickle(bytes: Uint8Array): Generator<void, PickleSurvey, void> {
  const surveyor = new Surveyor(bytes);
  let problem: CheckpointError | undefined;
  try {
    yield* surveyor.run();
  } catch (error) {
    if (!(error instanceof CheckpointError)) throw error;
    problem = error;
  }
  return { globals: surveyor.globals, end: surveyor.cursor.position, problem };
}

/** How many values an opcode takes off the stack, and whether it leaves one. */
const effects = new Map<number, readonly [taken: number, left: 0 | 1]>([
  [Op.TUPLE1, [1, 1]],
  [Op.TUPLE2, [2, 1]],
  [Op.TUPLE3, [3, 1]],
  [Op.APPEND, [1, 0]],
  [Op.SETITEM, [2, 0]],
  [Op.BUILD, [1, 0]],
  [Op.BINPERSID, [1, 1]],
  // As in Python: directly after MARK, POP takes the mark.
  [Op.POP, [1, 0]],
]);

class Surveyor {
  readonly globals: SurveyedGlobal[] = [];
  readonly cursor: Cursor;
  private readonly indices = new Map<string, number>();
  private readonly lines = new Map<string, Item>();
  private readonly stack: SurveyStack;
  private memo!: Memo<Item>;
  private readonly budget = new MemoryBudget(memoryLimit);
  private opStart = 0;

  constructor(bytes: Uint8Array) {
    this.cursor = new Cursor(bytes, undefined);
    this.stack = new SurveyStack(bytes.length);
  }

  *run(): Generator<void, void, void> {
    this.memo = new Memo(yield* recalledIndices(this.cursor.bytes));
    for (let opcodes = 1; ; opcodes++) {
      if (opcodes % sliceOfOpcodes === 0) yield;
      this.opStart = this.cursor.position;
      const op = this.cursor.uint8();
      if (op === Op.STOP) return;
      const known = this.memoOp(op) || this.text(op) || this.plain(op) || this.structure(op) || this.call(op);
      if (!known) throw this.cursor.error(`0x${op.toString(16)} is not an opcode of a pickle`, undefined, this.opStart);
    }
  }

  /** Opcodes that push text, which is read where it is used as a name. */
  private text(op: number): boolean {
    const { cursor } = this;
    switch (op) {
      case Op.BINUNICODE:
      case Op.BINSTRING:
        cursor.skip(cursor.uint32());
        break;
      case Op.SHORT_BINUNICODE:
      case Op.SHORT_BINSTRING:
        cursor.skip(cursor.uint8());
        break;
      case Op.BINUNICODE8:
        cursor.skip(cursor.uint64());
        break;
      case Op.STRING:
      case Op.UNICODE:
        this.skipLine();
        break;
      default:
        return false;
    }
    return this.push(textItem(this.opStart));
  }

  /** The text that the opcode at an offset pushes. */
  private textAt(offset: number): string {
    const { cursor } = this;
    const { position } = cursor;
    cursor.position = offset;
    const text = this.readText(cursor.uint8());
    cursor.position = position;
    return text;
  }

  private readText(op: number): string {
    const { cursor } = this;
    switch (op) {
      case Op.BINUNICODE:
      case Op.BINSTRING:
        return this.lenient(cursor.uint32());
      case Op.BINUNICODE8:
        return this.lenient(cursor.uint64());
      case Op.STRING: {
        const line = cursor.line();
        const bytes = decodeQuotedString(line);
        return bytes === undefined ? line.slice(0, maxName) : Buffer.from(bytes).toString('utf8', 0, maxName);
      }
      case Op.UNICODE: {
        const line = cursor.line();
        return (decodeRawUnicodeEscape(line) ?? line).slice(0, maxName);
      }
      default:
        return this.lenient(cursor.uint8());
    }
  }

  /** Text as well as it can be read. */
  private lenient(length: number): string {
    const { bytes, position } = this.cursor;
    this.cursor.skip(length);
    return bytes.toString('utf8', position, position + Math.min(length, maxName));
  }

  private line(): string {
    const text = this.lenient(this.cursor.lineLength());
    this.cursor.skip(1);
    return text;
  }

  private skipLine(): void {
    this.cursor.skip(this.cursor.lineLength() + 1);
  }

  /** Opcodes that push what is neither text nor a name, or do nothing. */
  private plain(op: number): boolean {
    const { cursor } = this;
    switch (op) {
      case Op.INT:
      case Op.LONG:
      case Op.FLOAT:
      case Op.PERSID:
        this.skipLine();
        break;
      case Op.BININT:
        cursor.skip(4);
        break;
      case Op.BININT1:
        cursor.skip(1);
        break;
      case Op.BININT2:
        cursor.skip(2);
        break;
      case Op.BINFLOAT:
        cursor.skip(8);
        break;
      case Op.SHORT_BINBYTES:
      case Op.LONG1:
        cursor.skip(cursor.uint8());
        break;
      case Op.BINBYTES:
      case Op.LONG4:
        cursor.skip(cursor.uint32());
        break;
      case Op.BINBYTES8:
      case Op.BYTEARRAY8:
        cursor.skip(cursor.uint64());
        break;
      case Op.NONE:
      case Op.NEWTRUE:
      case Op.NEWFALSE:
      case Op.EMPTY_TUPLE:
      case Op.EMPTY_LIST:
      case Op.EMPTY_DICT:
      case Op.EMPTY_SET:
      case Op.NEXT_BUFFER:
        break;
      case Op.PROTO:
        cursor.skip(1);
        return true;
      case Op.FRAME:
        cursor.skip(8);
        return true;
      case Op.READONLY_BUFFER:
        return true;
      default:
        return false;
    }
    return this.push(other);
  }

  /** Opcodes that join what is on the stack. */
  private structure(op: number): boolean {
    const effect = effects.get(op);
    if (effect !== undefined) {
      const [taken, left] = effect;
      for (let i = 0; i < taken; i++) this.stack.pop();
      return left === 1 ? this.push(other) : true;
    }
    switch (op) {
      case Op.MARK:
        return this.roomFor(this.stack.pushMark());
      case Op.TUPLE:
      case Op.LIST:
      case Op.DICT:
      case Op.FROZENSET:
        this.stack.popMark();
        return this.push(other);
      case Op.APPENDS:
      case Op.SETITEMS:
      case Op.ADDITEMS:
      case Op.POP_MARK:
        this.stack.popMark();
        return true;
      case Op.DUP:
        return this.push(this.stack.top());
      default:
        return false;
    }
  }

  private memoOp(op: number): boolean {
    const { cursor } = this;
    switch (op) {
      case Op.BINPUT:
        return this.put(cursor.uint8());
      case Op.LONG_BINPUT:
        return this.put(cursor.uint32());
      case Op.PUT:
        return this.put(Number(cursor.line()));
      case Op.MEMOIZE:
        return this.put(this.memo.size);
      case Op.BINGET:
        return this.get(cursor.uint8());
      case Op.LONG_BINGET:
        return this.get(cursor.uint32());
      case Op.GET:
        return this.get(Number(cursor.line()));
      default:
        return false;
    }
  }

  /** Opcodes that name things, and that call what is named. */
  private call(op: number): boolean {
    const { cursor, stack } = this;
    switch (op) {
      case Op.GLOBAL:
        return this.push(this.twoLines());
      case Op.STACK_GLOBAL: {
        const [name, module] = [stack.pop(), stack.pop()];
        return this.push(this.named(this.textOr(module), this.textOr(name)));
      }
      case Op.INST: {
        const module = this.line();
        const type = this.named(module, this.line());
        stack.popMark();
        return this.called(type);
      }
      case Op.OBJ:
        return this.called(stack.popMark());
      case Op.EXT1:
        return this.push(this.named('copyreg', `extension ${cursor.uint8()}`));
      case Op.EXT2:
        return this.push(this.named('copyreg', `extension ${cursor.uint16()}`));
      case Op.EXT4:
        return this.push(this.named('copyreg', `extension ${cursor.uint32()}`));
      case Op.REDUCE:
      case Op.NEWOBJ:
        stack.pop();
        return this.called(stack.pop());
      case Op.NEWOBJ_EX:
        stack.pop();
        stack.pop();
        return this.called(stack.pop());
      default:
        return false;
    }
  }

  private put(index: number): true {
    this.memo.put(index, this.stack.top(), this.spend);
    return true;
  }

  private get(index: number): true {
    return this.push(this.memo.get(index) ?? other);
  }

  /** What two lines name. Pickles of protocol 2 repeat the same few, which are known by their bytes. */
  private twoLines(): Item {
    const { cursor } = this;
    const start = cursor.position;
    this.skipLine();
    this.skipLine();
    const end = cursor.position;
    const raw = end - start > maxName ? undefined : cursor.bytes.toString('latin1', start, end);
    const known = raw === undefined ? undefined : this.lines.get(raw);
    if (known !== undefined) return known;
    cursor.position = start;
    const module = this.line();
    const item = this.named(module, this.line());
    if (raw !== undefined) {
      this.spend(Cost.entry + Cost.string + raw.length);
      this.lines.set(raw, item);
    }
    return item;
  }

  private textOr(item: Item): string {
    const offset = textOffset(item);
    return offset === undefined ? computed : this.textAt(offset);
  }

  private named(module: string, name: string): Item {
    const id = `${module.length} ${module}${name}`;
    let index = this.indices.get(id);
    if (index === undefined) {
      index = this.globals.length;
      this.spend(2 * Cost.object + Cost.entry + 3 * (Cost.string + id.length));
      this.globals.push({ module, name, called: false, offset: this.opStart });
      this.indices.set(id, index);
    }
    return nameItem(index);
  }

  private called(callee: Item): true {
    const index = nameIndex(callee);
    if (index !== undefined) this.globals[index]!.called = true;
    return this.push(other);
  }

  private push(item: Item): true {
    return this.roomFor(this.stack.push(item));
  }

  private roomFor(had: boolean): true {
    if (had) return true;
    const message = 'the pickle puts more on its stack than is followed';
    throw this.cursor.error(message, CheckpointCode.limit, this.opStart);
  }

  private readonly spend = (bytes: number): void => {
    if (!this.budget.take(bytes)) throw this.cursor.error(this.budget.message, CheckpointCode.limit, this.opStart);
  };
}
