// Every action by a key; the same table fills the help.

import { find, make } from "./page";

export interface Key {
  keys: string[];
  shown: string;
  does: string;
  run: (event: KeyboardEvent) => void;
}

const typing = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && (target.matches("input:not([type=range]):not([type=checkbox])") || target.matches("select"));

export function listen(table: Key[]): void {
  const dialog = find<HTMLDialogElement>("help");
  find("keys").replaceChildren(
    ...table.map(({ shown, does }) =>
      make("div", {}, make("span", { textContent: does }), make("kbd", { textContent: shown })),
    ),
  );
  find("help-open").addEventListener("click", () => dialog.showModal());
  document.addEventListener("keydown", (event) => {
    if (dialog.open || typing(event.target)) return;
    const modified = event.ctrlKey || event.metaKey;
    // Space presses a focused button, and arrows move a focused slider: leave those alone.
    const control = event.target instanceof HTMLElement && event.target.matches("button, input");
    if (control && (event.key === " " || event.key === "Enter" || event.key.startsWith("Arrow"))) return;
    const name = (modified ? "Ctrl+" : "") + (event.key.length === 1 ? event.key.toLowerCase() : event.key);
    const found = table.find((entry) => entry.keys.includes(name));
    if (!found) return;
    event.preventDefault();
    found.run(event);
  });
}
