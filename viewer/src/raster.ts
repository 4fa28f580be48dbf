// Density of particles on the visible part of a map, as a picture; and particles one by one as discs.

import { blend, type RGB } from "./colours";

export interface Window2D {
  left: number;
  right: number;
  low: number;
  high: number;
}

const CELLS = 320;
const MARGIN = 0.4;

export interface Raster extends Window2D {
  canvas: HTMLCanvasElement;
}

// Counts on a grid somewhat larger than the window (so that panning needs no new one), smoothed, as log density.
export function densityRaster(
  coordinates: Float32Array,
  mask: Uint8Array | null,
  window: Window2D,
  colours: RGB[],
  smoothing = 2,
): Raster {
  const [w, h] = [window.right - window.left, window.high - window.low];
  const area = {
    left: window.left - MARGIN * w,
    right: window.right + MARGIN * w,
    low: window.low - MARGIN * h,
    high: window.high + MARGIN * h,
  };
  const counts = new Float32Array(CELLS * CELLS);
  const perX = CELLS / (area.right - area.left);
  const perY = CELLS / (area.high - area.low);
  const count = coordinates.length / 2;
  for (let i = 0; i < count; i++) {
    if (mask && !mask[i]) continue;
    const column = Math.floor((coordinates[2 * i] - area.left) * perX);
    const row = Math.floor((area.high - coordinates[2 * i + 1]) * perY);
    if (column >= 0 && column < CELLS && row >= 0 && row < CELLS) counts[row * CELLS + column]++;
  }
  for (let pass = 0; pass < smoothing; pass++) smooth(counts);
  return { ...area, canvas: paint(counts, colours) };
}

function smooth(grid: Float32Array): void {
  const line = new Float32Array(CELLS);
  for (const [step, next] of [
    [1, CELLS],
    [CELLS, 1],
  ]) {
    for (let start = 0; start < CELLS; start++) {
      const first = start * next;
      for (let i = 0; i < CELLS; i++) {
        const at = (k: number) => grid[first + Math.min(CELLS - 1, Math.max(0, k)) * step];
        line[i] = (at(i - 2) + 4 * at(i - 1) + 6 * at(i) + 4 * at(i + 1) + at(i + 2)) / 16;
      }
      for (let i = 0; i < CELLS; i++) grid[first + i * step] = line[i];
    }
  }
}

function paint(grid: Float32Array, colours: RGB[]): HTMLCanvasElement {
  let most = 0;
  for (const value of grid) if (value > most) most = value;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = CELLS;
  const context = canvas.getContext("2d")!;
  const picture = context.createImageData(CELLS, CELLS);
  const palette = Array.from({ length: 256 }, (_, i) => blend(colours, i / 255));
  // Half a particle per cell is where density begins to show; below, it fades out.
  const [floor, range] = [Math.log(0.02), Math.log(Math.max(most, 1)) - Math.log(0.02)];
  for (let i = 0; i < grid.length; i++) {
    if (grid[i] < 0.02) continue;
    const level = (Math.log(grid[i]) - floor) / range;
    const [r, g, b] = palette[Math.min(255, Math.round(255 * level))];
    picture.data.set([r, g, b, 255 * Math.min(1, grid[i] / 0.15)], 4 * i);
  }
  context.putImageData(picture, 0, 0);
  return canvas;
}

// Discs drawn by hand into one picture: tens of thousands in a few milliseconds.
export class Stamps {
  private picture: ImageData;
  private disc: { dx: number; dy: number; alpha: number }[] = [];

  constructor(width: number, height: number, radius: number) {
    this.picture = new ImageData(width, height);
    const reach = Math.ceil(radius);
    for (let dy = -reach; dy <= reach; dy++)
      for (let dx = -reach; dx <= reach; dx++) {
        const alpha = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(dx, dy)));
        if (alpha > 0) this.disc.push({ dx, dy, alpha });
      }
  }

  add(x: number, y: number, [r, g, b]: RGB, opacity: number): void {
    const { width, height, data } = this.picture;
    const [column, row] = [Math.round(x), Math.round(y)];
    for (const { dx, dy, alpha } of this.disc) {
      const [px, py] = [column + dx, row + dy];
      if (px < 0 || py < 0 || px >= width || py >= height) continue;
      const at = 4 * (py * width + px);
      const over = alpha * opacity;
      const under = (data[at + 3] / 255) * (1 - over);
      const total = over + under;
      data[at] = (r * over + data[at] * under) / total;
      data[at + 1] = (g * over + data[at + 1] * under) / total;
      data[at + 2] = (b * over + data[at + 2] * under) / total;
      data[at + 3] = 255 * total;
    }
  }

  canvas(): HTMLCanvasElement {
    const canvas = document.createElement("canvas");
    canvas.width = this.picture.width;
    canvas.height = this.picture.height;
    canvas.getContext("2d")!.putImageData(this.picture, 0, 0);
    return canvas;
  }
}
