/* global document, innerWidth, CanvasRenderingContext2D -- of the page, in which these functions run */
/** In the page: notes the place of each text on a canvas. */
export function recordTexts() {
  const { fillText, clearRect } = CanvasRenderingContext2D.prototype;
  CanvasRenderingContext2D.prototype.clearRect = function (...args) {
    this.canvas.texts = [];
    return clearRect.apply(this, args);
  };
  CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
    const {
      actualBoundingBoxLeft: left,
      actualBoundingBoxRight: right,
      actualBoundingBoxAscent: up,
      actualBoundingBoxDescent: down,
    } = this.measureText(text);
    const matrix = this.getTransform();
    const corners = [
      [x - left, y - up],
      [x + right, y + down],
    ].map(([a, b]) => matrix.transformPoint({ x: a, y: b }));
    const [a, b] = corners;
    this.canvas.texts ??= [];
    this.canvas.texts.push({
      text,
      x,
      y,
      left: Math.min(a.x, b.x),
      right: Math.max(a.x, b.x),
      top: Math.min(a.y, b.y),
      bottom: Math.max(a.y, b.y),
    });
    return fillText.call(this, text, x, y);
  };
}

/** In the page: labels that are cut off, cover one another or are equal; a page that is wider than the window. */
export function judge() {
  const problems = [];
  const units = { k: 1e3, M: 1e6, B: 1e9 };
  const number = (label) => Number(label.replace(/[,kMB]/g, '')) * (units[label.at(-1)] ?? 1);
  const overflow = document.documentElement.scrollWidth - innerWidth;
  if (overflow > 0) problems.push(`the page is ${overflow} pixels wider than the window`);
  const canvases = [...document.querySelectorAll('canvas')];
  if (canvases.length !== document.querySelectorAll('figure').length) problems.push('a figure has no canvas');
  for (const canvas of canvases) {
    const title = canvas.closest('figure').querySelector('figcaption').textContent;
    const texts = (canvas.texts ?? []).filter(({ text }) => text.trim() !== '');
    if (!texts.some(({ text }) => text === 'step')) problems.push(`${title}: no label of the x axis`);
    if (texts.length < 4) problems.push(`${title}: only the labels ${texts.map(({ text }) => text).join(' ')}`);
    for (const [axis, along] of [
      ['x', 'y'],
      ['y', 'x'],
    ]) {
      const places = new Map();
      for (const { text, [axis]: at, [along]: line } of texts.filter(({ text }) => text !== 'step'))
        places.set(line, [...(places.get(line) ?? []), [at, number(text)]]);
      for (const ticks of [...places.values()].filter(({ length }) => length > 2)) {
        const slopes = ticks.slice(1).map(([at, value], i) => (value - ticks[i][1]) / (at - ticks[i][0]));
        const [least, most] = [Math.min(...slopes.map(Math.abs)), Math.max(...slopes.map(Math.abs))];
        // Places are rounded to pixels.
        if (!(least > 0.9 * most))
          problems.push(`${title}: the labels ${ticks.map(([, value]) => value)} are not evenly apart`);
      }
    }
    for (const [i, one] of texts.entries()) {
      const isCut = one.left < 0 || one.top < 0 || one.right > canvas.width || one.bottom > canvas.height;
      if (isCut) problems.push(`${title}: "${one.text}" is cut off`);
      for (const other of texts.slice(i + 1)) {
        const isApart =
          one.right < other.left || other.right < one.left || one.bottom < other.top || other.bottom < one.top;
        if (!isApart) problems.push(`${title}: "${one.text}" and "${other.text}" cover one another`);
        const isSameAxis = Math.abs(one.right - other.right) < 1 || Math.abs(one.bottom - other.bottom) < 1;
        if (isSameAxis && one.text === other.text) problems.push(`${title}: two ticks are labelled "${one.text}"`);
      }
    }
  }
  return problems;
}
