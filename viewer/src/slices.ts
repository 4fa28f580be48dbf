// Planes through the density: grey values, the surface's outline, and the difference from A where that is shown.

import { blend, type RGB } from "./colours";
import { find, greyPicture } from "./page";
import type { Message } from "./wire";

const CHANGE: RGB[] = [
  [213, 94, 0],
  [240, 185, 140],
  [247, 247, 247],
  [130, 180, 214],
  [0, 114, 178],
];

// One canvas per axis; sizes and captions stay, so that sliders keep their place.
export function showSlices(message: Message, level: number, highest: number, change: number): void {
  const difference = message.header.difference as boolean;
  for (const axis of ["x", "y", "z"]) {
    const canvas = find<HTMLCanvasElement>(`slice-${axis}`);
    const [height, width] = message.shapes[axis];
    const plane = upwards(message.arrays[axis] as Float32Array, height, width);
    const picture = difference
      ? greyPicture(plane, height, width, -3 * change, 3 * change, canvas.width, (shade) => blend(CHANGE, shade))
      : greyPicture(plane, height, width, Math.min(0, -0.1 * highest), 0.8 * highest, canvas.width);
    const context = canvas.getContext("2d")!;
    context.drawImage(picture, 0, 0);
    if (!difference) outline(context, plane, height, width, level, canvas.width / width, "#e69f00");
  }
  find("slice-note").textContent = difference
    ? "Difference from A on planes across x, y and z (z, or y, points up): blue gained, orange lost."
    : "Density on planes across x, y and z (z, or y, points up); the line is the threshold.";
}

// Pictures begin at the top; z (or y) should point up.
function upwards(plane: Float32Array, height: number, width: number): Float32Array {
  const turned = new Float32Array(plane.length);
  for (let row = 0; row < height; row++)
    turned.set(plane.subarray(row * width, (row + 1) * width), (height - 1 - row) * width);
  return turned;
}

// Marching squares: one line through every cell that the level crosses.
function outline(
  context: CanvasRenderingContext2D,
  values: Float32Array,
  height: number,
  width: number,
  level: number,
  scale: number,
  colour: string,
): void {
  context.strokeStyle = colour;
  context.lineWidth = 1.2;
  context.beginPath();
  for (let row = 0; row + 1 < height; row++)
    for (let column = 0; column + 1 < width; column++) {
      const corner = (dx: number, dy: number) => values[(row + dy) * width + column + dx] - level;
      const crossings: [number, number][] = [];
      for (const [ax, ay, bx, by] of [[0, 0, 1, 0], [1, 0, 1, 1], [1, 1, 0, 1], [0, 1, 0, 0]]) {
        const [a, b] = [corner(ax, ay), corner(bx, by)];
        if (a > 0 === b > 0) continue;
        const part = a / (a - b);
        crossings.push([column + ax + part * (bx - ax), row + ay + part * (by - ay)]);
      }
      for (let i = 0; i + 1 < crossings.length; i += 2) {
        context.moveTo((crossings[i][0] + 0.5) * scale, (crossings[i][1] + 0.5) * scale);
        context.lineTo((crossings[i + 1][0] + 0.5) * scale, (crossings[i + 1][1] + 0.5) * scale);
      }
    }
  context.stroke();
}
