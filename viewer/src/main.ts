// The viewer: one view (state.ts), shown by the landscape, the density, the selection and the controls.

import { api, type RunSummary } from "./api";
import { normalise, START } from "./camera";
import { Controls } from "./controls";
import { Density } from "./density";
import { listen } from "./keyboard";
import { keyTable } from "./keys";
import { Landscape } from "./landscape";
import { Live } from "./live";
import { complain, find, thousands, words } from "./page";
import { showParticles } from "./particles";
import { Player } from "./player";
import { simplify } from "./region";
import { Selection } from "./selection";
import { fromHash, Store, toHash, type Region, type Standpoint, type State, type View } from "./state";
import { SurfaceView } from "./surface";
import { Tint } from "./tint";

const AROUND = 0.06;

function startView(run: RunSummary): View {
  const map = run.maps[0].name;
  return {
    map,
    state: { path: run.trajectories[0].name, place: 0.5 },
    pinned: null,
    mode: "single",
    level: run.level,
    change: 1,
    colour: "",
    dust: true,
    drawer: "none",
    planes: [0.5, 0.5, 0.5],
    path: run.trajectories[0].name,
    tint: "",
    saved: "",
    regions: [],
  };
}

class Viewer {
  readonly landscape = new Landscape(find("map-base"), find("map-top"));
  readonly surface = new SurfaceView(find("surface"));
  readonly store: Store;
  readonly density: Density;
  readonly selection: Selection;
  readonly player: Player;
  readonly tint: Tint;
  followPointer = false;
  private maps = new Map<string, Promise<Float32Array>>();
  private loaded = new Map<string, Float32Array>();
  private hashTimer = 0;
  private lost = false;
  private frameTimes: number[] = [];

  constructor(readonly run: RunSummary) {
    const start: Standpoint = { turn: START, zoom: 1, window: null };
    const { view, standpoint } = fromHash(location.hash, startView(run), start);
    this.store = new Store(known(view, run));
    this.surface.camera.turn = normalise(standpoint.turn);
    this.surface.camera.zoom = Math.min(20, Math.max(0.2, standpoint.zoom));
    const live = new Live();
    this.density = new Density(run, this.store, live, this.surface);
    this.selection = new Selection(this.store, run.particles, (name) => this.coordinates(name));
    this.player = new Player(this.store);
    this.tint = new Tint(this.store);
    live.onOpen = (open) => void this.connected(open);
    live.connect();
    this.connectParts();
    new Controls(this);
    listen(keyTable(this));
    void this.begin(standpoint);
  }

  // Coordinates of all particles on a map, fetched once.
  coordinates(name: string): Promise<Float32Array> {
    let found = this.maps.get(name);
    if (!found) {
      found = api.map(name);
      this.maps.set(name, found);
      found.then((coordinates) => this.loaded.set(name, coordinates), complain);
    }
    return found;
  }

  // Where a state lies on the map that is shown, so far as is known here.
  placeOf(state: State | null): [number, number] | null {
    const { map } = this.store.view;
    if (!state) return null;
    if ("map" in state) return state.map === map ? state.at : null;
    if ("particle" in state) {
      const coordinates = this.loaded.get(map);
      return coordinates ? [coordinates[2 * state.particle], coordinates[2 * state.particle + 1]] : null;
    }
    const points = this.run.trajectories.find(({ name }) => name === state.path)?.on[map];
    if (!points) return null;
    const position = state.place * (points.length - 1);
    const before = Math.min(Math.floor(position), points.length - 2);
    const part = position - before;
    return [0, 1].map((i) => points[before][i] + part * (points[before + 1][i] - points[before][i])) as [number, number];
  }

  moveTo(at: [number, number]): void {
    this.player.stop();
    this.store.live({ state: { map: this.store.view.map, at } });
  }

  // From the keyboard: a share of what is in sight.
  step(dx: number, dy: number): void {
    const [x, y] = this.placeOf(this.store.view.state) ?? [0, 0];
    const [w, h] = this.landscape.share(0.015);
    this.moveTo([x + dx * w, y + dy * h]);
    this.store.settle();
  }

  selectAround(): void {
    const place = this.placeOf(this.store.view.state);
    if (!place) return;
    const [rx, ry] = this.landscape.share(AROUND);
    const corner = (i: number): [number, number] => {
      const angle = (2 * Math.PI * i) / 32;
      return [place[0] + rx * Math.cos(angle), place[1] + ry * Math.sin(angle)];
    };
    this.addRegion(Array.from({ length: 32 }, (_, i) => corner(i)), 1);
  }

  async showMap(name: string): Promise<void> {
    const coordinates = await this.coordinates(name);
    if (this.store.view.map !== name) return;
    this.landscape.show(coordinates);
    this.markLandscape();
  }

  keepHash(): void {
    clearTimeout(this.hashTimer);
    this.hashTimer = window.setTimeout(() => {
      const { turn, zoom } = this.surface.camera;
      history.replaceState(null, "", toHash(this.store.view, { turn, zoom, window: this.landscape.window }));
    }, 120);
  }

  private async begin(standpoint: Standpoint): Promise<void> {
    const { run, store } = this;
    find("run-name").textContent = run.name;
    find("run-facts").textContent =
      `${thousands(run.particles)} particles · ${run.box}³ voxels of ${run.pixelSize.toFixed(2)} Å`;
    document.title = `${run.name} – CryoFormer`;
    this.density.layout();
    this.density.refresh();
    await this.showMap(store.view.map);
    if (standpoint.window) this.landscape.window = standpoint.window;
    await this.selection.remake(store.view);
    await this.selection.refreshList();
    if (store.view.drawer === "particles") await showParticles(this.selection.rows, store.view.state);
    document.body.dataset.ready = "true";
    await this.tint.fill();
  }

  // The server may have been started anew in the meantime, with the same port and token, perhaps on another run.
  private async connected(open: boolean): Promise<void> {
    if (!open) {
      this.lost = true;
      find("timing").textContent =
        "Connection lost; trying again. Started with the same --port and --token, the viewer is found again.";
    } else if (this.lost) {
      this.lost = false;
      find("timing").textContent = "";
      const run = await api.run().catch(() => null);
      if (run && (run.name !== this.run.name || run.particles !== this.run.particles)) location.reload();
      else this.density.refresh();
    }
  }

  private connectParts(): void {
    const { landscape, store } = this;
    this.tint.onChange = (colours, which) => landscape.colour(colours, which);
    landscape.onPoint = (place, phase) => {
      if (phase === "hover" && !this.followPointer) return;
      if (phase !== "end") this.moveTo(place);
      else store.settle();
    };
    landscape.onNearest = () => {
      if (this.density.nearest !== null) store.change({ state: { particle: this.density.nearest } });
    };
    landscape.onRegion = (polygon, sign) => this.addRegion(polygon, sign);
    landscape.onWindow = () => this.keepHash();
    this.surface.onTurn = () => this.keepHash();
    this.selection.onChange = () => {
      landscape.choose(this.selection.mask);
      if (store.view.drawer === "particles") void showParticles(this.selection.rows, store.view.state);
    };
    store.listen((view, before) => {
      if (view.map !== before.map) void this.showMap(view.map).catch(complain);
      this.markLandscape();
      this.keepHash();
    });
    this.density.onSurface = ({ header, arrays }) => {
      const canvas = find("surface");
      canvas.dataset.vertices = String(arrays.vertices.length / 3);
      canvas.dataset.serial = String(header.serial);
      this.describe(header.milliseconds, arrays.vertices.length / 3, header.box);
    };
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      landscape.redraw();
      this.surface.schedule();
    });
    addEventListener("hashchange", () => location.reload());
  }

  private addRegion(polygon: [number, number][], sign: 1 | -1): void {
    const { map, regions } = this.store.view;
    const [w, h] = this.landscape.share(1);
    // In units of what is in sight, so that both axes count alike.
    const flat = polygon.map(([x, y]) => [x / w, y / h] as [number, number]);
    const outline = simplify(flat, 0.002).map(([x, y]) => [x * w, y * h] as [number, number]);
    const region: Region = { sign, map, polygon: outline };
    this.store.change({ regions: [...regions, region] });
  }

  private markLandscape(): void {
    const { view } = this.store;
    const axes = this.run.maps.find(({ name }) => name === view.map)!.axes;
    const path = this.run.trajectories.find(({ name }) => name === view.path)?.on[view.map] ?? [];
    const shownPath = "path" in view.state ? path : [];
    const states = this.run.states.map((particle) => this.placeOf({ particle })).filter((place) => place !== null);
    this.landscape.mark({ cursor: this.placeOf(view.state), pinned: this.placeOf(view.pinned), states, path: shownPath, axes });
  }

  private describe(milliseconds: number, vertices: number, box: number): void {
    const now = performance.now();
    this.frameTimes = [...this.frameTimes.filter((time) => now - time < 1000), now];
    const { state } = this.store.view;
    const at = this.placeOf(state);
    const where =
      "path" in state
        ? `${words(state.path)}, ${Math.round(100 * state.place)} %`
        : "particle" in state
          ? `State of particle ${state.particle}`
          : `State at (${at?.map((value) => value.toFixed(2).replace("-0.00", "0.00").replace("-", "−")).join(", ")})`;
    const near = this.density.nearest === null ? "" : ` · nearest particle ${this.density.nearest}`;
    find("place").textContent = where + near;
    const rate = this.frameTimes.length > 2 ? ` · ${this.frameTimes.length} states/s` : "";
    find("timing").textContent = `${thousands(vertices)} vertices · ${box}³ · ${milliseconds.toFixed(0)} ms${rate}`;
  }
}

// Names that this run has; the others come from an address of another run.
function known(view: View, run: RunSummary): View {
  const start = startView(run);
  const has = (list: { name: string }[], name: string) => list.some((entry) => entry.name === name);
  const stands = (state: State | null): boolean =>
    state !== null &&
    ("map" in state
      ? has(run.maps, state.map)
      : "path" in state
        ? has(run.trajectories, state.path)
        : state.particle >= 0 && state.particle < run.particles);
  return {
    ...view,
    map: has(run.maps, view.map) ? view.map : start.map,
    state: stands(view.state) ? view.state : start.state,
    pinned: stands(view.pinned) ? view.pinned : null,
    colour: has(run.colourings, view.colour) ? view.colour : "",
    path: has(run.trajectories, view.path) ? view.path : start.path,
    regions: view.regions.filter((region) => has(run.maps, region.map)),
    planes: view.planes.map((place) => Math.min(1, Math.max(0, place))) as View["planes"],
    change: view.change > 0 ? view.change : start.change,
  };
}

export type { Viewer };

api.run().then((run) => new Viewer(run)).catch(complain);
