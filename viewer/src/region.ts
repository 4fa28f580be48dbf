// Particles inside outlines drawn on a map.

import type { Region } from "./state";

type Polygon = [number, number][];

export function inside(polygon: Polygon, x: number, y: number): boolean {
  let odd = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [xi, yi] = polygon[i];
    const [xj, yj] = polygon[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) odd = !odd;
  }
  return odd;
}

// Adds (or takes away) the particles of one region; coordinates are those of the region's own map.
export function applyRegion(region: Region, coordinates: Float32Array, mask: Uint8Array): void {
  const xs = region.polygon.map((p) => p[0]);
  const ys = region.polygon.map((p) => p[1]);
  const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const value = region.sign > 0 ? 1 : 0;
  for (let i = 0; i < mask.length; i++) {
    const x = coordinates[2 * i];
    const y = coordinates[2 * i + 1];
    if (x >= left && x <= right && y >= low && y <= high && inside(region.polygon, x, y)) mask[i] = value;
  }
}

export function rowsOf(mask: Uint8Array): Int32Array {
  let count = 0;
  for (let i = 0; i < mask.length; i++) count += mask[i];
  const rows = new Int32Array(count);
  for (let i = 0, k = 0; i < mask.length; i++) if (mask[i]) rows[k++] = i;
  return rows;
}

// An outline with fewer corners (Douglas-Peucker), so that it fits into the address.
export function simplify(polygon: Polygon, tolerance: number): Polygon {
  if (polygon.length < 4) return polygon;
  const keep = new Uint8Array(polygon.length);
  keep[0] = keep[polygon.length - 1] = 1;
  const spans: [number, number][] = [[0, polygon.length - 1]];
  while (spans.length) {
    const [first, last] = spans.pop()!;
    const [ax, ay] = polygon[first];
    const [bx, by] = polygon[last];
    const length = Math.hypot(bx - ax, by - ay);
    let farthest = -1;
    let most = tolerance;
    for (let i = first + 1; i < last; i++) {
      const [x, y] = polygon[i];
      const away = length > 0 ? Math.abs((bx - ax) * (ay - y) - (ax - x) * (by - ay)) / length : Math.hypot(x - ax, y - ay);
      if (away > most) [farthest, most] = [i, away];
    }
    if (farthest > 0) {
      keep[farthest] = 1;
      spans.push([first, farthest], [farthest, last]);
    }
  }
  return polygon.filter((_, i) => keep[i]);
}
