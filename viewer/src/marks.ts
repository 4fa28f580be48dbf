// What lies on top of the landscape: axes, trajectory, cursor and the pinned state.

import { INSET, type Plane, type Point } from "./plane";

export function drawLine(plane: Plane, context: CanvasRenderingContext2D, points: Point[], colour: string, dash: number[]): void {
  context.beginPath();
  for (const point of points) context.lineTo(...plane.toScreen(point));
  context.setLineDash(dash);
  context.strokeStyle = colour;
  context.lineWidth = 1.5;
  context.stroke();
  context.setLineDash([]);
}

export function drawMark(plane: Plane, context: CanvasRenderingContext2D, place: Point, colour: string, label: string): void {
  const [x, y] = plane.toScreen(place);
  context.beginPath();
  context.arc(x, y, 9, 0, 7);
  context.fillStyle = colour;
  context.fill();
  context.fillStyle = "#ffffff";
  if (colour === "#f0e442") context.fillStyle = "#11181d";
  context.font = "600 11px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(label, x, y + 0.5);
}

// A numbered square, as in the report's landscape.
export function drawState(plane: Plane, context: CanvasRenderingContext2D, place: Point, label: string, ink: string, ground: string): void {
  const [x, y] = plane.toScreen(place);
  context.fillStyle = ground;
  context.strokeStyle = ink;
  context.lineWidth = 1;
  context.globalAlpha = 0.85;
  context.fillRect(x - 7.5, y - 7.5, 15, 15);
  context.globalAlpha = 1;
  context.strokeRect(x - 7.5, y - 7.5, 15, 15);
  context.fillStyle = ink;
  context.font = "10px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(label, x, y + 0.5);
}

export function drawCursor(plane: Plane, context: CanvasRenderingContext2D, place: Point, colour: string, halo: string): void {
  const [x, y] = plane.toScreen(place);
  for (const [style, width] of [
    [halo, 5],
    [colour, 2],
  ] as const) {
    context.strokeStyle = style;
    context.lineWidth = width;
    context.beginPath();
    context.arc(x, y, 8, 0, 7);
    for (const [dx, dy] of [
      [1, 0],
      [-1, 0],
      [0, 1],
      [0, -1],
    ]) {
      context.moveTo(x + 8 * dx, y + 8 * dy);
      context.lineTo(x + 14 * dx, y + 14 * dy);
    }
    context.stroke();
  }
}

export function drawAxes(
  plane: Plane,
  context: CanvasRenderingContext2D,
  titles: [string, string],
  faint: string,
  ink: string,
): void {
  const { width, height } = plane.size();
  const visible = plane.visible();
  context.strokeStyle = faint;
  context.globalAlpha = 0.5;
  context.lineWidth = 1;
  context.strokeRect(
    INSET.left + 0.5,
    INSET.top + 0.5,
    width - INSET.left - INSET.right - 1,
    height - INSET.top - INSET.bottom - 1,
  );
  context.globalAlpha = 1;
  context.fillStyle = faint;
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "top";
  for (const tick of ticks(visible.left, visible.right, width / 90))
    context.fillText(label(tick), plane.toScreen([tick, 0])[0], height - INSET.bottom + 5);
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const tick of ticks(visible.low, visible.high, height / 80))
    context.fillText(label(tick), INSET.left - 6, plane.toScreen([0, tick])[1]);
  context.fillStyle = ink;
  context.font = "12px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "bottom";
  context.fillText(titles[0], (INSET.left + width) / 2, height - 2);
  context.save();
  context.translate(11, (height - INSET.bottom) / 2);
  context.rotate(-Math.PI / 2);
  context.textBaseline = "middle";
  context.fillText(titles[1], 0, 0);
  context.restore();
}

function ticks(low: number, high: number, wanted: number): number[] {
  const rough = (high - low) / Math.max(2, wanted);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) found.push(k * step);
  return found;
}

const label = (value: number): string => String(Number(value.toPrecision(4)) || 0).replace("-", "−");
