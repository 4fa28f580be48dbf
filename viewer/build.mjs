// Bundles the page into the Python package, where it is committed: users need no npm.
import { copyFile } from "node:fs/promises";
import { build } from "esbuild";

const out = "../src/cryoformer/explore/view/static";
await build({
  entryPoints: { viewer: "src/main.ts" },
  outdir: out,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "none",
});
await build({ entryPoints: { viewer: "src/viewer.css" }, outdir: out, minify: true });
await copyFile("src/index.html", `${out}/index.html`);
