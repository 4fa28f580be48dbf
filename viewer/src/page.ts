// Small helpers for the page's elements.

export function find<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return element as T;
}

export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Partial<HTMLElementTagNameMap[K]> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export const words = (name: string): string => (name[0].toUpperCase() + name.slice(1)).replaceAll("_", " ");

export const thousands = (value: number): string => value.toLocaleString("en-GB");

// Buttons of which one is on (ARIA radio group); arrow keys move between them.
export function segments(attribute: string, choose: (value: string) => void): (value: string) => void {
  const buttons = [...document.querySelectorAll<HTMLButtonElement>(`button[data-${attribute}]`)];
  const value = (button: HTMLButtonElement) => button.dataset[attribute]!;
  buttons.forEach((button, i) => {
    button.addEventListener("click", () => choose(value(button)));
    button.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      const next = buttons[(i + step + buttons.length) % buttons.length];
      next.focus();
      choose(value(next));
    });
  });
  return (chosen) => {
    for (const button of buttons) {
      button.setAttribute("aria-checked", String(value(button) === chosen));
      button.tabIndex = value(button) === chosen ? 0 : -1;
    }
  };
}

let hide = 0;

export function notice(text: string, bad = false): void {
  const element = find("notice");
  element.textContent = text;
  element.hidden = false;
  element.classList.toggle("bad", bad);
  clearTimeout(hide);
  hide = window.setTimeout(() => (element.hidden = true), bad ? 9000 : 5000);
}

export const complain = (error: unknown): void => notice(error instanceof Error ? error.message : String(error), true);

// A grey picture of numbers [height, width] between two values.
export function greyPicture(
  values: ArrayLike<number>,
  height: number,
  width: number,
  low: number,
  high: number,
  size: number,
  colour: (shade: number) => [number, number, number] = (shade) => [255 * shade, 255 * shade, 255 * shade],
): HTMLCanvasElement {
  const small = make("canvas", { width, height });
  const context = small.getContext("2d")!;
  const picture = context.createImageData(width, height);
  const range = high - low || 1;
  for (let i = 0; i < width * height; i++) {
    const shade = Math.min(1, Math.max(0, (values[i] - low) / range));
    picture.data.set([...colour(shade), 255], 4 * i);
  }
  context.putImageData(picture, 0, 0);
  const canvas = make("canvas", { width: size, height: Math.round((size * height) / width) });
  const large = canvas.getContext("2d")!;
  large.imageSmoothingQuality = "high";
  large.drawImage(small, 0, 0, canvas.width, canvas.height);
  return canvas;
}
