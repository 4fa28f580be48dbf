// The selected particles: made of outlines and a saved selection, counted, saved and exported.

import { api, type NamedSelection } from "./api";
import { complain, find, make, notice, thousands } from "./page";
import { applyRegion, rowsOf } from "./region";
import type { Store, View } from "./state";

export class Selection {
  rows: Int32Array = new Int32Array();
  mask: Uint8Array | null = null;
  onChange: () => void = () => {};
  private made = 0;

  constructor(
    private store: Store,
    private count: number,
    private coordinates: (map: string) => Promise<Float32Array>,
  ) {
    store.listen((view, before) => {
      if (view.saved !== before.saved || view.regions !== before.regions) void this.remake(view);
    });
    find("clear").addEventListener("click", () => this.clear());
    find("save").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.save();
    });
  }

  clear(): void {
    const { saved, regions } = this.store.view;
    if (saved || regions.length) this.store.change({ saved: "", regions: [] });
  }

  // Newest wins: maps and saved selections arrive in their own time.
  async remake(view: View): Promise<void> {
    const turn = ++this.made;
    const mask = new Uint8Array(this.count);
    try {
      if (view.saved) for (const row of await api.load(view.saved)) mask[row] = 1;
      for (const region of view.regions) applyRegion(region, await this.coordinates(region.map), mask);
    } catch (error) {
      complain(error);
    }
    if (turn !== this.made) return;
    this.rows = rowsOf(mask);
    this.mask = this.rows.length ? mask : null;
    this.describe();
    this.onChange();
  }

  async refreshList(): Promise<void> {
    try {
      this.list(await api.selections());
    } catch (error) {
      complain(error);
    }
  }

  private describe(): void {
    const count = this.rows.length;
    const share = ((100 * count) / this.count).toFixed(count < this.count / 100 ? 2 : 1);
    find("selected").textContent = count
      ? `${thousands(count)} of ${thousands(this.count)} selected (${share} %)`
      : "No particles selected";
    find("selected").dataset.count = String(count);
    find<HTMLButtonElement>("clear").disabled = !count;
    document.querySelector<HTMLButtonElement>("#save button")!.disabled = !count;
    for (const button of document.querySelectorAll<HTMLElement>("#saved .name"))
      button.setAttribute("aria-current", String(button.textContent === this.store.view.saved));
  }

  private async save(): Promise<void> {
    const field = find<HTMLInputElement>("save-name");
    const name = field.value.trim();
    try {
      this.list(await api.save(name, this.rows));
      field.value = "";
      notice(`Saved ${thousands(this.rows.length)} particles as "${name}".`);
      this.store.change({ saved: name, regions: [] });
    } catch (error) {
      complain(error);
    }
  }

  private list(selections: NamedSelection[]): void {
    find("saved").replaceChildren(...selections.map((selection) => this.entry(selection)));
    this.describe();
  }

  private entry({ name, count }: NamedSelection): HTMLLIElement {
    const load = make("button", { className: "name", textContent: name, title: `Select "${name}"` });
    load.addEventListener("click", () => this.store.change({ saved: name, regions: [] }));
    const send = make("button", { textContent: "Export", title: "Write a particle file with all original columns" });
    send.addEventListener("click", async () => {
      send.disabled = true;
      try {
        notice(`Written: ${await api.export(name)}`);
      } catch (error) {
        complain(error);
      }
      send.disabled = false;
    });
    const remove = make("button", { textContent: "Delete", title: `Delete "${name}"` });
    remove.addEventListener("click", async () => {
      if (!confirm(`Delete the selection "${name}"? This cannot be undone.`)) return;
      try {
        this.list(await api.remove(name));
        if (this.store.view.saved === name) this.clear();
      } catch (error) {
        complain(error);
      }
    });
    return make("li", {}, load, make("span", { className: "count", textContent: thousands(count) }), send, remove);
  }
}
