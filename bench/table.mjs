// Prints the results as a Markdown table, ready for the README.

export function printTable(machine, results) {
  const rows = results.map((result) => [
    result.description,
    ...['Node', 'Node, no scope', 'Python eager', 'Python fused'].map((label) =>
      figure(result.sides[label], result.unit),
    ),
    ratio(result),
  ]);
  const header = ['', 'Node', 'Node, no scope', 'Python eager', 'Python fused', 'Node / Python'];
  console.log(
    `${machine.cpu}, ${machine.cpus} CPUs, ${machine.threads} threads, ${machine.platform}; ` +
      `Node ${machine.node}; Python ${machine.python}, torch ${machine.torch}; ` +
      `medians (of single calls, tenth percentiles) of ${machine.rounds} rounds\n`,
  );
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column].length)));
  const line = (cells) => `| ${cells.map((cell, column) => cell.padEnd(widths[column])).join(' | ')} |`;
  console.log(line(header));
  console.log(line(widths.map((width) => '-'.repeat(width))));
  for (const row of rows) console.log(line(row));
  console.log('\nNode / Python: time of Node by time of the faster Python; below 1, Node is faster.');
}

/** Time of Node by time of the faster Python. */
export function ratio({ sides, higherIsBetter }) {
  const python = ['Python eager', 'Python fused'].map((label) => sides[label]).filter((value) => value !== undefined);
  const value = higherIsBetter ? Math.max(...python) / sides.Node : sides.Node / Math.min(...python);
  return value.toFixed(2);
}

function figure(value, unit) {
  if (value === undefined) return '';
  return `${value >= 100 ? value.toFixed(0) : value.toPrecision(3)} ${unit}`;
}
