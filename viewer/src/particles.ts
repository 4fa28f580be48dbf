// Raw particles of the selection beside what the decoded density predicts.

import { api } from "./api";
import { showDirections } from "./directions";
import { complain, find, greyPicture, make, thousands } from "./page";
import type { State } from "./state";

const SHOWN = 12;
const AVERAGED = 2000;
const SMALL = 88;
const LARGE = 104;

// Particles asked for: evenly spread over the selection, more than are shown because of the average.
const sample = (rows: Int32Array): number[] => {
  const step = Math.max(1, rows.length / AVERAGED);
  return Array.from({ length: Math.min(rows.length, AVERAGED) }, (_, i) => rows[Math.floor(i * step)]);
};

export async function showParticles(rows: Int32Array, state: State): Promise<void> {
  const note = find("particles-note");
  const pictures = find("particle-pictures");
  find<HTMLButtonElement>("particles-refresh").disabled = !rows.length;
  if (!rows.length) {
    note.textContent = "Select particles to see their images.";
    pictures.replaceChildren();
    find("directions").replaceChildren();
    return;
  }
  note.textContent = "Reading images …";
  try {
    const { header, arrays, shapes } = await api.particles(sample(rows), state);
    const [, height, width] = shapes.raw;
    const picture = (values: Float32Array, size: number) => {
      const [low, high] = range(values);
      return greyPicture(values, height, width, low, high, size);
    };
    const shown: number[] = header.rows.slice(0, SHOWN);
    const strip = (title: string, name: string) => {
      const pixels = arrays[name] as Float32Array;
      const pieces = shown.map((row, i) => {
        const canvas = picture(pixels.subarray(i * height * width, (i + 1) * height * width), SMALL);
        canvas.title = `particle ${row}`;
        return canvas;
      });
      return make("div", { className: "strip" }, make("span", { textContent: title }), make("div", {}, ...pieces));
    };
    const average = (name: string, caption: string) =>
      make("figure", {}, picture(arrays[name] as Float32Array, LARGE), make("figcaption", { textContent: caption }));
    pictures.replaceChildren(
      make(
        "div",
        { className: "averages" },
        average("average", `average of ${header.used}`),
        average("projection", `density, r = ${header.correlation.toFixed(2)}`),
      ),
      make(
        "div",
        { className: "strips" },
        strip("raw image", "raw"),
        strip("density, with CTF", "with_ctf"),
        strip("density, no CTF", "clean"),
      ),
    );
    await showDirections(rows);
    note.textContent =
      `${thousands(rows.length)} selected; ${shown.length} shown. ` +
      `Average: ${header.used} seen within 15° of particle ${header.reference}, CTF corrected.`;
  } catch (error) {
    note.textContent = "";
    complain(error);
  }
}

// Grey values without the few brightest and darkest pixels.
function range(values: Float32Array): [number, number] {
  const sorted = Float32Array.from(values).sort();
  return [sorted[Math.floor(0.003 * sorted.length)], sorted[Math.floor(0.997 * (sorted.length - 1))]];
}
