// Requests that have one answer each: the run, its maps, selections and particles.

import type { State } from "./state";
import { unpack, type Message } from "./wire";

export interface RunSummary {
  name: string;
  particles: number;
  box: number;
  liveBox: number;
  pixelSize: number;
  level: number;
  highestLevel: number;
  maps: { name: string; title: string; axes: [string, string] }[];
  colourings: { name: string; title: string }[];
  states: number[];
  trajectories: { name: string; on: Record<string, [number, number][]> }[];
}

// A value per particle, and what the colours span.
export interface Column {
  title: string;
  isClass: boolean;
  low: number;
  high: number;
  values: Float32Array;
}

export interface NamedSelection {
  name: string;
  count: number;
}

async function ask(path: string, options: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The viewer's server does not answer; is 'cryoformer view' still running?");
  }
  if (response.ok) return response;
  const text = await response.text();
  let message = text;
  try {
    message = JSON.parse(text).error ?? text;
  } catch {
    // Not JSON: a plain refusal.
  }
  throw new Error(message);
}

const selectionPath = (name: string) => `/api/selections/${encodeURIComponent(name)}`;

export const api = {
  run: async (): Promise<RunSummary> => (await ask("/api/run")).json(),
  map: async (name: string): Promise<Float32Array> => {
    const message = unpack(await (await ask(`/api/maps/${encodeURIComponent(name)}`)).arrayBuffer());
    return message.arrays.coordinates as Float32Array;
  },
  selections: async (): Promise<NamedSelection[]> => (await ask("/api/selections")).json(),
  load: async (name: string): Promise<Int32Array> => {
    const message = unpack(await (await ask(selectionPath(name))).arrayBuffer());
    return message.arrays.rows as Int32Array;
  },
  save: async (name: string, rows: Int32Array): Promise<NamedSelection[]> =>
    (await ask(selectionPath(name), { method: "PUT", body: rows as BodyInit })).json(),
  remove: async (name: string): Promise<NamedSelection[]> => (await ask(selectionPath(name), { method: "DELETE" })).json(),
  export: async (name: string): Promise<string> =>
    (await (await ask(`${selectionPath(name)}/export`, { method: "POST" })).json()).path,
  columns: async (): Promise<{ columns: { name: string; title: string }[]; problem: string }> =>
    (await ask("/api/columns")).json(),
  column: async (name: string): Promise<Column> => {
    const { header, arrays } = unpack(await (await ask(`/api/columns/${encodeURIComponent(name)}`)).arrayBuffer());
    const { title, isClass, low, high } = header;
    return { title, isClass, low, high, values: arrays.values as Float32Array };
  },
  volume: async (state: State, minus: State | null): Promise<Blob> =>
    (await ask("/api/volume", { method: "POST", body: JSON.stringify({ state, minus }) })).blob(),
  directions: async (rows: Int32Array): Promise<Message> =>
    unpack(await (await ask("/api/directions", { method: "POST", body: rows as BodyInit })).arrayBuffer()),
  particles: async (rows: number[], state: State): Promise<Message> => {
    const body = JSON.stringify({ rows, state });
    return unpack(await (await ask("/api/particles", { method: "POST", body })).arrayBuffer());
  },
};
