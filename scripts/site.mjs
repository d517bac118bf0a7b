#!/usr/bin/env node
// npm run site: the documentation as a static site with search, in site/ or the folder given. It fails on an undocumented
// export, on what the generator warns of, and on links that lead nowhere.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { Application, Comment, LogLevel, ReflectionKind } from 'typedoc';
import { inRoot, main } from './steps.mjs';

main(async ([out = inRoot('site')]) => {
  const { exported, warnings } = await build(out);
  const pages = readPages(out);
  const problems = [
    ...warnings,
    ...exported.filter((one) => !isDocumented(one)).map((one) => `${one.getFullName()}: no doc comment`),
    ...brokenLinks(pages, out),
  ];
  for (const problem of problems) process.stderr.write(`${problem}\n`);
  process.stdout.write(`${pages.size} pages, ${exported.length} exports, ${problems.length} problems\n`);
  return problems.length === 0 ? 0 : 1;
});

async function build(out) {
  const app = await Application.bootstrap({ options: inRoot('typedoc.json') });
  const warnings = [];
  app.logger.log = (message, level) => {
    if (level >= LogLevel.Warn) warnings.push(message);
  };
  const project = await app.convert();
  if (project === undefined) throw new Error(`typedoc: ${warnings.join('\n')}`);
  app.validate(project);
  await app.generateDocs(project, out);
  const modules = project.getReflectionsByKind(ReflectionKind.SomeModule);
  return { warnings, exported: modules.flatMap((module) => module.children ?? []) };
}

/** Whether it, or the first form of a function, has text. A name that stands for another is documented there. */
function isDocumented(one) {
  if (one.kind === ReflectionKind.Reference) return true;
  const inner = one.type?.type === 'reflection' ? one.type.declaration.signatures : undefined;
  const comments = [one, ...(one.signatures ?? []), ...(inner ?? [])].map(({ comment }) => comment?.summary ?? []);
  return comments.some((summary) => Comment.combineDisplayParts(summary).trim() !== '');
}

function readPages(out) {
  const names = readdirSync(out, { recursive: true }).filter((name) => name.endsWith('.html'));
  return new Map(names.map((name) => [path.join(out, name), readFileSync(path.join(out, name), 'utf8')]));
}

function brokenLinks(pages, out) {
  const broken = new Set();
  for (const [file, html] of pages) {
    for (const [, href] of html.matchAll(/<a [^>]*?href="([^"]*)"/g)) {
      if (/^[a-z]+:/.test(href)) continue;
      const [target, hash] = href.split('#');
      const place = target === '' ? file : path.resolve(path.dirname(file), decodeURIComponent(target));
      const page = pages.get(place);
      const isThere = page === undefined ? existsSync(place) : !hash || page.includes(`id="${hash}"`);
      if (!isThere) broken.add(`${path.relative(out, file)}: the link ${href} leads nowhere`);
    }
  }
  return broken;
}
