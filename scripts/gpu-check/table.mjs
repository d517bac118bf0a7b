// The table that the check closes with.

const COLUMNS = ['section', 'check', '', 'measured', 'allowed', 'note'];
const MARKS = new Map([
  [true, 'ok'],
  [false, 'FAILED'],
  [null, '-'],
]);

/** A row's `ok`: true and false for a check, null for a figure that has no limit. */
export function printTable(report) {
  const { machine, rows, device, seconds } = report;
  const lines = rows.map(({ section, name, ok, measured = '', allowed = '', note = '' }) =>
    [section, name, MARKS.get(ok) ?? '-', measured, allowed, firstLine(note)].map(String),
  );
  const widths = COLUMNS.map((title, i) => Math.max(title.length, ...lines.map((line) => line[i].length)));
  const write = (line) =>
    process.stdout.write(
      `${line
        .map((text, i) => text.padEnd(widths[i]))
        .join('  ')
        .trimEnd()}\n`,
    );
  process.stdout.write('\n');
  if (machine !== undefined) process.stdout.write(`${describe(machine, device)}\n\n`);
  write(COLUMNS);
  write(widths.map((width) => '-'.repeat(width)));
  lines.forEach(write);
  for (const { section, name, note = '', ok } of rows) {
    if (ok === false && note.includes('\n')) process.stdout.write(`\n${section}, ${name}:\n${note}\n`);
  }
  const { passed, failed, figures } = summaryOf(report);
  process.stdout.write(`\n${passed} passed, ${failed} failed, ${figures} figures, ${seconds.toFixed(0)} s\n`);
  if (device === 'cpu') process.stdout.write('This was a rehearsal on the CPU: it says nothing of a GPU.\n');
}

export function summaryOf({ rows }) {
  const count = (value) => rows.filter(({ ok }) => ok === value).length;
  return { passed: count(true), failed: count(false), figures: count(null) };
}

function describe(machine, device) {
  const { gpu, cpu, cores, node, python, torch, cuda } = machine;
  return `${device}: ${gpu ?? 'no GPU'}, ${cpu} (${cores} cores), Node ${node}, Python ${python}, PyTorch ${torch}, CUDA ${cuda}`;
}

function firstLine(text) {
  const line = String(text).split('\n')[0];
  return line.length > 160 ? `${line.slice(0, 157)}...` : line;
}
