// Buttons, lists and sliders: each writes to the view, and follows it.

import type { Tool } from "./landscape";
import type { Viewer } from "./main";
import { complain, find, make, notice, segments, words } from "./page";
import { showParticles } from "./particles";
import { saveMaps, savePicture } from "./save";
import type { Drawer, Mode, View } from "./state";

export class Controls {
  private showTool: (tool: string) => void;
  private showMode: (mode: string) => void;

  constructor(private viewer: Viewer) {
    const { store } = viewer;
    this.showTool = segments("tool", (tool) => this.takeTool(tool as Tool));
    this.showMode = segments("mode", (mode) => setMode(viewer, mode as Mode));
    this.fillLists();
    this.listenToSliders();
    this.listenToButtons();
    find("map-top").addEventListener("tool", (event) => this.takeTool((event as CustomEvent<Tool>).detail));
    store.listen((view, before) => {
      this.follow(view);
      if (view.drawer === "particles" && before.drawer !== "particles")
        void showParticles(viewer.selection.rows, view.state);
    });
    this.showTool("explore");
    this.follow(store.view);
  }

  private takeTool(tool: Tool): void {
    this.viewer.landscape.tool = tool;
    find("map-top").dataset.tool = tool;
    this.showTool(tool);
  }

  private fillLists(): void {
    const { run, store } = this.viewer;
    const fill = (id: string, entries: [string, string][]) =>
      find(id).replaceChildren(...entries.map(([value, textContent]) => make("option", { value, textContent })));
    fill("map", run.maps.map(({ name, title }) => [name, title]));
    fill("state", [["", "State …"], ...run.states.map((particle, i) => [String(particle), `State ${i + 1}`] as [string, string])]);
    find("state").hidden = !run.states.length;
    const state = find<HTMLSelectElement>("state");
    state.addEventListener("change", () => {
      this.viewer.player.stop();
      if (state.value) store.change({ state: { particle: Number(state.value) } });
    });
    fill("path", run.trajectories.map(({ name }) => [name, words(name)]));
    fill("colour", [["", "One colour"]]);
    const group = make("optgroup", { label: "Attention queries" });
    for (const { name, title } of run.colourings)
      (name.startsWith("query") ? group : find("colour")).append(make("option", { value: name, textContent: title }));
    if (group.childElementCount) find("colour").append(group);
    const map = find<HTMLSelectElement>("map");
    map.addEventListener("change", () => {
      // A place on one map has none on another; the nearest particle has.
      const { nearest } = this.viewer.density;
      const { state, pinned } = store.view;
      const moved = "map" in state && nearest !== null ? { particle: nearest } : state;
      store.change({ map: map.value, state: moved, pinned });
    });
    const colour = find<HTMLSelectElement>("colour");
    colour.addEventListener("change", () => store.change({ colour: colour.value }));
  }

  private listenToSliders(): void {
    const { store, run } = this.viewer;
    const slide = (id: string, patch: (value: number) => Partial<View>) => {
      const slider = find<HTMLInputElement>(id);
      slider.addEventListener("input", () => store.live(patch(slider.valueAsNumber)));
      slider.addEventListener("change", () => store.settle());
    };
    slide("level", (value) => ({ level: (value / 1000) * run.highestLevel }));
    slide("change", (value) => ({ change: (value / 100) * run.highestLevel * 0.6 }));
    [0, 1, 2].forEach((axis) =>
      slide(`plane-${"xyz"[axis]}`, (value) => ({ planes: store.view.planes.with(axis, value) as View["planes"] })),
    );
    const dust = find<HTMLInputElement>("dust");
    dust.addEventListener("change", () => store.change({ dust: dust.checked }));
  }

  private listenToButtons(): void {
    const { viewer } = this;
    const { store, landscape, surface } = viewer;
    const click = (id: string, run: () => void) => find(id).addEventListener("click", run);
    click("undo", () => store.undo());
    click("redo", () => store.redo());
    click("fit", () => landscape.fit());
    click("pin", () => pin(viewer));
    click("around", () => viewer.selectAround());
    click("slices-open", () => toggleDrawer(viewer, "slices"));
    click("particles-open", () => toggleDrawer(viewer, "particles"));
    click("particles-refresh", () => void showParticles(viewer.selection.rows, store.view.state));
    click("reset", () => {
      surface.camera.reset();
      surface.schedule();
      viewer.keepHash();
    });
    click("picture", () => void savePicture(surface, viewer.run.name).catch(complain));
    click("save-maps", () => void saveMaps(store.view, viewer.run.name).catch(complain));
  }

  private follow(view: View): void {
    const { store, run } = this.viewer;
    const set = (id: string, value: string) => (find<HTMLInputElement | HTMLSelectElement>(id).value = value);
    set("map", view.map);
    set("path", view.path);
    set("state", "particle" in view.state && run.states.includes(view.state.particle) ? String(view.state.particle) : "");
    set("colour", view.colour);
    set("along", "path" in view.state && view.state.path === view.path ? String(view.state.place) : "0");
    set("level", String((1000 * view.level) / run.highestLevel));
    set("change", String((100 * view.change) / (run.highestLevel * 0.6)));
    view.planes.forEach((place, axis) => set(`plane-${"xyz"[axis]}`, String(place)));
    find("level-value").textContent = `${view.level.toFixed(2)} σ`;
    find("change-value").textContent = `± ${view.change.toFixed(2)} σ`;
    find<HTMLInputElement>("dust").checked = view.dust;
    this.showMode(view.pinned ? view.mode : "single");
    for (const name of ["slices", "particles"]) {
      find(name).hidden = view.drawer !== name;
      find(`${name}-open`).setAttribute("aria-expanded", String(view.drawer === name));
    }
    find<HTMLButtonElement>("undo").disabled = !store.canUndo;
    find<HTMLButtonElement>("redo").disabled = !store.canRedo;
  }
}

export function pin({ store }: Viewer): void {
  store.change({ pinned: store.view.state });
  notice("Pinned as A. Move the cursor, and compare side by side or by difference.");
}

// Comparing needs an A: without one, it is the state that is shown now.
export function setMode({ store }: Viewer, mode: Mode): void {
  const pinned = mode === "single" ? store.view.pinned : (store.view.pinned ?? store.view.state);
  if (mode !== "single" && !store.view.pinned) notice("This state is now A. Move the cursor to compare with it.");
  store.change({ mode, pinned });
}

export function toggleDrawer({ store }: Viewer, drawer: Drawer): void {
  store.change({ drawer: store.view.drawer === drawer ? "none" : drawer });
}
