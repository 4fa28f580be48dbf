// Plays a trajectory there and back.

import { find } from "./page";
import type { Store } from "./state";

const SECONDS = 5;

export class Player {
  private playing = false;
  private direction = 1;
  private last = 0;
  private button = find("play");

  constructor(private store: Store) {
    this.button.addEventListener("click", () => this.toggle());
    const slider = find<HTMLInputElement>("along");
    slider.addEventListener("input", () => this.go(slider.valueAsNumber));
    slider.addEventListener("change", () => store.settle());
    const choice = find<HTMLSelectElement>("path");
    choice.addEventListener("change", () => store.change({ path: choice.value, state: { path: choice.value, place: 0 } }));
  }

  toggle(): void {
    this.playing = !this.playing;
    this.button.setAttribute("aria-pressed", String(this.playing));
    this.last = performance.now();
    if (this.playing) requestAnimationFrame((now) => this.step(now));
    else this.store.settle();
  }

  stop(): void {
    if (this.playing) this.toggle();
  }

  private go(place: number): void {
    this.store.live({ state: { path: this.store.view.path, place } });
  }

  private step(now: number): void {
    if (!this.playing) return;
    const { state, path } = this.store.view;
    let place = "path" in state && state.path === path ? state.place : 0;
    place += (this.direction * Math.max(0, now - this.last)) / 1000 / SECONDS;
    this.last = now;
    if (place > 1 || place < 0) {
      this.direction = place > 1 ? -1 : 1;
      place = Math.min(1, Math.max(0, place));
    }
    this.go(place);
    requestAnimationFrame((next) => this.step(next));
  }
}
