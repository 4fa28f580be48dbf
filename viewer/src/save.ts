// What is shown, to take away: the picture with scale bar and legend, and the maps as MRC.

import { api } from "./api";
import { find, make, notice } from "./page";
import type { State, View } from "./state";
import type { SurfaceView } from "./surface";

function download(content: Blob, name: string): void {
  const link = make("a", { href: URL.createObjectURL(content), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 5000);
}

export const stateName = (state: State): string =>
  "particle" in state
    ? `particle_${String(state.particle).padStart(6, "0")}`
    : "path" in state
      ? `${state.path}_${Math.round(100 * state.place)}`
      : `${state.map}_${state.at.map((value) => value.toFixed(2)).join("_")}`;

// The state shown; with two of them both, and their difference.
export async function saveMaps(view: View, run: string): Promise<void> {
  const { state, pinned, mode } = view;
  const files: [string, State, State | null][] = [[stateName(state), state, null]];
  if (pinned && mode !== "single") {
    files.push([`A_${stateName(pinned)}`, pinned, null]);
    files.push([`${stateName(state)}_minus_A_${stateName(pinned)}`, state, pinned]);
  }
  for (const [name, of, minus] of files) download(await api.volume(of, minus), `${run}_${name}.mrc`);
  notice(files.length > 1 ? "Both states and their difference are among your downloads." : "The map is among your downloads.");
}

export async function savePicture(surface: SurfaceView, run: string): Promise<void> {
  const drawn = surface.drawing();
  const canvas = make("canvas", { width: drawn.canvas.width, height: drawn.canvas.height });
  const context = canvas.getContext("2d")!;
  context.drawImage(drawn.canvas, 0, 0);
  const unit = canvas.width / drawn.canvas.clientWidth;
  const style = getComputedStyle(document.body);
  context.fillStyle = context.strokeStyle = style.color;
  context.font = `${Math.round(13 * unit)}px system-ui, sans-serif`;
  drawScaleBar(context, canvas, drawn.pixelsPerAngstrom, unit);
  drawLegends(context, canvas, unit);
  const blob = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve));
  if (!blob) return;
  download(blob, `${run}.png`);
  notice("The picture is among your downloads.");
}

function drawScaleBar(context: CanvasRenderingContext2D, canvas: HTMLCanvasElement, perAngstrom: number, unit: number): void {
  // A round length of about a sixth of the picture.
  const wanted = canvas.width / 6 / perAngstrom;
  const power = 10 ** Math.floor(Math.log10(wanted));
  const length = power * ([5, 2, 1].find((factor) => factor * power <= wanted) ?? 1);
  const [right, bottom] = [canvas.width - 16 * unit, canvas.height - 16 * unit];
  context.fillRect(right - length * perAngstrom, bottom - 4 * unit, length * perAngstrom, 4 * unit);
  context.textAlign = "center";
  context.textBaseline = "bottom";
  context.fillText(`${length} Å`, right - (length * perAngstrom) / 2, bottom - 8 * unit);
}

// As they stand on the page.
function drawLegends(context: CanvasRenderingContext2D, canvas: HTMLCanvasElement, unit: number): void {
  const [left, bottom, ink] = [14 * unit, canvas.height - 16 * unit, context.fillStyle];
  context.textAlign = "left";
  if (!find("legend").hidden) {
    const text = (id: string) => find(id).textContent ?? "";
    const width = 190 * unit;
    const stops = getComputedStyle(find("legend-bar")).backgroundImage.match(/rgb\([^)]*\)/g) ?? [];
    const bar = context.createLinearGradient(left, 0, left + width, 0);
    stops.forEach((stop, i) => bar.addColorStop(i / Math.max(1, stops.length - 1), stop));
    context.fillText(text("legend-low"), left, bottom);
    context.textAlign = "right";
    context.fillText(text("legend-high"), left + width, bottom);
    context.textAlign = "left";
    context.fillText(text("legend-title"), left, bottom - 32 * unit);
    context.fillStyle = bar;
    context.fillRect(left, bottom - 29 * unit, width, 10 * unit);
  }
  context.fillStyle = ink;
  if (!find("change-legend").hidden) {
    [["#0072b2", "gained since A"], ["#d55e00", "lost since A"]].forEach(([colour, text], i) => {
      context.fillStyle = colour;
      context.fillRect(left, bottom - (32 - 20 * i) * unit, 12 * unit, 12 * unit);
      context.fillStyle = ink;
      context.fillText(text, left + 18 * unit, bottom - (18 - 20 * i) * unit);
    });
  }
  context.textBaseline = "top";
  if (!find("tag-a").hidden) {
    context.fillText("A", left, 12 * unit);
    context.fillText("B", canvas.width / 2 + left, 12 * unit);
  }
}
