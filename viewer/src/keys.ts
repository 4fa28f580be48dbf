// What each key does.

import { pin, setMode, toggleDrawer } from "./controls";
import type { Key } from "./keyboard";
import type { Tool } from "./landscape";
import type { Viewer } from "./main";
import { find, notice } from "./page";
import type { Mode } from "./state";

const TURN = 20;

export function keyTable(viewer: Viewer): Key[] {
  const { store, landscape, surface, run } = viewer;
  const tool = (name: Tool) => find("map-top").dispatchEvent(new CustomEvent("tool", { detail: name }));
  const onSurface = () => document.activeElement === find("surface");
  const arrow = (event: KeyboardEvent) => {
    const dx = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    const dy = event.key === "ArrowUp" ? 1 : event.key === "ArrowDown" ? -1 : 0;
    const times = event.shiftKey ? 5 : 1;
    if (onSurface()) {
      surface.camera.rotate(dx * times * TURN, -dy * times * TURN);
      surface.schedule();
      surface.onTurn();
    } else viewer.step(dx * times, dy * times);
  };
  const zoom = (factor: number) => (onSurface() ? surface.zoomBy(factor) : landscape.zoomBy(factor));
  const threshold = (factor: number) =>
    store.change({ level: Math.min(run.highestLevel, Math.max(0.01, store.view.level * factor)) });
  const nextMode = (): Mode => {
    const order: Mode[] = ["single", "beside", "difference"];
    return order[(order.indexOf(store.view.mode) + 1) % order.length];
  };
  const nextColour = () => {
    const names = ["", ...run.colourings.map(({ name }) => name)];
    return names[(names.indexOf(store.view.colour) + 1) % names.length];
  };
  return [
    { keys: ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"], shown: "arrows", does: "Move the cursor (Shift: faster); turn the surface where it has the focus", run: arrow },
    { keys: ["+", "="], shown: "+", does: "Zoom in", run: () => zoom(1.25) },
    { keys: ["-"], shown: "−", does: "Zoom out", run: () => zoom(0.8) },
    { keys: ["0"], shown: "0", does: "Show the whole landscape", run: () => landscape.fit() },
    { keys: ["v"], shown: "V", does: "Explore", run: () => tool("explore") },
    {
      keys: ["f"],
      shown: "F",
      does: "The state follows the pointer, without dragging",
      run: () => {
        viewer.followPointer = !viewer.followPointer;
        if (!viewer.followPointer) store.settle();
        notice(viewer.followPointer ? "The state follows the pointer; F ends it." : "The state stays.");
      },
    },
    { keys: ["h"], shown: "H", does: "Move the map", run: () => tool("pan") },
    { keys: ["l"], shown: "L", does: "Lasso", run: () => tool("lasso") },
    { keys: ["b"], shown: "B", does: "Box", run: () => tool("box") },
    { keys: ["r"], shown: "R", does: "Select around the cursor", run: () => viewer.selectAround() },
    { keys: ["Escape"], shown: "Esc", does: "Clear the selection", run: () => viewer.selection.clear() },
    { keys: ["s"], shown: "S", does: "Name and save the selection", run: () => find("save-name").focus() },
    { keys: [" "], shown: "space", does: "Play or pause the trajectory", run: () => viewer.player.toggle() },
    { keys: ["["], shown: "[", does: "Lower threshold", run: () => threshold(1 / 1.05) },
    { keys: ["]"], shown: "]", does: "Higher threshold", run: () => threshold(1.05) },
    { keys: ["p"], shown: "P", does: "Pin this state as A", run: () => pin(viewer) },
    { keys: ["m"], shown: "M", does: "Single, side by side, difference", run: () => setMode(viewer, nextMode()) },
    { keys: ["c"], shown: "C", does: "Next colouring", run: () => store.change({ colour: nextColour() }) },
    { keys: ["x"], shown: "X", does: "Slices", run: () => toggleDrawer(viewer, "slices") },
    { keys: ["i"], shown: "I", does: "Images of the selected particles", run: () => toggleDrawer(viewer, "particles") },
    { keys: ["Ctrl+z"], shown: "Ctrl Z", does: "Undo (with Shift: redo)", run: (event) => (event.shiftKey ? store.redo() : store.undo()) },
    { keys: ["Ctrl+y"], shown: "Ctrl Y", does: "Redo", run: () => store.redo() },
    { keys: ["?"], shown: "?", does: "This help", run: () => find<HTMLDialogElement>("help").showModal() },
  ];
}
