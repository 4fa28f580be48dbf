// Bundles scripts and styles into the Python package, beside index.html; they are committed: users need no npm.
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
