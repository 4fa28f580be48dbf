// Colours that every kind of colour vision tells apart, in a light and a dark theme.

export type RGB = [number, number, number];

const hex = (text: string): RGB => [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16)) as RGB;

export const VIRIDIS = ["#440154", "#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39", "#fde725"].map(hex);
// The report's: still grey, moving vermilion (Okabe and Ito).
const MOTION = ["#ccd3db", "#d9b9a4", "#dc9a6d", "#da7c37", "#d65e00"].map(hex);
const ATTENDED = ["#ccd3db", "#9dbbd3", "#62a0c8", "#1f80b8", "#005a94"].map(hex);
const UNSURE = ["#ccd3db", "#d0b3c9", "#c98db2", "#b5608f", "#8a2f66"].map(hex);
const DENSITY_LIGHT = ["#e4eef4", "#b5d2e2", "#77adca", "#3b80a6", "#1a5478", "#0b2f49"].map(hex);
const DENSITY_DARK = ["#1b2f3c", "#245068", "#327a99", "#5ea9c3", "#a4d6e4", "#eefafd"].map(hex);
const CHOSEN_LIGHT = ["#fbe3cf", "#f2b88a", "#e58a46", "#d55e00", "#a34600", "#7a3400"].map(hex);
const CHOSEN_DARK = ["#4a2a12", "#8a4513", "#c8641a", "#ee8a3c", "#f9b982", "#ffe9d4"].map(hex);

export const dark = (): boolean => matchMedia("(prefers-color-scheme: dark)").matches;

export interface Theme {
  background: RGB;
  ink: string;
  faint: string;
  cursor: string;
  pinned: string;
  path: string;
  surface: RGB;
  gained: RGB;
  lost: RGB;
  density: RGB[];
  chosen: RGB[];
  point: RGB;
  chosenPoint: RGB;
}

export function theme(): Theme {
  const shared = { gained: hex("#0072b2"), lost: hex("#d55e00") };
  return dark()
    ? {
        ...shared,
        background: hex("#171c21"),
        ink: "#dfe5ea",
        faint: "#8795a1",
        cursor: "#ffffff",
        pinned: "#f0e442",
        path: "#e0e6ea",
        surface: hex("#9fb4c4"),
        density: DENSITY_DARK,
        chosen: CHOSEN_DARK,
        point: hex("#7fbfd6"),
        chosenPoint: hex("#f2994a"),
      }
    : {
        ...shared,
        background: hex("#ffffff"),
        ink: "#27323b",
        faint: "#71808c",
        cursor: "#11181d",
        pinned: "#009e73",
        path: "#27323b",
        surface: hex("#a9bccb"),
        density: DENSITY_LIGHT,
        chosen: CHOSEN_LIGHT,
        point: hex("#2d6f95"),
        chosenPoint: hex("#d55e00"),
      };
}

// A surface is grey where there is nothing to tell.
export const colourMap = (name: string): RGB[] =>
  name === "flexibility" ? MOTION : name === "uncertainty" ? UNSURE : name === "resolution" ? VIRIDIS : ATTENDED;

export const css = (colour: RGB): string => `rgb(${colour.map(Math.round).join(" ")})`;

export const gradient = (colours: RGB[]): string => `linear-gradient(to right, ${colours.map(css).join(", ")})`;

// Position 0 to 1 along a list of colours.
export function blend(colours: RGB[], position: number): RGB {
  const place = Math.min(1, Math.max(0, position)) * (colours.length - 1);
  const before = Math.min(Math.floor(place), colours.length - 2);
  const part = place - before;
  return colours[before].map((value, i) => value + part * (colours[before + 1][i] - value)) as RGB;
}

// 256 colours as RGBA bytes, for textures.
export function table(colours: RGB[]): Uint8Array {
  const bytes = new Uint8Array(1024);
  for (let i = 0; i < 256; i++) bytes.set([...blend(colours, i / 255), 255], 4 * i);
  return bytes;
}
