// Keeps the right-hand side in step with the view: asks for surfaces and slices, shows what arrives.

import type { RunSummary } from "./api";
import { colourMap, gradient } from "./colours";
import type { Live } from "./live";
import { find, notice } from "./page";
import { showSlices } from "./slices";
import type { State, Store, View } from "./state";
import type { SurfaceView } from "./surface";
import type { Message } from "./wire";

const REST = 180;

export class Density {
  nearest: number | null = null;
  onSurface: (message: Message) => void = () => {};
  private rest = 0;

  constructor(
    private run: RunSummary,
    private store: Store,
    private live: Live,
    private surface: SurfaceView,
  ) {
    live.onMessage = (message) => this.receive(message);
    live.onError = (text) => notice(text, true);
    store.listen((view, before) => this.follow(view, before));
  }

  // Everything that the view shows.
  refresh(detail: "live" | "full" = "live"): void {
    const view = this.store.view;
    const shared = { kind: "surface", level: view.level, colour: view.colour || null, dust: view.dust, detail };
    this.live.ask("current", { ...shared, state: view.state });
    if (view.pinned && view.mode === "beside") this.live.ask("pinned", { ...shared, state: view.pinned });
    if (view.pinned && view.mode === "difference")
      this.live.ask("difference", { kind: "difference", state: view.state, minus: view.pinned, level: view.change, detail });
    if (view.drawer === "slices") this.askSlice(view, detail);
    this.askFullAtRest(detail);
  }

  layout(): void {
    const { mode, pinned, colour } = this.store.view;
    const shown = pinned ? mode : "single";
    this.surface.layout = shown;
    find("tag-a").hidden = find("tag-b").hidden = shown !== "beside";
    find("change-legend").hidden = find("change-label").hidden = shown !== "difference";
    if (!colour || shown === "difference") find("legend").hidden = true;
    this.surface.schedule();
  }

  private follow(view: View, before: View): void {
    const changed = (...keys: (keyof View)[]) => keys.some((key) => view[key] !== before[key]);
    if (changed("mode", "pinned", "colour")) this.layout();
    if (changed("state", "pinned", "mode", "level", "change", "colour", "dust", "drawer")) this.refresh();
    else if (view.drawer === "slices" && changed("planes")) this.askSlice(view, "live");
  }

  private askSlice(view: View, detail: "live" | "full"): void {
    const minus: State | null = view.mode === "difference" ? view.pinned : null;
    const request = { kind: "slice", state: view.state, minus, places: view.planes, detail };
    this.live.ask("slice", request);
  }

  // Once the cursor rests: large boxes are decoded in full, and surfaces of small ones made smooth.
  private askFullAtRest(detail: "live" | "full"): void {
    clearTimeout(this.rest);
    if (detail === "live") this.rest = window.setTimeout(() => this.refresh("full"), REST);
  }

  private receive(message: Message): void {
    const { header, arrays } = message;
    const mesh = (prefix: string) => ({
      vertices: arrays[`${prefix}vertices`] as Float32Array,
      normals: arrays[`${prefix}normals`] as Float32Array,
      faces: arrays[`${prefix}faces`] as Uint32Array,
      values: arrays.values as Float32Array | undefined,
    });
    if (header.kind === "surface") {
      this.surface.show(header.panel === "pinned" ? "pinned" : "current", mesh(""));
      this.showLegend(header.colouring);
      if (header.panel === "current") {
        this.nearest = header.nearest ?? null;
        this.onSurface(message);
      }
    } else if (header.kind === "difference") {
      this.surface.show("gained", mesh("more_"));
      this.surface.show("lost", mesh("less_"));
    } else if (header.kind === "slice") {
      const { level, change } = this.store.view;
      showSlices(message, level, this.run.highestLevel, change);
    }
  }

  private showLegend(colouring?: { name: string; title: string; unit: string; low: number; high: number }): void {
    find("legend").hidden = !colouring || this.surface.layout === "difference";
    if (!colouring) {
      this.surface.colours = null;
      return;
    }
    const map = colourMap(colouring.name);
    this.surface.colours = { map, low: colouring.low, high: colouring.high };
    find("legend-title").textContent = `${colouring.title} (${colouring.unit})`;
    find("legend-bar").style.background = gradient(map);
    find("legend-low").textContent = String(Number(colouring.low.toPrecision(2)));
    find("legend-high").textContent = String(Number(colouring.high.toPrecision(2)));
  }
}
