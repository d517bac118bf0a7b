/** As much of a browser as metrics.html needs: it runs the page's scripts, and tells what they drew. */
import vm from 'node:vm';

export interface Drawn {
  /** Figures in the page's main part: each with its caption and the texts on its canvas, which are the labels of its axes. */
  figures: { caption: string; texts: string[] }[];
  /** Points that lines were drawn to, by canvas path, longest first. */
  paths: number[];
}

class Path2D {
  points = 0;
  constructor() {
    paths.push(this);
  }
  moveTo(x: number, y: number): void {
    if (!Number.isFinite(x) || !Number.isFinite(y)) throw new Error(`a line to ${x}, ${y}`);
    this.points++;
  }
  lineTo = this.moveTo.bind(this);
  arc(): void {}
  rect(): void {}
  closePath(): void {}
}

let paths: Path2D[] = [];

/** The context of a canvas, which collects the texts that are drawn. */
function contextOf(texts: string[]): unknown {
  return new Proxy({} as Record<PropertyKey, unknown>, {
    get: (known, name) => {
      if (name === 'measureText') return (text: string) => ({ width: 7 * text.length });
      if (name === 'fillText') return (text: unknown) => texts.push(String(text));
      if (name === 'clearRect') return () => (texts.length = 0);
      return known[name] ?? (() => undefined);
    },
  });
}

class Element {
  children: unknown[] = [];
  /** Texts on the element, if it is a canvas. */
  readonly drawn: string[] = [];
  style = { setProperty: (): void => undefined };
  classList = { add: (): void => undefined, remove: (): void => undefined, contains: (): boolean => false };
  clientWidth = 900;
  get firstChild(): unknown {
    return this.children[0] ?? null;
  }
  get childNodes(): unknown[] {
    return this.children;
  }
  set textContent(text: string) {
    this.children = [{ nodeValue: text }];
  }
  appendChild(child: unknown): unknown {
    this.children.push(child);
    return child;
  }
  insertBefore = this.appendChild.bind(this);
  getContext(): unknown {
    return contextOf(this.drawn);
  }
  /** All that is drawn on the element and those in it. */
  get texts(): string[] {
    const within = this.children.filter((child) => child instanceof Element);
    return [...this.drawn, ...within.flatMap(({ texts }) => texts)];
  }
  getBoundingClientRect(): object {
    return { left: 0, top: 0, width: 900, height: 300 };
  }
  setAttribute(): void {}
  addEventListener(): void {}
  removeEventListener(): void {}
}

/** Runs a page, which has one main element, and waits until it has drawn. */
export async function drawPage(html: string): Promise<Drawn> {
  paths = [];
  const main = new Element();
  const listen = (): void => undefined;
  const page: Record<string, unknown> = {
    document: { createElement: () => new Element(), querySelector: () => main, body: new Element() },
    getComputedStyle: () => ({ getPropertyValue: () => '#000000' }),
    navigator: { language: 'en-US' },
    devicePixelRatio: 1,
    matchMedia: () => new Element(),
    addEventListener: listen,
    removeEventListener: listen,
    dispatchEvent: listen,
    CustomEvent: class {},
    HTMLElement: Element,
    Path2D,
    queueMicrotask,
  };
  page.window = page;
  vm.createContext(page);
  for (const [, script] of html.matchAll(/<script>([\s\S]*?)<\/script>/g)) vm.runInContext(script!, page);
  await new Promise(setImmediate);
  const points = paths.map((path) => path.points).sort((a, b) => b - a);
  const figures = (main.children as Element[]).map((figure) => {
    const [caption] = (figure.children[0] as Element).children as { nodeValue: string }[];
    return { caption: caption!.nodeValue, texts: figure.texts };
  });
  return { figures, paths: points };
}
