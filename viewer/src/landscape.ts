// The map of all particles: a density picture when many are in sight, points when few are, and what lies on top.

import { css, theme, type RGB } from "./colours";
import { drawAxes, drawCursor, drawLine, drawMark, drawState } from "./marks";
import { Plane, type Point } from "./plane";
import { densityRaster, Stamps, type Raster, type Window2D } from "./raster";

export type Tool = "explore" | "pan" | "lasso" | "box";

export interface Marks {
  cursor: Point | null;
  pinned: Point | null;
  // The numbered states of the report.
  states: Point[];
  path: Point[];
  axes: [string, string];
}

// More points than this in sight are shown as their density alone.
const MOST_POINTS = 20000;
// Coloured by a column, so many of them are drawn at most, evenly over the file.
const MOST_TINTED = 60000;

export class Landscape {
  tool: Tool = "explore";
  onPoint: (place: Point, phase: "start" | "move" | "end" | "hover") => void = () => {};
  onRegion: (polygon: Point[], sign: 1 | -1) => void = () => {};
  onWindow: () => void = () => {};
  onNearest: (place: Point) => void = () => {};
  frames = 0;

  private coordinates: Float32Array = new Float32Array();
  private mask: Uint8Array | null = null;
  private tint: { colours: RGB[]; which: Uint8Array } | null = null;
  private plane: Plane;
  private marks: Marks = { cursor: null, pinned: null, states: [], path: [], axes: ["", ""] };
  private raster: Raster | null = null;
  private chosenRaster: Raster | null = null;
  private rasterZoom = 0;
  private outline: Point[] = [];
  private dirty = { base: true, top: true };
  private scheduled = false;

  constructor(
    private base: HTMLCanvasElement,
    private top: HTMLCanvasElement,
  ) {
    this.plane = new Plane(base);
    new ResizeObserver(() => this.redraw()).observe(base);
    this.listen();
  }

  show(coordinates: Float32Array): void {
    this.coordinates = coordinates;
    this.plane.setBounds(coordinates);
    this.fit();
  }

  choose(mask: Uint8Array | null): void {
    this.mask = mask;
    this.redraw();
  }

  // Colours and, for every particle, which of them; without, the landscape shows their density.
  colour(colours: RGB[] | null, which: Uint8Array | null): void {
    this.tint = colours && which ? { colours, which } : null;
    this.redraw();
  }

  mark(marks: Partial<Marks>): void {
    this.marks = { ...this.marks, ...marks };
    this.schedule("top");
  }

  fit(): void {
    this.plane.fit();
    this.redraw();
    this.onWindow();
  }

  get window(): [number, number, number] | null {
    return this.plane.zoom === 1 ? null : [...this.plane.centre, this.plane.zoom];
  }

  set window(value: [number, number, number] | null) {
    if (value) {
      this.plane.centre = [value[0], value[1]];
      this.plane.zoomTo(value[2]);
    } else this.fit();
    this.redraw();
  }

  // New colours, data or size: everything is made anew.
  redraw(): void {
    this.raster = this.chosenRaster = null;
    this.schedule("base");
  }

  zoomBy(factor: number, about?: Point): void {
    this.plane.zoomTo(this.plane.zoom * factor, about);
    this.schedule("base");
    this.onWindow();
  }

  panBy(dx: number, dy: number): void {
    this.plane.panBy(dx, dy);
    this.schedule("base");
    this.onWindow();
  }

  // A length on the map: a share of what is in sight.
  share(part: number): Point {
    const visible = this.plane.visible();
    return [part * (visible.right - visible.left), part * (visible.high - visible.low)];
  }

  private schedule(layer: "base" | "top"): void {
    this.dirty.top = true;
    if (layer === "base") this.dirty.base = true;
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      if (this.dirty.base) this.drawBase();
      if (this.dirty.top) this.drawTop();
      this.dirty = { base: false, top: false };
      this.frames++;
    });
  }

  private prepare(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
    const ratio = Math.min(2, devicePixelRatio || 1);
    const { width, height } = this.plane.size();
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
    const context = canvas.getContext("2d")!;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    return context;
  }

  private drawBase(): void {
    const context = this.prepare(this.base);
    if (!this.coordinates.length) return;
    const visible = this.plane.visible();
    const colours = theme();
    this.refreshRasters(visible);
    const inSight = this.countInSight(visible);
    const pointwise = inSight <= MOST_POINTS || this.tint !== null;
    context.save();
    this.plane.clip(context);
    context.imageSmoothingEnabled = true;
    // Under points the density steps back, and goes altogether where points are few.
    context.globalAlpha = this.tint ? 0 : pointwise ? Math.min(0.55, inSight / 3000) : 1;
    this.drawRaster(context, this.raster);
    context.globalAlpha = pointwise ? 0 : 0.85;
    if (this.mask) this.drawRaster(context, this.chosenRaster);
    context.globalAlpha = 1;
    if (pointwise) this.drawPoints(context, visible, inSight, colours);
    context.restore();
    this.base.dataset.drawn = pointwise ? "points" : "density";
  }

  private refreshRasters(visible: Window2D): void {
    const raster = this.raster;
    const covered =
      raster &&
      visible.left >= raster.left &&
      visible.right <= raster.right &&
      visible.low >= raster.low &&
      visible.high <= raster.high &&
      Math.abs(Math.log(this.plane.zoom / this.rasterZoom)) < 0.5;
    if (covered) return;
    const { density, chosen } = theme();
    this.raster = densityRaster(this.coordinates, null, visible, density);
    this.chosenRaster = this.mask ? densityRaster(this.coordinates, this.mask, visible, chosen) : null;
    this.rasterZoom = this.plane.zoom;
  }

  private drawRaster(context: CanvasRenderingContext2D, raster: Raster | null): void {
    if (!raster) return;
    const [left, top] = this.plane.toScreen([raster.left, raster.high]);
    const [right, bottom] = this.plane.toScreen([raster.right, raster.low]);
    context.drawImage(raster.canvas, left, top, right - left, bottom - top);
  }

  private countInSight(visible: Window2D): number {
    const all = this.coordinates;
    let count = 0;
    for (let i = 0; i < all.length; i += 2)
      if (all[i] > visible.left && all[i] < visible.right && all[i + 1] > visible.low && all[i + 1] < visible.high) count++;
    return count;
  }

  private drawPoints(
    context: CanvasRenderingContext2D,
    visible: Window2D,
    inSight: number,
    colours: ReturnType<typeof theme>,
  ): void {
    const ratio = Math.min(2, devicePixelRatio || 1);
    const { width, height } = this.plane.size();
    const stamps = new Stamps(Math.round(width * ratio), Math.round(height * ratio), (inSight < 2000 ? 1.9 : 1.2) * ratio);
    const opacity = inSight < 2000 ? 0.75 : 0.5;
    const all = this.coordinates;
    // As toScreen() does, but without asking the page for its size at every point.
    const { x: sx, y: sy } = this.plane.scale();
    const [mx, my] = this.plane.middle();
    const [cx, cy] = this.plane.centre;
    const step = 2 * Math.max(1, this.tint ? Math.ceil(inSight / MOST_TINTED) : 1);
    // Twice, so that selected particles lie on top.
    for (const chosen of [0, 1]) {
      for (let i = 0; i < all.length; i += step) {
        const x = all[i];
        const y = all[i + 1];
        if (x < visible.left || x > visible.right || y < visible.low || y > visible.high) continue;
        if ((this.mask?.[i >> 1] ?? 0) !== chosen) continue;
        const tinted = this.tint?.colours[this.tint.which[i >> 1]];
        // Beside a selection, whatever is not in it steps back.
        const seen = tinted && this.mask ? (chosen ? 1 : 0.12) : chosen ? 0.9 : tinted ? 0.8 : opacity;
        const colour = tinted ?? (chosen ? colours.chosenPoint : colours.point);
        stamps.add((mx + (x - cx) * sx) * ratio, (my - (y - cy) * sy) * ratio, colour, seen);
      }
      if (!this.mask) break;
    }
    context.drawImage(stamps.canvas(), 0, 0, width, height);
  }

  private drawTop(): void {
    const context = this.prepare(this.top);
    const colours = theme();
    drawAxes(this.plane, context, this.marks.axes, colours.faint, colours.ink);
    context.save();
    this.plane.clip(context);
    if (this.marks.path.length) drawLine(this.plane, context, this.marks.path, colours.path, [5, 4]);
    if (this.outline.length) {
      drawLine(this.plane, context, [...this.outline, this.outline[0]], css(colours.chosenPoint), []);
      context.fillStyle = css(colours.chosenPoint);
      context.globalAlpha = 0.12;
      context.fill();
      context.globalAlpha = 1;
    }
    this.marks.states.forEach((place, i) => drawState(this.plane, context, place, String(i + 1), colours.ink, css(colours.background)));
    if (this.marks.pinned) drawMark(this.plane, context, this.marks.pinned, colours.pinned, "A");
    if (this.marks.cursor) drawCursor(this.plane, context, this.marks.cursor, colours.cursor, css(colours.background));
    context.restore();
  }

  private listen(): void {
    const canvas = this.top;
    let action: Tool | null = null;
    let last: Point = [0, 0];
    const at = (event: PointerEvent | WheelEvent | MouseEvent): Point => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    canvas.addEventListener("pointerdown", (event) => {
      action = event.button === 0 && !event.ctrlKey ? this.tool : "pan";
      last = at(event);
      canvas.setPointerCapture(event.pointerId);
      canvas.focus({ preventScroll: true });
      if (action === "explore") this.onPoint(this.plane.toMap(...last), "start");
      else if (action !== "pan") this.outline = [this.plane.toMap(...last)];
    });
    canvas.addEventListener("pointermove", (event) => {
      const now = at(event);
      if (!action) {
        if (this.tool === "explore") this.onPoint(this.plane.toMap(...now), "hover");
        return;
      }
      if (action === "explore") this.onPoint(this.plane.toMap(...now), "move");
      else if (action === "pan") this.panBy(now[0] - last[0], now[1] - last[1]);
      else {
        const place = this.plane.toMap(...now);
        if (action === "lasso") this.outline.push(place);
        else {
          const [x, y] = this.outline[0];
          this.outline = [[x, y], [place[0], y], place, [x, place[1]]];
        }
        this.schedule("top");
      }
      last = now;
    });
    const finish = (event: PointerEvent) => {
      if (action === "explore") this.onPoint(this.plane.toMap(...at(event)), "end");
      if ((action === "lasso" || action === "box") && this.outline.length > 2)
        this.onRegion(this.outline, event.altKey ? -1 : 1);
      action = null;
      this.outline = [];
      this.schedule("top");
    };
    canvas.addEventListener("pointerup", finish);
    canvas.addEventListener("pointercancel", () => {
      action = null;
      this.outline = [];
      this.schedule("top");
    });
    canvas.addEventListener("dblclick", (event) => {
      if (this.tool === "explore") this.onNearest(this.plane.toMap(...at(event)));
    });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        this.zoomBy(Math.exp(-Math.max(-120, Math.min(120, event.deltaY)) / 400), this.plane.toMap(...at(event)));
      },
      { passive: false },
    );
  }
}
