// The part of a map that is in sight: from places on the map to pixels and back.

import type { Window2D } from "./raster";

export type Point = [number, number];

// Room for the axes around the plot.
export const INSET = { left: 58, bottom: 38, right: 10, top: 10 };
const ZOOM = { least: 0.5, most: 400 };

export class Plane {
  zoom = 1;
  centre: Point = [0.5, 0.5];
  private bounds: Window2D = { left: 0, right: 1, low: 0, high: 1 };

  constructor(private canvas: HTMLCanvasElement) {}

  setBounds(coordinates: Float32Array): void {
    this.bounds = robustBounds(coordinates);
    this.fit();
  }

  fit(): void {
    this.centre = [(this.bounds.left + this.bounds.right) / 2, (this.bounds.low + this.bounds.high) / 2];
    this.zoom = 1;
  }

  // About a place that stays where it is.
  zoomTo(zoom: number, about: Point = this.centre): void {
    const limited = Math.min(ZOOM.most, Math.max(ZOOM.least, zoom));
    const share = this.zoom / limited;
    this.centre = [about[0] + (this.centre[0] - about[0]) * share, about[1] + (this.centre[1] - about[1]) * share];
    this.zoom = limited;
  }

  panBy(dx: number, dy: number): void {
    const { x, y } = this.scale();
    this.centre = [this.centre[0] - dx / x, this.centre[1] + dy / y];
  }

  size(): { width: number; height: number } {
    return { width: Math.max(80, this.canvas.clientWidth), height: Math.max(80, this.canvas.clientHeight) };
  }

  scale(): { x: number; y: number } {
    const { width, height } = this.size();
    return {
      x: ((width - INSET.left - INSET.right) / (this.bounds.right - this.bounds.left)) * this.zoom,
      y: ((height - INSET.top - INSET.bottom) / (this.bounds.high - this.bounds.low)) * this.zoom,
    };
  }

  middle(): Point {
    const { width, height } = this.size();
    return [(INSET.left + width - INSET.right) / 2, (INSET.top + height - INSET.bottom) / 2];
  }

  toScreen([x, y]: Point): Point {
    const scale = this.scale();
    const [mx, my] = this.middle();
    return [mx + (x - this.centre[0]) * scale.x, my - (y - this.centre[1]) * scale.y];
  }

  toMap(px: number, py: number): Point {
    const scale = this.scale();
    const [mx, my] = this.middle();
    return [this.centre[0] + (px - mx) / scale.x, this.centre[1] - (py - my) / scale.y];
  }

  visible(): Window2D {
    const { width, height } = this.size();
    const [left, high] = this.toMap(INSET.left, INSET.top);
    const [right, low] = this.toMap(width - INSET.right, height - INSET.bottom);
    return { left, right, low, high };
  }

  // Only inside the axes.
  clip(context: CanvasRenderingContext2D): void {
    const { width, height } = this.size();
    context.beginPath();
    context.rect(INSET.left, INSET.top, width - INSET.left - INSET.right, height - INSET.top - INSET.bottom);
    context.clip();
  }
}

// All but stray particles, with room around.
function robustBounds(coordinates: Float32Array): Window2D {
  const step = Math.max(2, 2 * Math.floor(coordinates.length / 2 / 50000));
  const range = (offset: number): Point => {
    const values: number[] = [];
    for (let i = offset; i < coordinates.length; i += step) values.push(coordinates[i]);
    values.sort((a, b) => a - b);
    const low = values[Math.floor(0.002 * (values.length - 1))];
    const high = values[Math.ceil(0.998 * (values.length - 1))];
    const room = 0.12 * (high - low) || 1;
    return [low - room, high + room];
  };
  const [left, right] = range(0);
  const [low, high] = range(1);
  return { left, right, low, high };
}
