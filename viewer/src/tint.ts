// Particles of the landscape coloured by a column: the list of columns, the colours of one, and its legend.

import { api, type Column } from "./api";
import { blend, gradient, VIRIDIS, type RGB } from "./colours";
import { complain, find, make, notice } from "./page";
import type { Store } from "./state";

// Okabe and Ito's, and lighter and darker ones of the same hues.
const CLASSES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d00", "#7a3b69", "#5f9ea0", "#7f7f7f"].map(
  (text) => [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16)) as RGB,
);
const UNKNOWN: RGB = [150, 150, 150];

export class Tint {
  // 256 colours and, for every particle, which of them; null for the plain density picture.
  onChange: (colours: RGB[] | null, which: Uint8Array | null) => void = () => {};
  private made = 0;
  private known = new Set<string>();

  constructor(private store: Store) {
    const select = find<HTMLSelectElement>("tint");
    select.addEventListener("change", () => store.change({ tint: select.value }));
    store.listen((view, before) => {
      select.value = view.tint;
      if (view.tint !== before.tint) void this.show(view.tint);
    });
  }

  // After the start: the particle file may be large.
  async fill(): Promise<void> {
    try {
      const { columns, problem } = await api.columns();
      const group = make("optgroup", { label: "Particle file" });
      for (const { name, title } of columns) {
        this.known.add(name);
        const option = make("option", { value: name, textContent: title.replace(/^_?rln/, "") });
        (name.startsWith("file:") ? group : find("tint")).append(option);
      }
      if (group.childElementCount) find("tint").append(group);
      if (problem) notice(problem, true);
      const { tint } = this.store.view;
      find<HTMLSelectElement>("tint").value = this.known.has(tint) ? tint : "";
      if (this.known.has(tint)) await this.show(tint);
    } catch (error) {
      complain(error);
    }
  }

  private async show(name: string): Promise<void> {
    const turn = ++this.made;
    find("tint-legend").hidden = true;
    if (!this.known.has(name)) return this.onChange(null, null);
    try {
      const column = await api.column(name);
      if (turn !== this.made) return;
      const colours = palette(column);
      this.onChange(colours, places(column));
      this.describe(column, colours);
    } catch (error) {
      complain(error);
    }
  }

  private describe(column: Column, colours: RGB[]): void {
    find("tint-title").textContent = column.title.replace(/^_?rln/, "");
    const few = column.isClass && column.high - column.low < CLASSES.length;
    const entries = few
      ? Array.from({ length: column.high - column.low + 1 }, (_, i) => {
          const chip = make("i", { className: "chip" });
          chip.style.background = `rgb(${colours[i].join(" ")})`;
          return make("span", {}, chip, String(column.low + i));
        })
      : [];
    find("tint-classes").replaceChildren(...entries);
    find("tint-bar").hidden = few;
    find("tint-bar").style.background = gradient(VIRIDIS);
    const text = (value: number) => (few ? "" : String(Number(value.toPrecision(3))).replace("-", "−"));
    find("tint-low").textContent = text(column.low);
    find("tint-high").textContent = text(column.high);
    find("tint-legend").hidden = false;
  }
}

function palette(column: Column): RGB[] {
  const few = column.isClass && column.high - column.low < CLASSES.length;
  const colours = Array.from({ length: 255 }, (_, i) => (few ? CLASSES[i % CLASSES.length] : blend(VIRIDIS, i / 254)));
  return [...colours, UNKNOWN];
}

function places({ values, low, high, isClass }: Column): Uint8Array {
  const few = isClass && high - low < CLASSES.length;
  return Uint8Array.from(values, (value) => {
    if (!Number.isFinite(value)) return 255;
    if (few) return value - low;
    return Math.round(254 * Math.min(1, Math.max(0, (value - low) / (high - low))));
  });
}
