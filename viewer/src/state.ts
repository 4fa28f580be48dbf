// What is looked at: one plain object, its history, and its form in the address bar.

export type State =
  | { map: string; at: [number, number] }
  | { path: string; place: number }
  | { particle: number };

export type Mode = "single" | "beside" | "difference";
export type Drawer = "none" | "slices" | "particles";

export interface Region {
  sign: 1 | -1;
  map: string;
  polygon: [number, number][];
}

// With undo.
export interface View {
  map: string;
  state: State;
  pinned: State | null;
  mode: Mode;
  level: number;
  change: number;
  colour: string;
  dust: boolean;
  drawer: Drawer;
  planes: [number, number, number];
  path: string;
  // What the particles of the landscape are coloured by; "" for their density.
  tint: string;
  saved: string;
  regions: Region[];
}

// Where one stands: kept in the address, but not worth an undo.
export interface Standpoint {
  turn: [number, number, number, number];
  zoom: number;
  window: [number, number, number] | null;
}

const number = (value: number) => String(Number(value.toPrecision(4)));

const stateText = (state: State): string =>
  "map" in state
    ? `map:${state.map}:${state.at.map(number).join(",")}`
    : "path" in state
      ? `path:${state.path}:${number(state.place)}`
      : `particle:${state.particle}`;

function parseState(text: string): State | null {
  const [kind, name, rest] = text.split(":");
  if (kind === "particle" && Number.isInteger(Number(name))) return { particle: Number(name) };
  const values = (rest ?? "").split(",").map(Number);
  if (!name || !values.every(Number.isFinite)) return null;
  if (kind === "map" && values.length === 2) return { map: name, at: [values[0], values[1]] };
  if (kind === "path" && values.length === 1) return { path: name, place: Math.min(1, Math.max(0, values[0])) };
  return null;
}

const regionText = (region: Region): string =>
  `${region.sign > 0 ? "+" : "-"}:${region.map}:${region.polygon.map((p) => p.map(number).join(",")).join(";")}`;

function parseRegion(text: string): Region | null {
  const [sign, map, rest] = text.split(":");
  const polygon = (rest ?? "").split(";").map((pair) => pair.split(",").map(Number) as [number, number]);
  const good = polygon.length > 2 && polygon.every((p) => p.length === 2 && p.every(Number.isFinite));
  return map && good ? { sign: sign === "-" ? -1 : 1, map, polygon } : null;
}

export function toHash(view: View, standpoint: Standpoint): string {
  const fields = new URLSearchParams({
    map: view.map,
    state: stateText(view.state),
    mode: view.mode,
    level: number(view.level),
    change: number(view.change),
    dust: view.dust ? "1" : "0",
    turn: standpoint.turn.map(number).join(","),
    zoom: number(standpoint.zoom),
  });
  if (view.pinned) fields.set("pinned", stateText(view.pinned));
  if (view.colour) fields.set("colour", view.colour);
  if (view.drawer !== "none") fields.set("drawer", view.drawer);
  if (view.drawer === "slices") fields.set("planes", view.planes.map(number).join(","));
  if (view.path) fields.set("path", view.path);
  if (view.tint) fields.set("tint", view.tint);
  if (view.saved) fields.set("saved", view.saved);
  if (view.regions.length) fields.set("regions", view.regions.map(regionText).join("|"));
  if (standpoint.window) fields.set("window", standpoint.window.map(number).join(","));
  return `#${fields}`;
}

// Whatever does not fit keeps its default: an address may be old, or typed.
export function fromHash(hash: string, view: View, standpoint: Standpoint): { view: View; standpoint: Standpoint } {
  const fields = new URLSearchParams(hash.replace(/^#/, ""));
  const text = (key: string) => fields.get(key) ?? "";
  const one = <T extends string>(key: string, allowed: readonly T[], fallback: T): T =>
    (allowed as readonly string[]).includes(text(key)) ? (text(key) as T) : fallback;
  const real = (key: string, fallback: number) =>
    fields.has(key) && Number.isFinite(Number(text(key))) ? Number(text(key)) : fallback;
  const list = (key: string, count: number): number[] | null => {
    const values = text(key).split(",").map(Number);
    return values.length === count && values.every(Number.isFinite) && fields.has(key) ? values : null;
  };
  const regions = text("regions") ? text("regions").split("|").map(parseRegion) : [];
  return {
    view: {
      ...view,
      map: text("map") || view.map,
      state: parseState(text("state")) ?? view.state,
      pinned: parseState(text("pinned")),
      mode: one("mode", ["single", "beside", "difference"], view.mode),
      level: real("level", view.level),
      change: real("change", view.change),
      colour: text("colour"),
      dust: fields.has("dust") ? text("dust") === "1" : view.dust,
      drawer: one("drawer", ["none", "slices", "particles"], "none"),
      planes: (list("planes", 3) as View["planes"] | null) ?? view.planes,
      path: text("path") || view.path,
      tint: text("tint"),
      saved: text("saved"),
      regions: regions.filter((region): region is Region => region !== null),
    },
    standpoint: {
      turn: (list("turn", 4) as Standpoint["turn"] | null) ?? standpoint.turn,
      zoom: real("zoom", standpoint.zoom),
      window: list("window", 3) as Standpoint["window"],
    },
  };
}

const LONGEST_HISTORY = 200;

export class Store {
  private listeners: ((view: View, before: View) => void)[] = [];
  private past: View[] = [];
  private future: View[] = [];
  private settled: View;

  constructor(public view: View) {
    this.settled = view;
  }

  listen(listener: (view: View, before: View) => void): void {
    this.listeners.push(listener);
  }

  // A step of a gesture, such as a drag; settle() makes an undo step of all of them.
  live(patch: Partial<View>): void {
    this.replace({ ...this.view, ...patch });
  }

  change(patch: Partial<View>): void {
    this.live(patch);
    this.settle();
  }

  settle(): void {
    if (this.view === this.settled) return;
    this.past.push(this.settled);
    if (this.past.length > LONGEST_HISTORY) this.past.shift();
    this.future = [];
    this.settled = this.view;
    this.replace(this.view);
  }

  undo(): void {
    this.settle();
    this.travel(this.past, this.future);
  }

  redo(): void {
    this.settle();
    this.travel(this.future, this.past);
  }

  get canUndo(): boolean {
    return this.past.length > 0;
  }

  get canRedo(): boolean {
    return this.future.length > 0;
  }

  private travel(from: View[], to: View[]): void {
    const target = from.pop();
    if (!target) return;
    to.push(this.view);
    this.settled = target;
    this.replace(target);
  }

  private replace(view: View): void {
    const before = this.view;
    this.view = view;
    for (const listener of this.listeners) listener(view, before);
  }
}
